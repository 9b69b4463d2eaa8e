"""What a run starts from: random weights, another head, or the distilled model's own VAE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from topcoat.errors import UsageError
from topcoat.generators.vae import Vae, VaeDecoder
from topcoat.heads.head import Head
from topcoat.heads.latent_unet import LatentUNetConfig
from topcoat.heads.refiner import Refiner, RefinerConfig
from topcoat.training.config import TrainConfig


def with_vae(config: TrainConfig, decoder: VaeDecoder) -> TrainConfig:
    """``config`` with the VAE of a head that changes latents set to ``decoder``'s; any other stays as it is."""
    head = config.head
    vae = {"vae": decoder.config, "latent_channels": decoder.latent_channels, "vae_scale": decoder.scale}
    if isinstance(head, RefinerConfig):
        vae = {"latent": head.latent.model_copy(update=vae)}
    elif not isinstance(head, LatentUNetConfig):
        return config
    return config.model_copy(update={"head": head.model_copy(update=vae)})


def fitted(config: TrainConfig, vae: Mapping[str, Any]) -> TrainConfig:
    """`with_vae` by the VAE's config.json alone; no weights are read."""
    with torch.device("meta"):
        return with_vae(config, VaeDecoder(vae))


def starting_point(config: TrainConfig, init_from: Head | None, vae: Vae | None) -> tuple[TrainConfig, Head | None]:
    """The settings and the head that a run starts with; None for random weights.

    A head that changes latents starts with the weights of ``vae``, and a change of nothing whose inner weights come
    from the run's seed; a refiner takes the head that paints from ``init_from``, which may be a refiner to go on with
    too. Raises `UsageError` for a head to start from that is missing or of other settings.
    """
    if config.starts_from is not None and init_from is None:
        raise UsageError(
            f"the run {config.name} goes on from a head of {config.starts_from}; train that first and give its folder "
            "(--init-from, or init_from in Python)"
        )
    changed = config.head.latent_part
    if changed is not None:
        if init_from is None and vae is None:
            raise UsageError(
                f"the head {config.head.name()} decodes with the distilled model's own VAE; give it (--pair, or vae in "
                "Python)"
            )
        part = None if init_from is None else init_from.network.latent_part
        if part is not None and changed.vae is None:
            config = with_vae(config, part.decoder)
        elif part is None and vae is not None:
            config = with_vae(config, vae.decoder)
        head = config.head
        if isinstance(head, RefinerConfig):
            init_from = _with_painter(config, head, init_from, vae)
        elif init_from is None and vae is not None:
            init_from = _undecided(config, vae)
    if init_from is not None and init_from.config != config.head:
        raise UsageError(
            f"the head to start from is a {init_from.kind} of other settings than the run's {config.head.name()}; "
            "give the run the settings in that head's config.json"
        )
    return config, init_from


def _undecided(config: TrainConfig, vae: Vae) -> Head:
    """A head that changes no latents yet."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = config.head.build()
    part = network.latent_part
    assert part is not None
    part.decoder.load_state_dict(vae.decoder.state_dict())
    return Head(network, config.head)


def _with_painter(config: TrainConfig, head: RefinerConfig, init_from: Head | None, vae: Vae | None) -> Head:
    """A refiner to go on with as it is, or a new one that has the head of images ``init_from`` paint."""
    if init_from is None:
        raise UsageError(
            "a refiner needs a trained head of images that paints; give its folder (--init-from, or init_from in "
            "Python)"
        )
    if isinstance(init_from.config, RefinerConfig) or vae is None:
        return init_from
    if init_from.config != head.painter:
        raise UsageError(
            f"the head to start from is a {init_from.kind} of other settings than the run's head.painter; give "
            "head.painter the settings in that head's config.json"
        )
    start = _undecided(config, vae)
    network = start.network
    assert isinstance(network, Refiner)
    network.painter.load_state_dict(init_from.network.state_dict())
    network.encoder.load_state_dict(vae.encoder.state_dict())
    return start
