"""Training without pairs: two folders of unrelated pictures, and what the head takes from each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fake_pairs import FakeDataset, fake_pair
from tests.training.conftest import make_pair, resumed_exactly
from topcoat.errors import DataError, UsageError
from topcoat.features import FeatureNet
from topcoat.heads import Head, UNetConfig
from topcoat.images import write_image
from topcoat.pairs.importing import import_unrelated
from topcoat.training import TrainConfig, UnpairedObjective, train
from topcoat.training.adversarial import DiscriminatorConfig


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """24 dull pictures, and 30 sharp ones of other subjects and larger."""
    cheap, liked = tmp_path / "cheap", tmp_path / "liked"
    cheap.mkdir()
    liked.mkdir()
    for seed in range(24):
        write_image(cheap / f"{seed}.png", make_pair(seed).distilled)
    for seed in range(100, 130):
        write_image(liked / f"{seed}.png", make_pair(seed, 40, 60).baseline)
    return cheap, liked


def config(**changes: Any) -> TrainConfig:
    objective = UnpairedObjective(
        gradient_input=0.2,
        gradient_input_kind="low_passed",
        perceptual_input=0.1,
        spectrum=0.5,
        frechet=0.05,
        adversarial=0.01,
        discriminator=DiscriminatorConfig(base_channels=4, layers=2),
    )
    settings = TrainConfig(
        name="unpaired",
        head=UNetConfig(channels=(8, 16)),
        objective=objective,
        images=160,
        batch_size=4,
        crop_px=16,
        learning_rate=5e-3,
        warmup_images=16,
        ema_halflife_images=20,
        validate_every_images=80,
        device="cpu",
        precision="float32",
        tensorboard=False,
        wandb="off",
    )
    return settings.model_copy(update=changes)


def test_two_folders_become_sets_of_one_size_in_splits_that_share_no_picture(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    write_image(folders[1] / "small.png", torch.rand(3, 20, 40))
    dataset = import_unrelated(*folders, tmp_path / "sets")
    assert dataset.manifest.unrelated and {pair.distilled.shape for pair in dataset} == {(3, 24, 24)}
    assert {pair.baseline.shape for pair in dataset} == {(3, 24, 24)}
    assert all("is 40 x 20 px, too small for 24 x 24 px" in failure.error for failure in dataset.manifest.failures)
    assert {failure.id.split(" and ")[1] for failure in dataset.manifest.failures} == {"small.png"}
    seen: dict[str, set[bytes]] = {}
    for name in ("train", "val", "test"):
        part = dataset.split(name)
        seen[name] = {
            getattr(part[i], side).numpy().tobytes() for i in range(len(part)) for side in ("distilled", "baseline")
        }
    assert not (seen["train"] & seen["val"] or seen["train"] & seen["test"] or seen["val"] & seen["test"])


def test_the_same_folders_are_opened_again_and_others_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    first = import_unrelated(*folders, tmp_path / "sets")
    assert import_unrelated(*folders, tmp_path / "sets").digest == first.digest
    (folders[0] / "3.png").unlink()
    with pytest.raises(DataError, match="other pictures by now"):
        import_unrelated(*folders, tmp_path / "sets")


def test_a_run_that_needs_pairs_refuses_unrelated_pictures(folders: tuple[Path, Path], tmp_path: Path) -> None:
    dataset = import_unrelated(*folders, tmp_path / "sets")
    with pytest.raises(UsageError, match="paper-unet needs pairs"):
        train("paper-unet", dataset, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_validation_compares_sets_alone(folders: tuple[Path, Path], features: FeatureNet, tmp_path: Path) -> None:
    dataset = import_unrelated(*folders, tmp_path / "sets")
    assert len(dataset.split("val")) >= 2
    *_, last = train(config(images=8, validate_every_images=8), dataset, tmp_path / "run", features=features)
    assert last.validation is not None and last.validation.psnr_db is None and last.validation.perceptual is None
    assert last.validation.set_distance is not None
    assert Head.from_pretrained(tmp_path / "run").facts["figures"]["psnr_db"] is None


def test_it_learns_the_look_of_pictures_of_other_subjects(features: FeatureNet, tmp_path: Path) -> None:
    """Dull pictures and sharp ones of other subjects: the head's contrast comes near that of the sharp ones."""
    pairs = [fake_pair(make_pair(seed).distilled, make_pair(seed + 500).baseline) for seed in range(40)]
    held_out = torch.stack([make_pair(seed).distilled for seed in range(900, 916)])
    wanted = torch.stack([make_pair(seed).baseline for seed in range(900, 916)])
    settings = config(images=1_600)
    for _ in train(settings, FakeDataset(pairs), tmp_path / "run", features=features):
        pass
    with torch.no_grad():
        enhanced = Head.from_pretrained(tmp_path / "run")(held_out)
    before, after, goal = (float(images.diff(dim=-1).abs().mean()) for images in (held_out, enhanced, wanted))
    assert abs(after - goal) < 0.5 * abs(before - goal)
    # and each stays nearest to its own input
    distances = (enhanced[:, None] - held_out[None]).abs().mean(dim=(2, 3, 4))
    assert torch.equal(distances.argmin(dim=1), torch.arange(len(held_out)))


def test_a_stopped_run_goes_on_exactly(features: FeatureNet, tmp_path: Path) -> None:
    data = FakeDataset([fake_pair(make_pair(s).distilled, make_pair(s + 50).baseline) for s in range(12)])
    records = resumed_exactly(tmp_path, lambda folder: train(config(images=40), data, folder, features=features), 3, 4)
    assert {"perceptual_input", "spectrum", "adversarial"} <= records[-1].parts.keys()
