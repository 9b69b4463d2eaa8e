"""Small convolutional feature nets for 128 px portraits.

A feature net reads an image three ways: feature maps (perceptual losses), a 64-dimensional embedding (Fréchet
features) and an identity vector (is it the same person?). The package embeds two, trained on rendered portraits by
`recipes/mini` with different architectures and seeds. The net named ``loss`` is used by training alone and the net
named ``eval`` by evaluation alone, so that no head is ever evaluated by the net it was trained against.

Larger images are judged at the size that the nets were trained at: seen at 1024 px, different people have a cosine of
identity near that of one person. Only feature maps are those of the pixels as they are: they compare texture place by
place, and detail that exists at 1024 px alone must count.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from topcoat.config import StrictModel
from topcoat.embedded import MINI
from topcoat.errors import DataError
from topcoat.files import atomic_path, sha256_of, write_json

Kind = Literal["plain", "residual"]

WORKING_PX = 128
"""Shorter side at which the embedded nets judge a whole image: that of the portraits they were trained on."""


class FeatureNetConfig(StrictModel):
    """Architecture of a feature net.

    ``plain`` is a VGG-like stack of 3x3 convolutions whose first stage works at full resolution; ``residual`` starts
    with a strided 7x7 stem and has residual blocks. ``identity_dims`` and ``scene_dims`` are the numbers of subject
    attributes that the two linear heads predict; ``quality_dims`` the number of image-degradation targets.
    """

    kind: Kind
    channels: tuple[int, ...]
    embedding_dims: int = 64
    identity_dims: int
    scene_dims: int
    quality_dims: int


@dataclass(frozen=True, slots=True)
class Features:
    """What a net gives for ``N`` images."""

    stages: tuple[Tensor, ...]
    """Feature maps, finest first: ``(N, C_i, H_i, W_i)``."""
    embedding: Tensor
    """``(N, D)`` of the whole image, the Fréchet features."""
    identity: Tensor
    """``(N, K)``, unit length; of the embedded nets predicted attributes of the person, blind to pose, light and
    clothing."""


def at_working_size(images: Tensor) -> Tensor:
    """``(N, 3, H, W)`` shrunk (never enlarged) so that the shorter side has `WORKING_PX` pixels; differentiable."""
    height, width = images.shape[-2:]
    scale = WORKING_PX / min(height, width)
    if scale >= 1:
        return images
    size = (max(WORKING_PX, round(height * scale)), max(WORKING_PX, round(width * scale)))
    return F.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)


def whole(net: Callable[[Tensor], Features], images: Tensor) -> Features:
    """What any net says of ``images`` ``(N, 3, H, W)`` for callers that read no feature maps: these may be smaller."""
    return getattr(net, "whole", net)(images)


class FeatureNet(nn.Module):
    """A feature net; call it with images ``(N, 3, H, W)`` in [0, 1] (at least 32 px a side) for `Features`.

    Feature maps are of the images as they are, embedding and identity of the images `at_working_size`.
    """

    made_for = ""
    """What the net was trained on, where it should judge nothing else."""

    def __init__(self, config: FeatureNetConfig) -> None:
        super().__init__()
        self.config = config
        self.digest = "untrained"
        stages: list[nn.Module] = []
        before = 3
        for index, channels in enumerate(config.channels):
            stages.append(_stage(config.kind, before, channels, first=index == 0))
            before = channels
        self.stages = nn.ModuleList(stages)
        self.embed = nn.Linear(2 * before, config.embedding_dims)
        self.identity_head = nn.Linear(config.embedding_dims, config.identity_dims)
        self.scene_head = nn.Linear(config.embedding_dims, config.scene_dims)
        self.quality_head = nn.Linear(config.embedding_dims, config.quality_dims)

    def forward(self, images: Tensor) -> Features:
        """Features of ``images`` ``(N, 3, H, W)``, RGB in [0, 1]."""
        maps = self._maps(images)
        small = at_working_size(images)
        hidden = maps[-1] if small is images else self._maps(small)[-1]
        # Mean says what is there on average, maximum says whether it is there at all (glasses, a catchlight).
        pooled = torch.cat([hidden.mean(dim=(2, 3)), hidden.amax(dim=(2, 3))], dim=1)
        embedding = self.embed(pooled)
        identity = F.normalize(self.identity_head(embedding), dim=1)
        return Features(tuple(maps), embedding, identity)

    def whole(self, images: Tensor) -> Features:
        """Features of ``images`` `at_working_size`, maps included: one pass, however large they are."""
        return self(at_working_size(images))

    def _maps(self, images: Tensor) -> list[Tensor]:
        maps: list[Tensor] = []
        hidden = images * 2 - 1
        for stage in self.stages:
            hidden = stage(hidden)
            maps.append(hidden)
        return maps

    def predictions(self, images: Tensor) -> Tensor:
        """All predicted targets ``(N, identity_dims + scene_dims + quality_dims)``: what training regresses."""
        embedding = self(images).embedding
        heads = (self.identity_head, self.scene_head, self.quality_head)
        return torch.cat([head(embedding) for head in heads], dim=1)

    def frozen(self) -> FeatureNet:
        """This net in evaluation mode, its weights closed to gradients (its input stays differentiable)."""
        return self.eval().requires_grad_(False)

    def fused(self) -> FeatureNet:
        """This frozen net for inference, faster on a CPU: the same features to rounding, the same digest.

        Each normalisation is folded into its convolution, and weights are laid out channels-last. They have other names
        and shapes than those of `save`.
        """
        net = copy.deepcopy(self)
        for parent in list(net.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, _Normalised):
                    setattr(parent, name, child.fused())
        net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (missing in torch's stubs)
        return net.frozen()

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` (float16) into ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {
            name: (value.half() if value.is_floating_point() else value).contiguous()
            for name, value in self.state_dict().items()
        }
        with atomic_path(folder / "model.safetensors") as path:
            save_file(weights, path)
        write_json(folder / "config.json", self.config.model_dump(mode="json"))

    @classmethod
    def load(cls, folder: Path) -> FeatureNet:
        """The frozen net that `save` wrote to ``folder``.

        Raises `DataError` if the folder does not hold one.
        """
        weights = folder / "model.safetensors"
        try:
            config = FeatureNetConfig(**json.loads((folder / "config.json").read_text()))
            net = cls(config)
            net.load_state_dict({name: _as_float(value) for name, value in load_file(weights).items()})
        except (SafetensorError, OSError, TypeError, ValueError, RuntimeError) as error:
            raise DataError(
                f"{folder} holds no usable feature net ({type(error).__name__}); reinstall topcoat"
            ) from error
        net.digest = sha256_of(weights)[:16]
        return net.frozen()

    @classmethod
    def tiny(cls, seed: int) -> FeatureNet:
        """A frozen net of random weights, a few thousand parameters, for trying code without trained weights."""
        config = FeatureNetConfig(kind="plain", channels=(8, 16), identity_dims=8, scene_dims=4, quality_dims=2)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config).frozen()


def weights_digest(settings: str, weights: Mapping[str, Tensor]) -> str:
    """16 hex digits that change with ``settings`` or any tensor's name, type, shape or value."""
    digest = hashlib.sha256(settings.encode())
    for name, value in sorted(weights.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        # as bytes: numpy has no bfloat16
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def load_feature_net(name: Literal["loss", "eval"]) -> FeatureNet:
    """The embedded net for losses or the one for evaluation, frozen, `fused`, on the CPU.

    Raises `DataError` if the embedded weights are missing or damaged.
    """
    net = FeatureNet.load(MINI / "features" / name).fused()
    net.made_for = "mini"
    return net


def _as_float(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def _stage(kind: Kind, before: int, channels: int, *, first: bool) -> nn.Module:
    if kind == "plain":
        # The first stage keeps full resolution: a perceptual loss must see single pixels.
        return nn.Sequential(
            *([] if first else [nn.MaxPool2d(2)]),
            _conv(before, channels, 3, 1),
            nn.ReLU(),
            _conv(channels, channels, 3, 1),
            nn.ReLU(),
        )
    entry = _conv(before, channels, 7 if first else 3, 2)
    return nn.Sequential(entry, nn.SiLU(), _Residual(channels))


class _Normalised(nn.Sequential):
    """A convolution and its normalisation."""

    def fused(self) -> nn.Module:
        """One convolution that does both."""
        convolution, normalisation = self
        assert isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d)
        return fuse_conv_bn_eval(convolution, normalisation)


def _conv(before: int, after: int, kernel_px: int, stride_px: int) -> _Normalised:
    return _Normalised(
        nn.Conv2d(before, after, kernel_px, stride_px, kernel_px // 2, bias=False), nn.BatchNorm2d(after)
    )


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv(channels, channels, 3, 1), nn.SiLU(), _conv(channels, channels, 3, 1))

    def forward(self, hidden: Tensor) -> Tensor:
        return F.silu(hidden + self.body(hidden))
