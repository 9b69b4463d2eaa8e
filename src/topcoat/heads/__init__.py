"""Heads: the networks that turn a distilled image into an enhanced one."""

from topcoat.heads.base import Head, HeadDescriptor
from topcoat.heads.network import HeadConfig
from topcoat.heads.registry import KINDS, build_network
from topcoat.heads.unet import UNet, UNetConfig

__all__ = ["KINDS", "Head", "HeadConfig", "HeadDescriptor", "UNet", "UNetConfig", "build_network"]
