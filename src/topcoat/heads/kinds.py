"""The table of head kinds. To add one, write its module and add its settings class here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Field

from topcoat.config import parse_config
from topcoat.errors import UsageError
from topcoat.heads.decoder import DecoderConfig
from topcoat.heads.latent_unet import LatentUNetConfig
from topcoat.heads.nafnet import NAFNetConfig
from topcoat.heads.network import HeadConfig
from topcoat.heads.refiner import RefinerConfig
from topcoat.heads.resnet import CycleGANConfig, ESACycleGANConfig
from topcoat.heads.unet import UNetConfig

_CONFIGS = (
    UNetConfig,
    NAFNetConfig,
    CycleGANConfig,
    ESACycleGANConfig,
    DecoderConfig,
    LatentUNetConfig,
    RefinerConfig,
)

KINDS: Mapping[str, type[HeadConfig]] = {config.name(): config for config in _CONFIGS}

if TYPE_CHECKING:
    AnyHeadConfig = HeadConfig
else:
    AnyHeadConfig = Annotated[Union[_CONFIGS], Field(discriminator="kind")]  # noqa: UP007 - of a tuple
    """The settings that a training config may hold, told apart by ``kind``."""


def parse_head_config(data: Mapping[str, Any], *, source: str) -> HeadConfig:
    """The settings in a plain mapping with a ``kind``; raises `UsageError`, naming ``source``."""
    kind, kinds = data.get("kind"), ", ".join(sorted(KINDS))
    if not isinstance(kind, str):
        raise UsageError(f"{source} names no kind of head; add kind, one of: {kinds}")
    if kind not in KINDS:
        raise UsageError(f"there is no kind of head named {kind!r}; use one of: {kinds}")
    return parse_config(dict(data), KINDS[kind], source=source)
