"""The named runs. A run is a function that returns its settings: read them here, change them with `model_copy`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from topcoat.config import SUFFIXES, load_config
from topcoat.errors import UsageError
from topcoat.heads.unet import UNetConfig
from topcoat.training.config import LossWeights, TrainConfig
from topcoat.training.discriminator import DiscriminatorConfig


def paper_unet() -> TrainConfig:
    """The paired head of arXiv 2505.02255: exactly GRAD(x, z) + perceptual(y, z), both with weight 1.

    The paper's perceptual term is LPIPS with a pretrained network; here it is topcoat's own feature net for losses.
    """
    return TrainConfig(name="paper-unet", losses=LossWeights(gradient_input=1.0, perceptual=1.0), images=200_000)


def best_unet() -> TrainConfig:
    """The paper's two terms, and three that it lacks: smooth L1 and gradients against y, and a patch adversary.

    GRAD(x, z) is low-passed: with all gradients of x it also punishes the new fine detail that the head is to add.
    """
    losses = LossWeights(
        gradient_input=0.25,
        gradient_input_kind="low_passed",
        perceptual=1.0,
        charbonnier=1.0,
        gradient_target=1.0,
        adversarial=0.01,
    )
    return TrainConfig(name="best-unet", losses=losses, images=200_000, adversarial_after_images=20_000)


def debug() -> TrainConfig:
    """A tiny run of seconds that uses every loss: for trying a set-up, not for a useful head."""
    losses = LossWeights(
        gradient_input=0.1,
        perceptual=1.0,
        charbonnier=1.0,
        gradient_target=1.0,
        low_frequency=1.0,
        focal_frequency=1.0,
        adversarial=0.01,
    )
    return TrainConfig(
        name="debug",
        head=UNetConfig(channels=(8, 16)),
        losses=losses,
        discriminator=DiscriminatorConfig(base_channels=4, layers=2),
        images=128,
        batch_size=4,
        crop_px=32,
        learning_rate=1e-3,
        warmup_images=16,
        ema_halflife_images=32,
        validate_every_images=64,
        validation_images=8,
    )


RUNS: Mapping[str, Callable[[], TrainConfig]] = {
    "unet": best_unet,
    "best-unet": best_unet,
    "paper-unet": paper_unet,
    "debug": debug,
}


def run_config(run: str | TrainConfig) -> TrainConfig:
    """The settings of a named run, of a YAML, TOML or JSON file, or those given; `UsageError` for an unknown name."""
    if isinstance(run, TrainConfig):
        return run
    if run in RUNS:
        return RUNS[run]()
    if Path(run).suffix.lower() in SUFFIXES:
        return load_config(Path(run), TrainConfig)
    raise UsageError(f"there is no run named {run!r}; use one of {', '.join(sorted(RUNS))}, or a settings file")
