"""Everything that a training run depends on, as one frozen record."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from topcoat.config import StrictModel
from topcoat.heads.kinds import AnyHeadConfig
from topcoat.heads.unet import UNetConfig
from topcoat.training.discriminator import SMALLEST_PX_70, DiscriminatorConfig
from topcoat.training.losses import GradientKind
from topcoat.training.schedule import ScheduleKind
from topcoat.training.tracking import WandbMode

Weight = Annotated[float, Field(ge=0, le=1e6)]


class LossWeights(StrictModel):
    """Factor of each loss of paired training; 0 leaves it out. x: distilled, y: baseline, z: the head's output."""

    gradient_input: Weight = 0.0
    """GRAD(x, z): keeps the structure of the input (the paper's first term)."""
    gradient_input_kind: GradientKind = "forward"
    perceptual: Weight = 0.0
    """Perceptual distance of z and y (the paper's second term, LPIPS there)."""
    perceptual_net: Literal["embedded", "lpips-vgg", "dinov2"] = "embedded"
    """``embedded`` is topcoat's own net for losses; the others need their packages and weights."""
    charbonnier: Weight = 0.0
    """Smooth L1 of z and y."""
    gradient_target: Weight = 0.0
    """GRAD(y, z)."""
    gradient_target_kind: GradientKind = "forward"
    low_frequency: Weight = 0.0
    """Colour and light of z and y."""
    colour_input: Weight = 0.0
    """Colour-safe: colour and light of z and x, so that the head keeps those of the distilled image."""
    focal_frequency: Weight = 0.0
    """Spectra of z and y, pixel by pixel."""
    spectrum: Weight = 0.0
    """Mean power of z and y by frequency: neither softer than the baseline nor with a texture of its own."""
    transport: Weight = 0.0
    """The set of outputs towards the set of baseline images, in the embedding of the loss net (Fréchet distance)."""
    adversarial: Weight = 0.0
    """Against the discriminator, which sees y and z."""
    feature_matching: Weight = 0.0
    """The discriminator's own features of z and y."""

    def named(self) -> dict[str, float]:
        """The weights by the name of their loss."""
        return {name: value for name, value in self.model_dump().items() if not name.endswith(("_kind", "_net"))}


class CycleConfig(StrictModel):
    """Unpaired training as CycleGAN does it (arXiv 1703.10593): a way forth, a way back, a discriminator for each."""

    cycle: Weight = 10.0
    """L1 of an image and what comes back after both ways."""
    identity: Weight = 5.0
    """L1 of an image of the target side and what the head makes of it."""
    adversarial: Weight = 1.0
    """Least squares, against a 70x70 PatchGAN."""
    pool_images: int = Field(default=50, ge=0, le=10_000)
    """The discriminators see one of so many earlier outputs as often as a new one (arXiv 1612.07828); 0: only new."""
    discriminator_channels: int = Field(default=64, ge=1, le=512)


class LatentConfig(StrictModel):
    """Training of a head that changes latents, by comparing latents: its own and those of the baseline image.

    Nothing is decoded, so a step costs a fraction of one on images; ``transport`` alone decodes both.
    """

    l1: Weight = 1.0
    """L1 of both latents."""
    spectrum: Weight = 0.1
    """Mean power of both latents by channel and frequency: L1 alone gives the mean of all that might be, which is too
    smooth."""
    contrast: Weight = 0.3
    """How flat and how crisp places are, over all places: what is faint in latents is plain to see on a background."""
    transport: Weight = 0.0
    """The set of outputs towards the set of baseline images, both decoded by the head's own decoder, in the embedding
    of the loss net (Fréchet distance)."""
    adversarial: Weight = 0.15
    """Hinge, against a discriminator of latents: by place and as a whole."""
    discriminator_channels: int = Field(default=64, ge=1, le=512)


class TrainConfig(StrictModel):
    """A training run. Progress is counted in images seen, never in steps or epochs."""

    name: str = Field(min_length=1)
    starts_from: str | None = None
    """A run that goes on from the head of another one: that run's name; such a head must be given to `train`."""
    teacher: str | None = None
    """A run that learns what the head of another one makes of x, instead of y: that run's name, as above."""
    head: AnyHeadConfig = UNetConfig()
    losses: LossWeights = LossWeights()
    """Of paired training."""
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    """Of paired training, where ``losses`` has an adversary."""
    cycle: CycleConfig | None = None
    """Trains unpaired instead: x and y of a step are of different subjects, with crops and flips of their own."""

    latent: LatentConfig | None = None
    """Trains a head that changes latents on latents instead of images."""

    images: int = Field(ge=1)
    """How many images the run sees, with repeats."""
    batch_size: int = Field(default=16, ge=1)
    """Images of one optimiser step, over all processes."""
    accumulate: int = Field(default=1, ge=1)
    """A process takes its part of a batch in so many pieces: less memory, the same step."""
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
    """After the warm-up: half a cosine to zero, or constant for half of the run and then a line to zero."""
    warmup_images: int = Field(default=2_000, ge=0)
    """The learning rate rises linearly over these."""
    adversarial_after_images: int = Field(default=0, ge=0)
    """The discriminator starts here, and its say over the head rises linearly over the next ``warmup_images``."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient."""
    ema_halflife_images: float = Field(default=5_000, gt=0)
    """The saved head averages the weights of the run with this half-life."""
    explosion: float = Field(default=1000.0, gt=1)
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

    @property
    def takes_latents(self) -> bool:
        """Whether the head decodes latents."""
        return self.head.input == "latent"

    @model_validator(mode="after")
    def _something_to_learn(self) -> TrainConfig:
        weights = self.losses.named()
        if self.cycle is None and self.latent is None and not any(weights.values()):
            raise ValueError("every loss weight is 0; give losses at least one above 0, or cycle for unpaired training")
        if self.latent is not None and (self.cycle is not None or any(weights.values())):
            raise ValueError("latent compares latents, losses and cycle compare images; leave the others out")
        if self.latent is not None and not self.latent.l1:
            raise ValueError("l1 of latent is 0, which is all that ties an output to its own image; give it above 0")
        if self.latent is not None and self.head.name() not in ("latent-unet", "refiner"):
            raise ValueError(f"latent trains heads that change latents, not {self.head.name()}; use losses instead")
        if self.latent is None and self.head.name() == "refiner":
            raise ValueError("a refiner is trained on latents alone; give latent in place of losses and cycle")
        if self.cycle is not None and any(weights.values()):
            raise ValueError("losses are for paired training and cycle is for unpaired; leave one of them out")
        if self.cycle is not None and not (self.cycle.cycle or self.cycle.identity or self.cycle.adversarial):
            raise ValueError("every weight of cycle is 0; give at least one above 0")
        if weights["feature_matching"] and not weights["adversarial"]:
            raise ValueError("feature_matching needs a discriminator; give adversarial a weight above 0 too")
        return self

    @model_validator(mode="after")
    def _latents_are_paired(self) -> TrainConfig:
        if self.takes_latents and self.cycle is not None:
            raise ValueError(
                f"the head {self.head.name()} decodes latents, which cycle cannot train; give losses instead"
            )
        if (self.takes_latents or self.latent is not None) and self.flip:
            raise ValueError(f"the head {self.head.name()} works on latents, which do not mirror; set flip to false")
        return self

    @model_validator(mode="after")
    def _crop_fits_head(self) -> TrainConfig:
        multiple = self.head.size_multiple
        if self.crop_px is None:
            return self
        if self.crop_px % multiple:
            raise ValueError(f"crop_px is {self.crop_px}; give a multiple of {multiple}, which this head needs")
        if self.crop_px < self.head.smallest_px:
            raise ValueError(f"crop_px is {self.crop_px}; give at least {self.head.smallest_px}, which this head needs")
        return self

    @model_validator(mode="after")
    def _crop_fits_discriminator(self) -> TrainConfig:
        if self.cycle is not None and self.crop_px is not None and self.crop_px < SMALLEST_PX_70:
            raise ValueError(
                f"crop_px is {self.crop_px}; give at least {SMALLEST_PX_70}, which the discriminators of cycle need"
            )
        return self

    @model_validator(mode="after")
    def _batch_splits(self) -> TrainConfig:
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size is {self.batch_size}; give a multiple of accumulate, which is {self.accumulate}"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """What decides the trained weights: two runs with equal identities and data give the same head.

        Leaves out where it runs and how often it saves, so these may change between a stop and a resume.
        """
        operational = {"device", "checkpoint_every_seconds", "cache_mebibytes", "tensorboard", "wandb"}
        found = self.model_dump(mode="json", exclude=operational)
        # What a later version added counts only where it is used, so that runs of an older one can go on.
        for name in ("starts_from", "teacher", "latent"):
            if found[name] is None:
                del found[name]
        for name in ("transport", "spectrum"):
            if not found["losses"][name]:
                del found["losses"][name]
        if self.latent is not None and not self.latent.transport:
            del found["latent"]["transport"]
        return found
