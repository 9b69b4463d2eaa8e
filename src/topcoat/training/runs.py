"""The named runs. A run is a function that returns its settings: read them here, change them with `with_settings`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from topcoat.config import SUFFIXES, parse_config, read_mapping
from topcoat.errors import UsageError
from topcoat.heads.decoder import DecoderConfig
from topcoat.heads.latent_unet import LatentUNetConfig
from topcoat.heads.network import HeadConfig
from topcoat.heads.refiner import RefinerConfig
from topcoat.heads.resnet import CycleGANConfig, ESACycleGANConfig
from topcoat.heads.unet import UNetConfig
from topcoat.training.adversarial import DiscriminatorConfig
from topcoat.training.config import RunConfig, TrainConfig
from topcoat.training.objectives import CycleObjective, LatentObjective, PairedObjective, UnpairedObjective


def paper_unet() -> RunConfig:
    """The paired head of arXiv 2505.02255: exactly GRAD(x, z) + perceptual(y, z), both with weight 1.

    The paper's perceptual term is LPIPS with a pretrained network; here it is topcoat's own feature net for losses,
    unless ``objective.perceptual_net`` says ``lpips-vgg``.
    """
    objective = PairedObjective(gradient_input=1.0, perceptual=1.0)
    return RunConfig.of(TrainConfig(name="paper-unet", objective=objective, images=200_000))


def paper_cyclegan() -> RunConfig:
    """CycleGAN with the settings of its authors (arXiv 1703.10593): 11.38 M parameters, unpaired, batch of one.

    For a GPU. On a CPU take a narrower one: ``head.base_channels=16`` and ``objective.discriminator_channels=16``.
    """
    return _cyclegan("paper-cyclegan", CycleGANConfig())


def paper_esa() -> RunConfig:
    """`paper_cyclegan` with an ESA block in every residual branch, as arXiv 2505.02255 describes its third head."""
    return _cyclegan("paper-esa", ESACycleGANConfig())


def _cyclegan(name: str, head: HeadConfig) -> RunConfig:
    return RunConfig.of(
        TrainConfig(
            name=name,
            head=head,
            objective=CycleObjective(),
            images=200_000,
            batch_size=1,
            learning_rate=2e-4,
            discriminator_learning_rate=2e-4,
            betas=(0.5, 0.999),
            schedule="constant-linear",
            warmup_images=0,
            clip_norm=1e6,  # the authors do not clip
        )
    )


def unet() -> RunConfig:
    """The strongest head for a small budget: stage ``crops``, then ``whole``.

    ``crops`` has the paper's two terms, and an adversary that sees pixels and features. GRAD(x, z) is low-passed: with
    all gradients of x it also punishes the new fine detail that the head is to add. Pairs do not agree pixel by pixel,
    so L1 against y would blur; the colour and light of y, its gradients over several scales and its features hold the
    image. ``whole`` goes on with whole images and the losses of sets: ``frechet`` moves the Fréchet distance, and
    ``spectrum`` sees the faint texture that up-sampling leaves at the highest frequencies.
    """
    first = _crops()
    return RunConfig(name="unet", stages=(first, _whole(first, learning_rate=3e-4)))


def _crops() -> TrainConfig:
    return TrainConfig(
        name="crops",
        objective=PairedObjective(
            gradient_input=0.1,
            gradient_input_kind="low_passed",
            perceptual=1.0,
            charbonnier=0.25,
            gradient_target=0.25,
            gradient_target_kind="multi_scale",
            low_frequency=1.0,
            adversarial=0.05,
            feature_matching=0.1,
            discriminator=DiscriminatorConfig(looks_at="both", base_channels=24),
        ),
        images=200_000,
        discriminator_learning_rate=5e-4,
        adversarial_after_images=5_000,
        validation_images=256,
    )


def _whole(first: TrainConfig, learning_rate: float) -> TrainConfig:
    return first.model_copy(
        update={
            "name": "whole",
            "previous": "start",
            "objective": first.objective.model_copy(update={"frechet": 10.0, "spectrum": 0.2}),
            "images": 20_000,
            "crop_px": None,
            "learning_rate": learning_rate,
            "warmup_images": 500,
            "adversarial_after_images": 0,
        }
    )


def unpaired() -> RunConfig:
    """`unet` without pairs: the distilled model's images and any pictures that they should come near to.

    An adversary, the spectrum and the distribution of y say what to add; x says what to keep, in gradients below its
    fine detail and in features. ``whole`` goes on with whole images and the losses of sets.
    """
    first = _crops()
    objective = UnpairedObjective(
        gradient_input=0.5,
        gradient_input_kind="low_passed",
        perceptual_input=0.5,
        adversarial=0.05,
        discriminator=DiscriminatorConfig(looks_at="both", base_channels=24),
    )
    first = first.model_copy(update={"objective": objective})
    whole = _whole(first, learning_rate=1e-4)
    gentler = {"objective": whole.objective.model_copy(update={"frechet": 2.0})}  # with 10 it soon draws a grid
    return RunConfig(name="unpaired", stages=(first, whole.model_copy(update=gentler)))


def real_unet() -> RunConfig:
    """`unet` for real models at 1024 px: a wider U-Net that sees 756 px, trained on crops of 384 px, then whole images.

    For a GPU of 24 GB: bfloat16, compiled, in micro-batches. CBAM pools over a window of the crop's side, in training
    and in use, so the whole picture gets what a crop gets. Its perceptual loss is DINOv2's and its discriminator sees
    pixels alone: the embedded nets know rendered portraits of 128 px and nothing else. For the same reason no loss of
    sets but ``spectrum``. Four crops are cut of a decoded pair.
    """
    first = _crops()
    objective = first.objective.model_copy(
        update={
            "perceptual_net": "dinov2",
            "discriminator": DiscriminatorConfig(looks_at="pixels", base_channels=48, scales=3),
        }
    )
    crops = first.model_copy(
        update={
            "head": UNetConfig(channels=(32, 48, 96, 160, 256), blocks_per_stage=2, attention_window_px=384),
            "objective": objective,
            "images": 400_000,
            "crop_px": 384,
            "learning_rate": 3e-4,
            "precision": "bfloat16",
            "compile": True,
            "validate_every_images": 20_000,
            "validation_images": 64,
            "crops_per_decode": 4,
        }
    )
    changes = {
        "objective": objective.model_copy(update={"spectrum": 0.2}),
        "gradient_accumulation_steps": 4,
        "validate_every_images": 5_000,
        "crops_per_decode": 1,
    }
    return RunConfig(name="real-unet", stages=(crops, _whole(crops, learning_rate=1e-4).model_copy(update=changes)))


def decoder() -> RunConfig:
    """A head that decodes the distilled model's latents, with the stages of `unet`; needs pairs with latents."""
    crops = _crops()
    first = crops.model_copy(
        update={
            "head": DecoderConfig(),
            "objective": crops.objective.model_copy(update={"charbonnier": 0.5}),
            "learning_rate": 1e-3,
            "adversarial_after_images": 20_000,
            "flip": False,
        }
    )
    return RunConfig(name="decoder", stages=(first, _whole(first, learning_rate=5e-4)))


def latent_unet() -> RunConfig:
    """A head that changes the latents and leaves the decoding to the distilled model's VAE; needs pairs with latents.

    After the stages of `unet`, whose head is the teacher: ``taught`` learns L1 to the latents of the teacher's images,
    which follow from x and so are learnt soon, and ``latents`` goes on with the latents of y and all losses.
    """
    taught = _latents(LatentUNetConfig()).model_copy(
        update={
            "name": "taught",
            "previous": "teacher",
            "objective": LatentObjective(spectrum=0.0, contrast=0.0, adversarial=0.0),
            "images": 60_000,
            "learning_rate": 1e-3,
            "warmup_images": 2_000,
        }
    )
    return RunConfig(name="latent-unet", stages=(*unet().stages, taught, _latents(LatentUNetConfig())))


def refiner() -> RunConfig:
    """After the stages of `unet`, sends that head's images through the VAE and corrects them there.

    Needs no latents in the pairs, but is better with the baseline's own (`PairingConfig.baseline_latents`): a
    classifier tells an image from what a VAE makes of it.
    """
    last = _latents(RefinerConfig()).model_copy(update={"name": "refiner"})
    return RunConfig(name="refiner", stages=(*unet().stages, last))


def _latents(head: LatentUNetConfig | RefinerConfig) -> TrainConfig:
    return TrainConfig(
        name="latents",
        previous="start",
        head=head,
        objective=LatentObjective(),
        images=100_000,
        batch_size=32,
        crop_px=None,
        flip=False,
        learning_rate=3e-4,
        warmup_images=500,
        discriminator_learning_rate=4e-4,
        validation_images=256,
    )


def debug() -> RunConfig:
    """A tiny run of seconds that uses every loss: for trying a set-up, not for a useful head."""
    objective = PairedObjective(
        gradient_input=0.1,
        perceptual=1.0,
        charbonnier=1.0,
        gradient_target=1.0,
        low_frequency=1.0,
        colour_input=0.1,
        focal_frequency=1.0,
        frechet=1.0,
        spectrum=0.1,
        adversarial=0.01,
        feature_matching=0.01,
        discriminator=DiscriminatorConfig(looks_at="both", base_channels=4, layers=2, scales=2, r1=0.1),
    )
    return RunConfig.of(
        TrainConfig(
            name="debug",
            head=UNetConfig(channels=(8, 16)),
            objective=objective,
            images=128,
            batch_size=4,
            crop_px=32,
            learning_rate=1e-3,
            warmup_images=16,
            ema_halflife_images=32,
            validate_every_images=64,
            validation_images=8,
        )
    )


RUN_FUNCTIONS = (
    unet, decoder, refiner, latent_unet, unpaired, paper_unet, paper_cyclegan, paper_esa, real_unet, debug,
)  # fmt: skip
RUNS: Mapping[str, Callable[[], RunConfig]] = {run.__name__.replace("_", "-"): run for run in RUN_FUNCTIONS}
"""Of every name in `topcoat.training.RUN_NAMES`."""


def run_config(run: str | TrainConfig | RunConfig) -> RunConfig:
    """The settings of a named run, of one of its stages (``unet/whole``), of a YAML, TOML or JSON file, or those given.

    A file holds one stage's settings, or ``name`` and ``stages``. Raises `UsageError` for an unknown name.
    """
    if isinstance(run, RunConfig):
        return run
    if isinstance(run, TrainConfig):
        return RunConfig.of(run)
    if Path(run).suffix.lower() in SUFFIXES:
        data = read_mapping(run)
        if "stages" in data:
            return parse_config(data, RunConfig, source=run)
        return RunConfig.of(parse_config(data, TrainConfig, source=run))
    name, slash, stage = run.partition("/")
    if name not in RUNS:
        raise UsageError(f"there is no run named {run!r}; use one of {', '.join(sorted(RUNS))}, or a settings file")
    config = RUNS[name]()
    if not slash:
        return config
    stages = {settings.name: settings for settings in config.stages}
    if stage not in stages:
        raise UsageError(f"the run {name} has no stage {stage!r}; use one of {', '.join(stages)}")
    return RunConfig(name=name, stages=(stages[stage],))
