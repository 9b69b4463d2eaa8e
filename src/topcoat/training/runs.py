"""The named runs. A run is a function that returns its settings: read them here, change them with `with_settings`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from topcoat.config import SUFFIXES, load_config, parse_config
from topcoat.errors import UsageError
from topcoat.heads.decoder import DecoderConfig
from topcoat.heads.latent_unet import LatentUNetConfig
from topcoat.heads.refiner import RefinerConfig
from topcoat.heads.resnet import CycleGANConfig, ESACycleGANConfig
from topcoat.heads.unet import UNetConfig
from topcoat.training.config import CycleConfig, LatentConfig, LossWeights, TrainConfig
from topcoat.training.discriminator import DiscriminatorConfig


def paper_unet() -> TrainConfig:
    """The paired head of arXiv 2505.02255: exactly GRAD(x, z) + perceptual(y, z), both with weight 1.

    The paper's perceptual term is LPIPS with a pretrained network; here it is topcoat's own feature net for losses,
    unless ``losses.perceptual_net`` says ``lpips-vgg``.
    """
    return TrainConfig(name="paper-unet", losses=LossWeights(gradient_input=1.0, perceptual=1.0), images=200_000)


def paper_cyclegan() -> TrainConfig:
    """CycleGAN with the settings of its authors (arXiv 1703.10593): 11.38 M parameters, unpaired, batch of one.

    For a GPU. On a CPU take a narrower one: ``head.base_channels=16`` and ``cycle.discriminator_channels=16``.
    """
    return TrainConfig(
        name="paper-cyclegan",
        head=CycleGANConfig(),
        cycle=CycleConfig(),
        images=200_000,
        batch_size=1,
        learning_rate=2e-4,
        discriminator_learning_rate=2e-4,
        betas=(0.5, 0.999),
        schedule="constant-linear",
        warmup_images=0,
        clip_norm=1e6,  # the authors do not clip
    )


def paper_esa() -> TrainConfig:
    """`paper_cyclegan` with an ESA block in every residual branch, as arXiv 2505.02255 describes its third head."""
    return paper_cyclegan().model_copy(update={"name": "paper-esa", "head": ESACycleGANConfig()})


def best_unet() -> TrainConfig:
    """The strongest head for a small budget: the paper's two terms, and an adversary that sees pixels and features.

    GRAD(x, z) is low-passed: with all gradients of x it also punishes the new fine detail that the head is to add.
    Pairs do not agree pixel by pixel, so L1 against y would blur; what holds the image is the colour and light of y,
    its gradients over several scales and its features. The adversary starts early and looks at patches and, almost
    for free, at the features of the loss net, which is what moves the set of outputs towards the set of baseline
    images and not only each output towards the mean of what its input may mean.
    """
    losses = LossWeights(
        gradient_input=0.1,
        gradient_input_kind="low_passed",
        perceptual=1.0,
        charbonnier=0.25,
        gradient_target=0.25,
        gradient_target_kind="multi_scale",
        low_frequency=1.0,
        adversarial=0.05,
        feature_matching=0.1,
    )
    return TrainConfig(
        name="best-unet",
        losses=losses,
        discriminator=DiscriminatorConfig(looks_at="both", base_channels=24),
        images=200_000,
        discriminator_learning_rate=5e-4,
        adversarial_after_images=5_000,
        validation_images=256,
    )


def decoder() -> TrainConfig:
    """A head that decodes the distilled model's latents, with the losses of `best_unet`; needs pairs with latents."""
    start = best_unet()
    return start.model_copy(
        update={
            "name": "decoder",
            "head": DecoderConfig(),
            "losses": start.losses.model_copy(update={"charbonnier": 0.5}),
            "learning_rate": 1e-3,
            "adversarial_after_images": 20_000,
            "flip": False,
        }
    )


def latent_unet() -> TrainConfig:
    """A head that changes the latents and leaves the decoding to the distilled model's VAE; needs pairs with latents.

    Trained on latents, so that a step costs little; the adversary waits until L1 has found the way.
    """
    return TrainConfig(
        name="latent-unet",
        head=LatentUNetConfig(),
        latent=LatentConfig(),
        images=200_000,
        batch_size=32,
        crop_px=None,
        flip=False,
        learning_rate=1e-3,
        discriminator_learning_rate=4e-4,
        adversarial_after_images=20_000,
        validation_images=256,
    )


def taught_latent_unet() -> TrainConfig:
    """`latent_unet`, as far as a head of images can teach it: L1 to the latents of what that head makes of x.

    What a teacher makes of x follows from x, so this is learnt soon.
    """
    return latent_unet().model_copy(
        update={
            "name": "taught-latent-unet",
            "teacher": "finish-unet",
            "latent": LatentConfig(spectrum=0.0, contrast=0.0, adversarial=0.0),
            "images": 60_000,
            "adversarial_after_images": 0,
        }
    )


def finish_latent_unet() -> TrainConfig:
    """Goes on from a head of `taught_latent_unet` with the latents of y and all that `latent_unet` compares."""
    return latent_unet().model_copy(
        update={
            "name": "finish-latent-unet",
            "starts_from": "taught-latent-unet",
            "images": 100_000,
            "learning_rate": 3e-4,
            "warmup_images": 500,
            "adversarial_after_images": 0,
        }
    )


def refiner() -> TrainConfig:
    """Sends what a head of `finish_unet` paints through the VAE and corrects it there; needs no latents in the pairs.

    Better with the baseline's own (`PairingConfig.baseline_latents`): what a VAE makes of an image and decodes again is
    told from that image by a classifier, and so would a head be that learnt it.
    """
    return finish_latent_unet().model_copy(
        update={"name": "refiner", "starts_from": "finish-unet", "head": RefinerConfig()}
    )


def finish_unet() -> TrainConfig:
    """Goes on from a head of `best_unet`: whole images, and the set of outputs drawn to the set of baseline images.

    Crops teach texture fast, but a net that reads whole portraits knows more of what sets them apart. The set loss is
    what moves the Fréchet distance; a tenth of the images of the first run is enough for it. And no loss of pixels or
    features sees the faint texture that up-sampling leaves at the highest frequencies, or the bands that a decoder
    leaves out: the power of the baseline at every frequency is asked for by itself.
    """
    return _finish(best_unet(), learning_rate=3e-4)


def finish_decoder() -> TrainConfig:
    """`finish_unet` for a head of `decoder`."""
    return _finish(decoder(), learning_rate=5e-4)


def _finish(first: TrainConfig, learning_rate: float) -> TrainConfig:
    return first.model_copy(
        update={
            "name": f"finish-{first.head.name()}",
            "starts_from": first.name,
            "losses": first.losses.model_copy(update={"transport": 10.0, "spectrum": 0.2}),
            "images": 20_000,
            "crop_px": None,
            "learning_rate": learning_rate,
            "warmup_images": 500,
            "adversarial_after_images": 0,
        }
    )


def debug() -> TrainConfig:
    """A tiny run of seconds that uses every loss: for trying a set-up, not for a useful head."""
    losses = LossWeights(
        gradient_input=0.1,
        perceptual=1.0,
        charbonnier=1.0,
        gradient_target=1.0,
        low_frequency=1.0,
        colour_input=0.1,
        focal_frequency=1.0,
        transport=1.0,
        spectrum=0.1,
        adversarial=0.01,
        feature_matching=0.01,
    )
    return TrainConfig(
        name="debug",
        head=UNetConfig(channels=(8, 16)),
        losses=losses,
        discriminator=DiscriminatorConfig(looks_at="both", base_channels=4, layers=2, scales=2, r1=0.1),
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
    "paper-cyclegan": paper_cyclegan,
    "paper-esa": paper_esa,
    "decoder": decoder,
    "finish-unet": finish_unet,
    "finish-decoder": finish_decoder,
    "latent-unet": latent_unet,
    "taught-latent-unet": taught_latent_unet,
    "finish-latent-unet": finish_latent_unet,
    "refiner": refiner,
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


def with_settings(config: TrainConfig, changes: Sequence[str]) -> TrainConfig:
    """``config`` with changes like ``learning_rate=1e-4`` or ``head.base_channels=16``; values are YAML.

    A change of ``head.kind`` drops the other settings of the head. Raises `UsageError` for a change that names no
    setting, or that the settings refuse.
    """
    import yaml

    data: dict[str, Any] = config.model_dump()
    for change in changes:
        path, sign, text = change.partition("=")
        if not sign or not path:
            raise UsageError(f"{change!r} is no setting; write name=value, for example learning_rate=1e-4")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UsageError(f"the value of {change!r} cannot be read; write it as in a YAML file") from None
        *folders, name = path.split(".")
        place = data
        for folder in folders:
            if not isinstance(place.get(folder), dict):
                raise UsageError(f"{path} names no setting, because {folder} holds none; see --dry-run for all of them")
            place = place[folder]
        if folders == ["head"] and name == "kind" and value != place.get("kind"):
            place.clear()
        place[name] = float(value) if isinstance(value, str) and _is_number(value) else value
    return parse_config(data, TrainConfig, source="--set")


def _is_number(text: str) -> bool:
    """Whether it is a number that YAML 1.1 reads as text, such as 1e-4."""
    try:
        float(text)
    except ValueError:
        return False
    return True
