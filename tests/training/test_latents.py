"""Training heads that decode latents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from tests.fake_pairs import FakeDataset, fake_pair
from tests.training.conftest import make_pair, resumed_exactly, state, tiny_vae, with_latents, without_validation
from topcoat.errors import DataError, UsageError
from topcoat.features import FeatureNet
from topcoat.generators.vae import Vae, VaeDecoder
from topcoat.heads import DecoderConfig, Head, LatentUNet, LatentUNetConfig
from topcoat.metrics.frechet import GaussianStatistics, frechet_distance
from topcoat.training import LatentObjective, PairedObjective, TrainConfig, train
from topcoat.training.data import Batch, Batches
from topcoat.training.decoded import CachedPairs
from topcoat.training.distributed import Processes
from topcoat.training.stage import starting_point


@pytest.fixture(scope="module")
def pairs() -> FakeDataset:
    made = [with_latents(make_pair(seed)) for seed in range(10)]
    return FakeDataset(made, [with_latents(make_pair(seed)) for seed in (100, 101, 102)])


@pytest.fixture(scope="module")
def latent_config() -> TrainConfig:
    return TrainConfig(
        name="latent",
        head=DecoderConfig(latent_channels=6, channels=(12, 8), blocks=(1, 1)),
        objective=PairedObjective(charbonnier=1.0, perceptual=0.1, gradient_input=0.1),
        images=300,
        batch_size=5,
        crop_px=16,
        flip=False,
        learning_rate=1e-2,
        warmup_images=10,
        ema_halflife_images=20,
        validation_images=3,
        device="cpu",
        precision="float32",
    )


def test_a_decoder_learns_to_beat_the_distilled_image(
    latent_config: TrainConfig, pairs: FakeDataset, features: FeatureNet, tmp_path: Path
):
    last = list(train(latent_config, pairs, tmp_path / "run", features=features))[-1]
    assert last.validation is not None
    assert (last.validation.psnr_db or 0) > (last.validation.no_head_psnr_db or 0)
    head = Head.from_pretrained(tmp_path / "run")
    latents = pairs.split("val")[0].latents
    assert latents is not None and head(latents[None]).shape == (1, 3, 24, 24)
    assert (tmp_path / "run" / "validation.png").is_file()


def test_stopped_and_resumed_is_the_uninterrupted_run(
    latent_config: TrainConfig, pairs: FakeDataset, features: FeatureNet, tmp_path: Path
):
    resumed_exactly(tmp_path, lambda folder: train(latent_config, pairs, folder, images=100, features=features), 10)


def test_cuts_lie_on_whole_latents(pairs: FakeDataset):
    source = Batches(CachedPairs(pairs, 100, 6), seed=0, crop_px=16, flip=False, size_multiple=4)
    batch = source.batch(0, 30)
    assert batch.latents is not None and batch.latents.shape == (30, 6, 4, 4)
    means = torch.nn.functional.avg_pool2d(batch.x, 4)
    torch.testing.assert_close(batch.latents[:, :3], means, atol=1e-4, rtol=0)
    micro_batches = batch.micro_batches(3)
    assert [len(micro_batch.x) for micro_batch in micro_batches] == [10, 10, 10]
    assert all(micro_batch.latents is not None for micro_batch in micro_batches)
    assert torch.equal(
        torch.cat([part.latents for part in micro_batches if part.latents is not None]),
        batch.latents,
    )


@pytest.mark.parametrize("cache_mebibytes", [0, 100])
def test_baseline_latents_are_made_of_whole_images_once_where_kept(pairs: FakeDataset, cache_mebibytes: int):
    encoded: list[torch.Tensor] = []

    def encode(image: torch.Tensor) -> torch.Tensor:
        encoded.append(image)
        return torch.nn.functional.avg_pool2d(image, 4).repeat(2, 1, 1)

    source = Batches(CachedPairs(pairs, cache_mebibytes, 6, encode), seed=0, crop_px=16, flip=False, size_multiple=4)
    batch = source.batch(0, 30)
    assert batch.targets is not None and batch.targets.shape == (30, 6, 4, 4)
    torch.testing.assert_close(batch.targets[:, :3], torch.nn.functional.avg_pool2d(batch.y, 4))
    assert all(image.shape == (3, 24, 24) for image in encoded)
    fewest = len(pairs)
    assert len(encoded) == fewest if cache_mebibytes else len(encoded) > fewest
    micro_batches = batch.micro_batches(3)
    assert torch.equal(
        torch.cat([part.targets for part in micro_batches if part.targets is not None]),
        batch.targets,
    )


def test_pairs_that_do_not_fit_are_named(latent_config: TrainConfig, features: FeatureNet, tmp_path: Path):
    plain = FakeDataset([make_pair(seed) for seed in range(10)])
    with pytest.raises(DataError, match="no latents"):
        train(latent_config, plain, tmp_path / "run", features=features)
    other = FakeDataset([replace(with_latents(make_pair(seed)), latents=torch.zeros(4, 6, 6)) for seed in range(10)])
    with pytest.raises(DataError, match=r"set head.latent_channels to 4"):
        train(latent_config, other, tmp_path / "run", features=features)
    assert not (tmp_path / "run").exists()
    coarse = [fake_pair(pair.distilled, pair.baseline, torch.zeros(6, 3, 3)) for pair in (make_pair(0), make_pair(1))]
    source = Batches(CachedPairs(FakeDataset(coarse), 100, 6), seed=0, crop_px=16, flip=False, size_multiple=4)
    with pytest.raises(DataError, match="3x3 latents"):
        source.batch(0, 1)


@pytest.fixture(scope="module")
def vae() -> Vae:
    return tiny_vae(latent_channels=6)


def test_a_latent_head_starts_from_the_vae_and_leaves_it_alone(
    latent_config: TrainConfig, vae: Vae, pairs: FakeDataset, features: FeatureNet, tmp_path: Path
):
    config = latent_config.model_copy(update={"head": LatentUNetConfig(channels=(8,)), "crop_px": None, "images": 100})
    with pytest.raises(UsageError, match="decodes with the distilled model's own VAE"):
        train(config, pairs, tmp_path / "run", features=features)
    records = list(train(config, pairs, tmp_path / "run", features=features, vae=vae))
    assert records[-1].loss < records[0].loss
    head = Head.from_pretrained(tmp_path / "run")
    assert isinstance(head.network, LatentUNet) and head.network.config.vae == vae.decoder.config
    for name, value in head.network.decoder.state_dict().items():
        assert torch.equal(value, vae.decoder.state_dict()[name])
    later = config.model_copy(update={"name": "later", "previous": "start"})
    with pytest.raises(UsageError, match="goes on from the head of the stage before"):
        train(later, pairs, tmp_path / "later", features=features, vae=vae)
    list(train(later, pairs, tmp_path / "later", images=20, features=features, init_from=head))
    assert Head.from_pretrained(tmp_path / "later").config == head.config


def test_a_latent_head_stopped_and_resumed_is_the_uninterrupted_run(
    latent_config: TrainConfig, vae: Vae, pairs: FakeDataset, features: FeatureNet, tmp_path: Path
):
    config = latent_config.model_copy(update={"head": LatentUNetConfig(channels=(8, 8)), "crop_px": None, "images": 40})
    resumed_exactly(tmp_path, lambda folder: train(config, pairs, folder, features=features, vae=vae), 4)


@pytest.fixture(scope="module")
def compared(latent_config: TrainConfig) -> TrainConfig:
    """A run that compares latents, with every loss that there is."""
    return latent_config.model_copy(
        update={
            "head": LatentUNetConfig(channels=(8, 8)),
            "objective": LatentObjective(discriminator_channels=4),
            "crop_px": None,
            "images": 60,
        }
    )


def test_latents_come_nearer_to_those_of_the_baseline(
    compared: TrainConfig, vae: Vae, pairs: FakeDataset, features: FeatureNet, tmp_path: Path
):
    plain = compared.model_copy(
        update={"objective": LatentObjective(spectrum=0.0, contrast=0.0, adversarial=0.0), "images": 300}
    )
    records = list(train(plain, pairs, tmp_path / "run", features=features, vae=vae))
    assert set(records[-1].parts) == {"l1"}
    assert records[-1].loss < 0.6 * records[0].loss
    head = Head.from_pretrained(tmp_path / "run")
    assert isinstance(head.network, LatentUNet)
    wanted, found, before = [], [], []
    for index in range(3):
        pair = pairs.split("val")[index]
        assert pair.latents is not None
        with torch.no_grad():
            wanted.append(vae.encoder(pair.baseline[None]))
            found.append(head.network.changed(pair.latents[None]))
        before.append(pair.latents[None])
    y, z, x = (torch.cat(parts) for parts in (wanted, found, before))
    assert float((z - y).abs().mean()) < float((x - y).abs().mean())
    assert head.facts["objective"] == {
        "kind": "latent",
        "l1": 1.0,
        "spectrum": 0.0,
        "contrast": 0.0,
        "adversarial": 0.0,
    }


def test_every_loss_of_latents_and_an_exact_resume(
    compared: TrainConfig, vae: Vae, pairs: FakeDataset, features: FeatureNet, tmp_path: Path
):
    records = resumed_exactly(tmp_path, lambda folder: train(compared, pairs, folder, features=features, vae=vae), 5)
    drawn = torch.rand(1)
    torch.manual_seed(999)  # as before the last of those runs
    assert torch.equal(drawn, torch.rand(1))  # which drew nothing from the caller's generator
    assert set(records[-1].parts) == {"l1", "spectrum", "contrast", "adversarial", "discriminator"}


@pytest.fixture(scope="module")
def transported(compared: TrainConfig) -> TrainConfig:
    """A run that compares latents one by one, and decoded as a set from image 70 on."""
    weights = LatentObjective(spectrum=0.0, contrast=0.0, adversarial=0.0, frechet=1.0)
    return compared.model_copy(update={"objective": weights, "images": 400})


def set_distance(folder: Path, vae: Vae, pairs: FakeDataset, features: FeatureNet) -> float:
    """Of the embeddings of a run's outputs and the baseline, both decoded from latents."""
    network = Head.from_pretrained(folder).network
    assert isinstance(network, LatentUNet)
    chosen = [pairs[index] for index in range(len(pairs))]
    x = torch.stack([pair.latents for pair in chosen if pair.latents is not None])
    with torch.no_grad():
        y = vae.encoder(torch.stack([pair.baseline for pair in chosen]))
        of_z, of_y = (features(network.decoder(latents)).embedding for latents in (network.changed(x), y))
    return frechet_distance(GaussianStatistics.of(of_y), GaussianStatistics.of(of_z))


def test_transport_brings_the_set_of_decoded_latents_nearer(
    transported: TrainConfig, vae: Vae, pairs: FakeDataset, features: FeatureNet, tmp_path: Path
):
    transported = transported.model_copy(update={"images": 800})  # after 400 a seed or a processor can decide
    records = list(train(transported, pairs, tmp_path / "with", features=features, vae=vae))
    started = [record.images_seen for record in records if "frechet" in record.parts]
    assert started == list(range(70, 801, 5))  # the moments are believed after 64 images, one per dimension
    plain = transported.model_copy(update={"objective": transported.objective.model_copy(update={"frechet": 0.0})})
    list(train(plain, pairs, tmp_path / "without", features=features, vae=vae))
    distances = [set_distance(tmp_path / name, vae, pairs, features) for name in ("with", "without")]
    assert distances[0] < 0.8 * distances[1]


def test_a_run_with_transport_between_latents_resumes_exactly(
    transported: TrainConfig, vae: Vae, pairs: FakeDataset, features: FeatureNet, tmp_path: Path
):
    config = transported.model_copy(update={"images": 120})
    steps = 10, 8  # while the moments are not believed yet, and after
    resumed_exactly(tmp_path, lambda folder: train(config, pairs, folder, features=features, vae=vae), *steps)
    assert "moments.mean_z" in state(tmp_path / "whole")


def test_a_skipped_step_of_latents_is_not_remembered(transported: TrainConfig, vae: Vae, features: FeatureNet):
    config, start = starting_point(transported, None, vae)
    assert start is not None
    trainer = config.objective.trainer(config, features, Processes("cpu", "float32"), start)
    good, bad = torch.zeros(5, 6, 6, 6), torch.full((5, 6, 6, 6), torch.nan)
    images = torch.zeros(5, 3, 24, 24)
    assert trainer.step(Batch(images, images, bad, good), 5).skipped
    assert trainer.tensors()["moments.images"] == 0
    assert not trainer.step(Batch(images, images, good, good + 1), 10).skipped
    assert trainer.tensors()["moments.images"] == 5


def test_nothing_is_decoded_where_no_loss_of_latents_asks(
    compared: TrainConfig,
    vae: Vae,
    pairs: FakeDataset,
    features: FeatureNet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    def decoded(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(VaeDecoder, "forward", decoded)
    records = list(train(compared, without_validation(pairs), tmp_path / "run", features=features, vae=vae))
    assert "frechet" not in records[-1].parts
    assert not any(name.startswith("moments.") for name in state(tmp_path / "run"))


def test_accumulated_micro_batches_are_one_step_of_latents(
    compared: TrainConfig, vae: Vae, pairs: FakeDataset, features: FeatureNet, tmp_path: Path
):
    simple = compared.model_copy(
        update={"objective": LatentObjective(spectrum=0.0, contrast=0.0, adversarial=0.0), "images": 5}
    )
    heads = []
    for micro_batches in (1, 5):
        config = simple.model_copy(update={"gradient_accumulation_steps": micro_batches})
        list(train(config, pairs, tmp_path / str(micro_batches), features=features, vae=vae))
        heads.append(load_file(tmp_path / str(micro_batches) / "model.safetensors"))
    for name, value in heads[0].items():
        torch.testing.assert_close(value, heads[1][name], atol=2e-4, rtol=1e-3)


def test_runs_on_latents_that_cannot_be(compared: TrainConfig, pairs: FakeDataset, tmp_path: Path):
    with pytest.raises(UsageError, match="which the distilled model's VAE makes of baseline images"):
        train(compared, pairs, tmp_path / "run")
    for change, words in (
        ({"objective": {"kind": "latent", "l1": 0.0}}, "l1 of objective is 0"),
        ({"objective": {"kind": "latent", "charbonnier": 1.0}}, "charbonnier"),
        ({"head": {"kind": "decoder"}}, "not decoder"),
    ):
        with pytest.raises(ValidationError, match=words):
            TrainConfig.model_validate({**compared.model_dump(), **change})
    assert not (tmp_path / "run").exists()
