"""Heads: the networks that turn a distilled image, or its latents, into an enhanced image."""

from topcoat.heads.base import Head
from topcoat.heads.cyclegan import CycleGANConfig, ResNetGenerator
from topcoat.heads.decoder import Decoder, DecoderConfig
from topcoat.heads.descriptor import HeadDescriptor
from topcoat.heads.esa_cyclegan import ESACycleGANConfig, ESAResNetGenerator
from topcoat.heads.gates import GateDecision, GateRules, Gates, calibrate_gates
from topcoat.heads.latent_unet import LatentUNet, LatentUNetConfig
from topcoat.heads.nafnet import NAFNet, NAFNetConfig
from topcoat.heads.network import HeadConfig, LatentHeadConfig
from topcoat.heads.refiner import Refiner, RefinerConfig
from topcoat.heads.registry import KINDS, build_network
from topcoat.heads.unet import UNet, UNetConfig

__all__ = [
    "KINDS",
    "CycleGANConfig",
    "Decoder",
    "DecoderConfig",
    "ESACycleGANConfig",
    "ESAResNetGenerator",
    "GateDecision",
    "GateRules",
    "Gates",
    "Head",
    "HeadConfig",
    "HeadDescriptor",
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
    "build_network",
    "calibrate_gates",
]
