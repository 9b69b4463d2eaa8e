"""What a run starts from: random weights, another head, or the distilled model's own VAE decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from topcoat.errors import UsageError
from topcoat.generators.vae import VaeDecoder
from topcoat.heads.base import Head
from topcoat.heads.latent_unet import LatentUNet, LatentUNetConfig
from topcoat.training.config import TrainConfig


def with_vae(config: TrainConfig, decoder: VaeDecoder) -> TrainConfig:
    """``config`` with a latent head's VAE set to ``decoder``'s; any other head needs none, and stays as it is."""
    head = config.head
    if not isinstance(head, LatentUNetConfig):
        return config
    vae = {"vae": decoder.config, "latent_channels": decoder.latent_channels, "vae_scale": decoder.scale}
    return config.model_copy(update={"head": head.model_copy(update=vae)})


def fitted(config: TrainConfig, vae: Mapping[str, Any]) -> TrainConfig:
    """`with_vae` by the VAE's config.json alone; no weights are read."""
    with torch.device("meta"):
        return with_vae(config, VaeDecoder(vae))


def starting_point(
    config: TrainConfig, init_from: Head | None, decoder: VaeDecoder | None
) -> tuple[TrainConfig, Head | None]:
    """The settings and the head that a run starts with; None for random weights.

    A latent head starts with the weights of ``decoder``, and a change of nothing whose inner weights come from the
    run's seed. Raises `UsageError` for a head to start from that is missing or of other settings.
    """
    if config.starts_from is not None and init_from is None:
        raise UsageError(
            f"the run {config.name} goes on from a head of {config.starts_from}; train that first and give its folder "
            "(--init-from, or init_from in Python)"
        )
    if isinstance(config.head, LatentUNetConfig):
        if init_from is None and decoder is None:
            raise UsageError(
                f"the head {config.head.kind} decodes with the distilled model's own VAE; give it (--pair, or vae in "
                "Python)"
            )
        if init_from is not None and config.head.vae is None and isinstance(init_from.network, LatentUNet):
            config = with_vae(config, init_from.network.decoder)
        elif init_from is None and decoder is not None:
            config = with_vae(config, decoder)
            init_from = _undecided(config, decoder)
    if init_from is not None and init_from.config != config.head:
        raise UsageError(
            f"the head to start from is a {init_from.config.kind} of other settings than the run's {config.head.kind}; "
            "give the run the settings in that head's config.json"
        )
    return config, init_from


def _undecided(config: TrainConfig, decoder: VaeDecoder) -> Head:
    """A latent head that changes nothing yet."""
    assert isinstance(config.head, LatentUNetConfig)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = LatentUNet(config.head)
    network.decoder.load_state_dict(decoder.state_dict())
    return Head(network, config.head)
