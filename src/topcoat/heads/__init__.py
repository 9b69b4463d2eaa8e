"""Heads: the networks that turn a distilled image, or its latents, into an enhanced image."""

from topcoat.heads.decoder import Decoder as Decoder
from topcoat.heads.decoder import DecoderConfig as DecoderConfig
from topcoat.heads.head import Head as Head
from topcoat.heads.kinds import KINDS as KINDS
from topcoat.heads.latent_unet import LatentUNet as LatentUNet
from topcoat.heads.latent_unet import LatentUNetConfig as LatentUNetConfig
from topcoat.heads.nafnet import NAFNet as NAFNet
from topcoat.heads.nafnet import NAFNetConfig as NAFNetConfig
from topcoat.heads.network import HeadConfig as HeadConfig
from topcoat.heads.network import LatentHeadConfig as LatentHeadConfig
from topcoat.heads.refiner import Refiner as Refiner
from topcoat.heads.refiner import RefinerConfig as RefinerConfig
from topcoat.heads.resnet import CycleGANConfig as CycleGANConfig
from topcoat.heads.resnet import ESACycleGANConfig as ESACycleGANConfig
from topcoat.heads.resnet import ResNetGenerator as ResNetGenerator
from topcoat.heads.unet import UNet as UNet
from topcoat.heads.unet import UNetConfig as UNetConfig
