"""The table of head kinds: to add one, write its module and two lines here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from torch import nn

from topcoat.config import parse_config
from topcoat.errors import UsageError
from topcoat.heads.cyclegan import CycleGANConfig, ResNetGenerator
from topcoat.heads.decoder import Decoder, DecoderConfig
from topcoat.heads.esa_cyclegan import ESACycleGANConfig, ESAResNetGenerator
from topcoat.heads.latent_unet import LatentUNet, LatentUNetConfig
from topcoat.heads.nafnet import NAFNet, NAFNetConfig
from topcoat.heads.network import HeadConfig
from topcoat.heads.refiner import Refiner, RefinerConfig
from topcoat.heads.unet import UNet, UNetConfig

AnyHeadConfig = Annotated[
    UNetConfig | NAFNetConfig | CycleGANConfig | ESACycleGANConfig | DecoderConfig | LatentUNetConfig | RefinerConfig,
    Field(discriminator="kind"),
]
"""The settings that a training config may hold, told apart by ``kind``."""


@dataclass(frozen=True, slots=True)
class HeadKind:
    """How one kind of head is described and built."""

    config: type[HeadConfig]
    network: Callable[[Any], nn.Module]


KINDS: Mapping[str, HeadKind] = {
    "cyclegan": HeadKind(CycleGANConfig, ResNetGenerator),
    "decoder": HeadKind(DecoderConfig, Decoder),
    "esa-cyclegan": HeadKind(ESACycleGANConfig, ESAResNetGenerator),
    "latent-unet": HeadKind(LatentUNetConfig, LatentUNet),
    "nafnet": HeadKind(NAFNetConfig, NAFNet),
    "refiner": HeadKind(RefinerConfig, Refiner),
    "unet": HeadKind(UNetConfig, UNet),
}


def build_network(config: HeadConfig) -> nn.Module:
    """A fresh network for ``config``; its weights come from torch's global generator."""
    return _kind(config.kind).network(config)


def parse_head_config(data: Mapping[str, Any], *, source: str) -> HeadConfig:
    """The settings in a plain mapping with a ``kind``; raises `UsageError`, naming ``source``."""
    kind = data.get("kind")
    if not isinstance(kind, str):
        raise UsageError(f"{source} names no kind of head; add kind, one of: {', '.join(sorted(KINDS))}")
    return parse_config(dict(data), _kind(kind).config, source=source)


def _kind(name: str) -> HeadKind:
    if name not in KINDS:
        raise UsageError(f"there is no kind of head named {name!r}; use one of: {', '.join(sorted(KINDS))}")
    return KINDS[name]
