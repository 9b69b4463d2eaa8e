"""A small dataset with a difference that can be learned, and settings whose runs take a second."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from tests.fake_pairs import FakeDataset, fake_pair
from tests.heads.vaes import TINY_VAE
from topcoat.features import FeatureNet
from topcoat.generators.vae import Vae
from topcoat.heads import UNetConfig
from topcoat.pairs.dataset import Pair
from topcoat.training import PairedObjective, TrainConfig, TrainRecord, frechet_loss
from topcoat.training.adversarial import DiscriminatorConfig


def make_pair(seed: int, height_px: int = 24, width_px: int = 24) -> Pair:
    """A colourful picture with texture, and a duller, softer copy of it."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 6, generator=random)
    sharp = F.interpolate(coarse, (height_px, width_px), mode="bicubic")
    sharp = (sharp + 0.03 * torch.randn(sharp.shape, generator=random)).clamp(0, 1)
    dull = F.avg_pool2d(F.pad(sharp, (1, 1, 1, 1), mode="reflect"), 3, stride=1) * 0.6 + 0.05
    return fake_pair(*(image[0].mul(255).round().div(255) for image in (dull, sharp)))


def with_latents(pair: Pair, scale: int = 4) -> Pair:
    """The same pair with latents of 6 channels: means and spreads of the distilled image's squares."""
    cells = F.pixel_unshuffle(pair.distilled[None], scale)[0].unflatten(0, (3, -1))  # (3, s s, h, w)
    return fake_pair(pair.distilled, pair.baseline, torch.cat([cells.mean(1), cells.std(1)]))


def state(folder: Path) -> dict[str, Tensor]:
    """All that a run would go on with."""
    return load_file(folder / "checkpoints" / "last.safetensors")


def assert_same_state(one: Path, other: Path) -> dict[str, Tensor]:
    """Two runs would go on alike, bit for bit; gives what with."""
    expected, actual = state(one), state(other)
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        assert torch.equal(value, actual[name]), name
    return expected


def timeless(records: Iterable[TrainRecord]) -> list[TrainRecord]:
    return [replace(record, images_per_second=0.0) for record in records]


def resumed_exactly(
    folder: Path, run: Callable[[Path], Generator[TrainRecord, None, None]], *steps: int
) -> list[TrainRecord]:
    """Train at once and with stops after so many steps each: records and all state are equal. Gives the records."""
    records = list(run(folder / "whole"))
    parts: list[TrainRecord] = []
    for count in steps:
        begun = run(folder / "parts")
        parts += islice(begun, count)
        begun.close()
        torch.manual_seed(999)  # what other code does in between must not matter
    parts += run(folder / "parts")
    assert timeless(parts) == timeless(records)
    assert_same_state(folder / "whole", folder / "parts")
    return records


def tiny_vae(latent_channels: int = 4) -> Vae:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Vae.of(AutoencoderKL.from_config({**TINY_VAE, "latent_channels": latent_channels}))


def without_validation(dataset: FakeDataset) -> FakeDataset:
    return FakeDataset([dataset[index] for index in range(len(dataset))])


@pytest.fixture(scope="session", autouse=True)
def set_loss_starts_soon() -> Iterator[None]:
    """The set loss starts after as many images as the tiny net's embedding has dimensions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frechet_loss, "FEWEST_PER_DIMENSION", 1)
        yield


@pytest.fixture(scope="session")
def dataset() -> FakeDataset:
    return FakeDataset([make_pair(seed) for seed in range(10)], [make_pair(seed) for seed in range(100, 103)])


@pytest.fixture(scope="session")
def features() -> FeatureNet:
    return FeatureNet.tiny(seed=0)


@pytest.fixture(scope="session")
def config() -> TrainConfig:
    """40 steps that use every part: adversary from image 40 on, EMA, warm-up, validation."""
    return TrainConfig(
        name="test",
        head=UNetConfig(channels=(4, 8)),
        objective=PairedObjective(
            gradient_input=0.1,
            perceptual=0.5,
            charbonnier=1.0,
            gradient_target=1.0,
            low_frequency=1.0,
            focal_frequency=1.0,
            frechet=0.05,
            spectrum=0.05,
            adversarial=0.01,
            feature_matching=0.01,
            discriminator=DiscriminatorConfig(looks_at="both", base_channels=4, layers=2, r1=0.1, r1_every_steps=3),
        ),
        images=120,
        batch_size=3,
        crop_px=16,
        learning_rate=1e-2,
        warmup_images=12,
        adversarial_after_images=40,
        ema_halflife_images=20,
        validate_every_images=45,
        validation_images=3,
        device="cpu",
        precision="float32",
    )
