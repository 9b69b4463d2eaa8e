"""Sizes, counts and paths of the mini pair: every number of the recipe that a person may want to change."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pydantic
import torch

from topcoat.config import StrictModel
from topcoat.training.distributed import resolved_precision

PROMPT_SEED = 20_250_502
"""Seed of the training prompts. Users sample with small seeds, so their prompts are not these."""

STUDY_IMAGES = {
    "paper-unet": (24_000,),
    "unet": (60_000, 15_000),
    "decoder": (60_000, 15_000),
    "paper-cyclegan": (12_000,),
    "paper-esa": (12_000,),
}
"""The study's runs in their order, with the images that each of their stages sees."""
LATENT_IMAGES = {"latent-unet": (20_000, 32_000)}
"""Those of the stage ``latent``, which a trained unet teaches."""


class Recipe(StrictModel):
    """The recipe's numbers; README.md in this folder has the stages that read them."""

    size_px: int = 128
    renders: int = 24_000
    feature_images: int = 120_000
    reader_images: int = 160_000

    autoencoder_encoder_channels: tuple[int, ...] = (3, 12, 48, 192)
    autoencoder_decoder_channels: tuple[int, ...] = (16, 24, 48, 96)
    autoencoder_decoder_blocks: tuple[int, ...] = (0, 1, 1, 2)
    autoencoder_images: int = 600_000
    autoencoder_adversarial_after: float = 0.4
    """Share of the images after which the discriminator joins in."""
    latent_noise: float = 0.05

    text_width: int = 128
    text_layers: int = 2
    text_tokens: int = 36
    text_prompts: int = 400_000

    heads: int = 4
    head_dim: int = 64
    double_blocks: int = 2
    single_blocks: int = 6
    batch_size: int = 64
    baseline_images: int = 4_000_000
    baseline_steps: int = 50
    ema_halflife_images: int = 40_000
    snapshot_images: int = 400_000
    """A copy of the baseline after so many images stays, to guide by (autoguidance)."""
    guidance_kind: Literal["classifier-free", "auto"] = "classifier-free"
    """Away from the baseline without a prompt, or from its earlier copy (`snapshot_images`)."""
    guidance: float = 2.0
    guidance_images: int = 12_000

    distilled_guidance: float = 5.0
    distilled_levels: int = 4
    distilled_steps: int = 2
    trajectories: int = 20_000
    trajectory_steps: int = 16
    distilled_images: int = 200_000

    check_subjects: int = 1_000

    study_pairs: int = 8_000
    study_subjects: int = 1_000
    study_images: dict[str, tuple[int, ...]] = pydantic.Field(default_factory=lambda: dict(STUDY_IMAGES))
    pair_batch_size: int = 16
    """Pairs painted at once in every study; a GPU wants 250."""
    latent_pairs: int = 3_000
    latent_images: dict[str, tuple[int, ...]] = pydantic.Field(default_factory=lambda: dict(LATENT_IMAGES))
    refiner_pairs: int = 2_500
    refiner_images: int = 32_000


def autocast(device: str) -> torch.autocast:
    """bfloat16 where ``device`` computes natively in it, single precision elsewhere, where bfloat16 is far slower."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=fast_dtype(device) == torch.bfloat16)


def fast_dtype(device: str | torch.device) -> torch.dtype:
    """What networks compute in on ``device``: bfloat16 where it is native, else single precision."""
    native = resolved_precision("auto", torch.device(device)) == "bfloat16"
    return torch.bfloat16 if native else torch.float32


class WorkFolder:
    """Where the stages keep what they make; every stage reads the folders of the stages before it.

    ``device`` is what the networks are trained on, ``cpu`` or ``cuda``; batches are drawn on the CPU, so it changes no
    draw.
    """

    def __init__(self, root: Path, device: str = "cpu") -> None:
        self.root = root
        self.device = device
        self.renders = root / "renders"
        self.features = root / "features"
        self.reader = root / "reader"
        self.autoencoder = root / "vae"
        self.text = root / "text"
        self.latents = root / "latents"
        self.baseline = root / "baseline"
        self.guided = root / "baseline" / "guided"
        self.distilled = root / "distilled"
        self.check = root / "check"
