"""Heads: the networks that turn a distilled image, or its latents, into an enhanced image."""

from topcoat.heads.decoder import Decoder, DecoderConfig
from topcoat.heads.head import Head
from topcoat.heads.kinds import KINDS
from topcoat.heads.latent_unet import LatentUNet, LatentUNetConfig
from topcoat.heads.nafnet import NAFNet, NAFNetConfig
from topcoat.heads.network import HeadConfig, LatentHeadConfig
from topcoat.heads.refiner import Refiner, RefinerConfig
from topcoat.heads.resnet import CycleGANConfig, ESACycleGANConfig, ResNetGenerator
from topcoat.heads.unet import UNet, UNetConfig

__all__ = [
    "KINDS",
    "CycleGANConfig",
    "Decoder",
    "DecoderConfig",
    "ESACycleGANConfig",
    "Head",
    "HeadConfig",
    "LatentHeadConfig",
    "LatentUNet",
    "LatentUNetConfig",
    "NAFNet",
    "NAFNetConfig",
    "Refiner",
    "RefinerConfig",
    "ResNetGenerator",
    "UNet",
    "UNetConfig",
]
