from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.fake_pairs import FakeDataset, fake_pair
from tests.training.conftest import make_pair, resumed_exactly, state
from topcoat.features import FeatureNet
from topcoat.heads import CycleGANConfig, ESACycleGANConfig, Head
from topcoat.training import CycleObjective, TrainConfig, train
from topcoat.training.data import Batches
from topcoat.training.decoded import CachedPairs
from topcoat.training.distributed import Processes
from topcoat.training.objectives.cycle import CycleTrainer, ImagePool


@pytest.fixture(scope="module")
def cycle_config() -> TrainConfig:
    return TrainConfig(
        name="cycle",
        head=CycleGANConfig(base_channels=2, blocks=1),
        objective=CycleObjective(pool_images=5, discriminator_channels=2),
        images=80,
        batch_size=2,
        crop_px=None,
        learning_rate=1e-3,
        betas=(0.5, 0.999),
        schedule="constant-linear",
        warmup_images=0,
        ema_halflife_images=10,
        validate_every_images=40,
        validation_images=3,
        device="cpu",
        precision="float32",
    )


@pytest.fixture(scope="module")
def pairs() -> FakeDataset:
    return FakeDataset([make_pair(seed, 32, 32) for seed in range(6)], [make_pair(seed, 32, 32) for seed in (90, 91)])


def cycle_trainer(config: TrainConfig) -> CycleTrainer:
    return CycleTrainer(config, FeatureNet.tiny(seed=0), Processes("cpu", "float32"))


def unpaired(pairs: FakeDataset, crop_px: int | None = None) -> Batches:
    return Batches(CachedPairs(pairs, 10), paired=False, seed=0, crop_px=crop_px, flip=True, size_multiple=4)


def copied(trainer: CycleTrainer) -> dict[str, Tensor]:
    """Its state; `tensors` shares memory with it."""
    return {name: value.clone() for name, value in trainer.tensors().items()}


def test_stopped_and_resumed_is_the_uninterrupted_run(
    cycle_config: TrainConfig, pairs: FakeDataset, features: FeatureNet, tmp_path: Path
):
    """Bit for bit: both generators and discriminators, average, optimisers, pools, data order and records."""
    records = resumed_exactly(tmp_path, lambda folder: train(cycle_config, pairs, folder, features=features), 20)
    assert len(records) == 40 and all(math.isfinite(record.loss) for record in records)
    found = state(tmp_path / "parts")
    names = {name.split(".")[0] for name in found}
    assert names == {"generators", "discriminators", "ema", "optimizer", "guard", "pool"}
    assert found["pool.forth"].shape == (1, 5, 3, 32, 32)  # processes, images
    for name in ("model.safetensors", "README.md", "config.json", "validation.png"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes(), name
    assert Head.from_pretrained(tmp_path / "parts").facts["objective"] == {
        "kind": "cycle",
        "adversarial": 1.0,
        "cycle": 10.0,
        "identity": 5.0,
        "pool_images": 5,
        "discriminator_channels": 2,
    }


def test_the_head_moves_towards_the_other_side(pairs: FakeDataset, features: FeatureNet, tmp_path: Path):
    """With identity and cycle losses alone the way there and back keeps an image better and better."""
    config = TrainConfig(
        name="cycle",
        head=CycleGANConfig(base_channels=4, blocks=1, upsampling="resize"),
        objective=CycleObjective(adversarial=0.0),
        images=160,
        batch_size=2,
        crop_px=32,
        learning_rate=5e-3,
        warmup_images=0,
        device="cpu",
        precision="float32",
    )
    records = list(train(config, pairs, tmp_path / "run", features=features))
    assert set(records[0].parts) == {"cycle", "identity"}
    early, late = (sum(r.parts["cycle"] for r in part) / 10 for part in (records[:10], records[-10:]))
    assert late < 0.7 * early


def test_losses_are_the_authors(cycle_config: TrainConfig, pairs: FakeDataset):
    """One step's losses, computed again from the trainer's own networks."""
    batch = unpaired(pairs).batch(0, 2)
    trainer = cycle_trainer(cycle_config)
    weights = copied(trainer)
    other = cycle_trainer(cycle_config)
    result = trainer.step(batch, 2)
    other.load_tensors(weights)
    forth, back, judges = other._forth, other._back, other._discriminators
    with torch.no_grad():
        x, y = batch.x * 2 - 1, batch.y * 2 - 1  # the authors' range
        z, w = (forth.translate(batch.x) * 2 - 1, back.translate(batch.y) * 2 - 1)  # type: ignore[operator]

        def paint(network: torch.nn.Module, images: Tensor) -> Tensor:
            return network.translate((images + 1) / 2) * 2 - 1  # type: ignore[operator]

        def judge(name: str, images: Tensor) -> Tensor:
            return judges[name]((images + 1) / 2)

        cycle = (paint(back, z) - x).abs().mean() + (paint(forth, w) - y).abs().mean()
        identity = (paint(forth, y) - y).abs().mean() + (paint(back, x) - x).abs().mean()
        adversary = (judge("forth", z) - 1).square().mean() + (judge("back", w) - 1).square().mean()
        discriminator = sum(
            ((judge(name, real) - 1).square().mean() + judge(name, fake).square().mean()) / 2
            for name, real, fake in (("forth", y, z), ("back", x, w))
        )
    expected = {"cycle": cycle, "identity": identity, "adversarial": adversary, "discriminator": discriminator}
    for name, value in expected.items():
        assert result.parts[name] == pytest.approx(float(value), rel=1e-4), name
    assert result.loss == pytest.approx(float(adversary + 10 * cycle + 5 * identity), rel=1e-4)


def test_esa_heads_train_too(features: FeatureNet, tmp_path: Path):
    pairs = FakeDataset([make_pair(seed, 64, 64) for seed in range(2)])
    config = TrainConfig(
        name="esa",
        head=ESACycleGANConfig(base_channels=2, blocks=1),
        objective=CycleObjective(discriminator_channels=2),
        images=2,
        batch_size=1,
        crop_px=60,
        device="cpu",
    )
    records = list(train(config, pairs, tmp_path / "run", features=features))
    assert len(records) == 2 and math.isfinite(records[-1].loss)
    assert Head.from_pretrained(tmp_path / "run").kind == "esa-cyclegan"


def test_a_bad_step_leaves_pool_and_weights_alone(cycle_config: TrainConfig, pairs: FakeDataset):
    batches = unpaired(pairs)
    trainer = cycle_trainer(cycle_config)
    assert not trainer.step(batches.batch(0, 2), 2).skipped
    before = copied(trainer)
    bad = batches.batch(2, 2)
    assert trainer.step(replace(bad, x=bad.x * float("nan")), 4).skipped
    after = copied(trainer)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_a_pool_of_other_processes_is_refused(cycle_config: TrainConfig, pairs: FakeDataset):
    trainer = cycle_trainer(cycle_config)
    batch = unpaired(pairs).batch(0, 2)
    trainer.step(batch, 2)
    tensors = trainer.tensors()
    tensors["pool.forth"] = tensors["pool.forth"].repeat(2, 1, 1, 1, 1)
    with pytest.raises(ValueError, match="2 processes"):
        trainer.load_tensors(tensors)


def test_sides_are_drawn_apart():
    def images(scale: int) -> list[Tensor]:
        return [torch.full((3, 8, 8), scale * index / 255) for index in range(20)]

    pairs = FakeDataset([fake_pair(x, y) for x, y in zip(images(1), images(2), strict=True)])
    source = unpaired(pairs, 4)
    batch = source.batch(0, 40)
    x = (batch.x[:, 0, 0, 0] * 255).round().int().tolist()
    y = [value // 2 for value in (batch.y[:, 0, 0, 0] * 255).round().int().tolist()]
    assert sorted(x[:20]) == sorted(x[20:]) == sorted(y[:20]) == list(range(20))
    assert sum(a == b for a, b in zip(x, y, strict=True)) < 10
    fresh = unpaired(pairs, 4).batch(13, 5)
    assert torch.equal(fresh.x, batch.x[13:18]) and torch.equal(fresh.y, batch.y[13:18])


def test_sides_are_cut_and_mirrored_apart():
    ramp = torch.arange(64).repeat(1, 1)[None].repeat(3, 64, 1) / 255
    pairs = FakeDataset([fake_pair(ramp, ramp)])
    batch = unpaired(pairs, 16).batch(0, 200)
    mirrored = [(side[:, 0, 0, 0] > side[:, 0, 0, 1]) for side in (batch.x, batch.y)]
    assert 60 < int((mirrored[0] == mirrored[1]).sum()) < 140
    assert not torch.equal(batch.x.amin((1, 2, 3)), batch.y.amin((1, 2, 3)))


def numbered(numbers: range) -> Tensor:
    return torch.tensor(list(numbers)).float()[:, None, None, None].expand(-1, 3, 2, 2)


def test_the_pool_fills_then_gives_half_of_the_time_an_older_image():
    pool = ImagePool(50, seed=0, stream=10)
    assert torch.equal(pool.exchange(numbered(range(50)), 0), numbered(range(50)))
    shown = pool.exchange(numbered(range(50, 1050)), 50)[:, 0, 0, 0]
    own = shown == torch.arange(50, 1050)
    assert 440 < int(own.sum()) < 560
    assert bool((shown[~own] < torch.arange(50, 1050)[~own]).all())
    assert len(pool.images) == 50
    # what was given back in exchange for a newer image is no longer kept
    assert not set(shown[~own].tolist()) & {float(image[0, 0, 0]) for image in pool.images}


def test_the_pool_depends_on_the_image_number_alone():
    whole, parts = ImagePool(3, seed=1, stream=10), ImagePool(3, seed=1, stream=10)
    expected = whole.exchange(numbered(range(20)), 0)
    first = parts.exchange(numbered(range(9)), 0)
    resumed = ImagePool(3, seed=1, stream=10)
    resumed.restore(parts.images)
    assert torch.equal(torch.cat([first, resumed.exchange(numbered(range(9, 20)), 9)]), expected)
    other = ImagePool(3, seed=2, stream=10).exchange(numbered(range(20)), 0)
    assert not torch.equal(other, expected)
    assert torch.equal(ImagePool(0, seed=0, stream=0).exchange(numbered(range(4)), 0), numbered(range(4)))
