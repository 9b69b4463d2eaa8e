"""Everything that a training run depends on, as one frozen record."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from topcoat.config import StrictModel
from topcoat.heads.registry import AnyHeadConfig
from topcoat.heads.unet import UNetConfig
from topcoat.training.discriminator import DiscriminatorConfig
from topcoat.training.losses import GradientKind

Weight = Annotated[float, Field(ge=0, le=1e6)]


class LossWeights(StrictModel):
    """Factor of each loss; 0 leaves it out. x: distilled, y: baseline, z: the head's output."""

    gradient_input: Weight = 0.0
    """GRAD(x, z): keeps the structure of the input (the paper's first term)."""
    gradient_input_kind: GradientKind = "forward"
    perceptual: Weight = 0.0
    """Perceptual distance of z and y (the paper's second term, LPIPS there)."""
    charbonnier: Weight = 0.0
    """Smooth L1 of z and y."""
    gradient_target: Weight = 0.0
    """GRAD(y, z), with signed forward differences."""
    low_frequency: Weight = 0.0
    """Colour and light of z and y."""
    focal_frequency: Weight = 0.0
    """Spectra of z and y."""
    adversarial: Weight = 0.0
    """Hinge loss against a patch discriminator that sees y and z."""

    @model_validator(mode="after")
    def _something_to_learn(self) -> LossWeights:
        if not any(self.named().values()):
            raise ValueError("every loss weight is 0; give at least one above 0")
        return self

    def named(self) -> dict[str, float]:
        """The weights by the name of their loss."""
        return {name: value for name, value in self.model_dump().items() if name != "gradient_input_kind"}


class TrainConfig(StrictModel):
    """A training run. Progress is counted in images seen, never in steps or epochs."""

    name: str = Field(min_length=1)
    head: AnyHeadConfig = UNetConfig()
    losses: LossWeights
    discriminator: DiscriminatorConfig = DiscriminatorConfig()

    images: int = Field(ge=1)
    """How many images the run sees, with repeats."""
    batch_size: int = Field(default=16, ge=1)
    crop_px: int | None = Field(default=96, ge=8)
    """Side of the random square that is cut from both halves of a pair; None takes whole images."""
    flip: bool = True
    """Mirror half of the pairs."""
    seed: int = Field(default=0, ge=0)

    learning_rate: float = Field(default=5e-4, gt=0, le=1)
    discriminator_learning_rate: float = Field(default=2e-4, gt=0, le=1)
    warmup_images: int = Field(default=2_000, ge=0)
    """The learning rate rises linearly over these, then falls along half a cosine to zero at ``images``."""
    adversarial_after_images: int = Field(default=0, ge=0)
    """The discriminator starts here, and its say over the head rises linearly over the next ``warmup_images``."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient."""
    ema_halflife_images: float = Field(default=5_000, gt=0)
    """The saved head averages the weights of the run with this half-life."""
    max_bad_steps: int = Field(default=20, ge=1)
    """So many steps in a row that are not finite end the run; single ones are skipped and counted."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """bfloat16 is autocast; weights, losses and optimisers stay float32. auto takes it where the hardware has it."""

    checkpoint_every_seconds: float = Field(default=120.0, ge=0)
    validate_every_images: int = Field(default=10_000, ge=1)
    validation_images: int = Field(default=64, ge=1)
    cache_mebibytes: int = Field(default=2_048, ge=0)
    """Decoded pairs are kept in memory if all of them fit in this."""

    @model_validator(mode="after")
    def _crop_fits_head(self) -> TrainConfig:
        multiple = self.head.size_multiple
        if self.crop_px is not None and self.crop_px % multiple:
            raise ValueError(f"crop_px is {self.crop_px}; give a multiple of {multiple}, which this head needs")
        return self

    def identity(self) -> dict[str, Any]:
        """What decides the trained weights: two runs with equal identities and data give the same head.

        Leaves out where it runs and how often it saves, so these may change between a stop and a resume.
        """
        operational = {"device", "checkpoint_every_seconds", "cache_mebibytes"}
        return self.model_dump(mode="json", exclude=operational)
