"""What the networks learn from: the renders as tensors, and their latents with features to align with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from recipes.mini.autoencoder import encode, load_autoencoder
from recipes.mini.flow import pack
from recipes.mini.meter import Meter
from recipes.mini.portrait.words import Words
from recipes.mini.portraits import load_portraits
from recipes.mini.recipe import Recipe, WorkFolder
from topcoat.features import FeatureNet
from topcoat.files import atomic_path, sha256_of


@dataclass(frozen=True)
class Corpus:
    """Latent tokens (N, T, 64) and aligned features (N, T, C), float16, and the words of every render, mirrored ones
    behind the others."""

    tokens: Tensor
    features: Tensor
    words: list[Words]


def load_corpus(recipe: Recipe, work: WorkFolder) -> Corpus:
    """Latents and features of the renders and their mirror images, computed once and kept beside them."""
    portraits = load_portraits(recipe, work)
    digest = sha256_of(work.autoencoder / "diffusion_pytorch_model.safetensors")[:8]
    path = work.latents / f"{len(portraits.images):06d}-{digest}.safetensors"
    if not path.exists():
        autoencoder, net = load_autoencoder(work), FeatureNet.load(work.features / "loss").to(work.device)
        tokens: list[Tensor] = []
        features: list[Tensor] = []
        with Meter("latents", 2 * len(portraits.images)) as meter:
            for images in (portraits.images, portraits.images.flip(-1)):
                for batch in images.split(64):
                    latents = encode(autoencoder, batch)
                    tokens.append(pack(latents).half())
                    features.append(_aligned(net, batch.to(work.device), latents.shape[-1] // 2))
                    meter.update(sum(map(len, tokens)), "encoded")
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            save_file({"tokens": torch.cat(tokens), "features": torch.cat(features)}, temporary)
    tensors = load_file(path)
    return Corpus(
        tensors["tokens"], tensors["features"], [*portraits.words, *(words.mirrored() for words in portraits.words)]
    )


@torch.no_grad()
def _aligned(net: FeatureNet, images: Tensor, side: int) -> Tensor:
    """Features (N, side * side, C), float16 on the CPU, of the loss net's last stage, one for each image token."""
    features = net(images.float() / 255).stages[-1]
    if features.shape[-1] != side:
        features = F.interpolate(features, size=(side, side), mode="area")
    return features.flatten(2).transpose(1, 2).half().cpu().contiguous()
