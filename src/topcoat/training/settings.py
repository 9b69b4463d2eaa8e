"""What the stages of every run have in common: the head, the data, the optimiser, and where it runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from topcoat.config import StrictModel
from topcoat.heads.kinds import AnyHeadConfig
from topcoat.heads.unet import UNetConfig

ScheduleKind = Literal["cosine", "constant-linear"]
WandbMode = Literal["off", "offline", "online"]
"""``offline`` writes files into the run's folder, which ``wandb sync`` uploads later; ``online`` uploads meanwhile."""

Weight = Annotated[float, Field(ge=0, le=1e6)]
"""Factor of a loss; 0 leaves it out."""


class Settings(StrictModel):
    """The settings of one stage, without its objective. Progress counts images seen, never steps or epochs."""

    name: str = Field(min_length=1)
    previous: Literal["start", "teacher"] | None = None
    """What the head of the stage before (or the one given to start from) is for: ``start`` goes on from it, ``teacher``
    learns what it makes of x in the place of y; None leaves it, or starts from it where the run begins here."""
    head: AnyHeadConfig = UNetConfig()

    images: int = Field(ge=1)
    """How many images the stage sees, with repeats."""
    batch_size: int = Field(default=16, ge=1)
    """Images of one optimiser step, over all processes."""
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    """A process computes its part of a batch in so many micro-batches: less memory, the same step."""
    crop_px: int | None = Field(default=96, ge=8)
    """Side of the random square that is cut from both halves of a pair; None takes whole images."""
    flip: bool = True
    """Mirror half of the images; not possible for latents, which do not mirror with their image."""
    seed: int = Field(default=0, ge=0)

    learning_rate: float = Field(default=5e-4, gt=0, le=1)
    discriminator_learning_rate: float = Field(default=2e-4, gt=0, le=1)
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.99)
    """Adam's."""
    schedule: ScheduleKind = "cosine"
    """After the warm-up: half a cosine to zero, or constant for half of the stage and then a line to zero."""
    warmup_images: int = Field(default=2_000, ge=0)
    """The learning rate rises linearly over these."""
    adversarial_after_images: int = Field(default=0, ge=0)
    """The discriminator starts here; the weight of its losses rises linearly over the next ``warmup_images``."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient."""
    ema_halflife_images: float = Field(default=5_000, gt=0)
    """The saved head averages the weights with this half-life."""
    grad_spike_factor: float = Field(default=1000.0, gt=1)
    """A step whose gradient is so many times as large as usual is skipped like one that is not finite."""
    max_bad_steps: int = Field(default=20, ge=1)
    """So many skipped steps in a row end the run; single ones are skipped and counted."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """The lower ones are autocast; weights, losses and optimisers stay float32. auto takes bfloat16 where the hardware
    has it; float16 scales its losses."""

    checkpoint_every_seconds: float = Field(default=120.0, ge=0)
    validate_every_images: int = Field(default=10_000, ge=1)
    validation_images: int = Field(default=64, ge=1)
    cache_mebibytes: int = Field(default=2_048, ge=0)
    """Decoded pairs are kept in memory if all of them fit in this."""
    tensorboard: bool = True
    """Write TensorBoard's files into the run's folder, where TensorBoard is installed."""
    wandb: WandbMode = "offline"
    """Weights & Biases, where it is installed: nothing, files in the run's folder, or uploaded as the run goes."""

    @model_validator(mode="after")
    def _crop_fits_head(self) -> Settings:
        multiple = self.head.size_multiple
        if self.crop_px is None:
            return self
        if self.crop_px % multiple:
            raise ValueError(f"crop_px is {self.crop_px}; give a multiple of {multiple}, which this head needs")
        if self.crop_px < self.head.smallest_px:
            raise ValueError(f"crop_px is {self.crop_px}; give at least {self.head.smallest_px}, which this head needs")
        return self

    @model_validator(mode="after")
    def _batch_splits(self) -> Settings:
        if self.batch_size % self.gradient_accumulation_steps:
            raise ValueError(
                f"batch_size is {self.batch_size}; give a multiple of gradient_accumulation_steps, which is "
                f"{self.gradient_accumulation_steps}"
            )
        return self

    @model_validator(mode="after")
    def _latents_do_not_mirror(self) -> Settings:
        if self.head.training_latents is not None and self.flip:
            raise ValueError(f"the head {self.head.name()} works on latents, which do not mirror; set flip to false")
        return self


OPERATIONAL = frozenset({"device", "checkpoint_every_seconds", "cache_mebibytes", "tensorboard", "wandb"})
"""Settings that decide no weights: where a stage runs and how often it saves."""
