"""Perceptual distances by published nets, in place of topcoat's own: LPIPS or DINOv2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from topcoat.errors import ModelError, UsageError
from topcoat.features.pretrained import load_model, loading
from topcoat.training.losses import HasStages, perceptual_loss

Distance = Callable[[Tensor, Tensor], Tensor]
"""Of two batches of images ``(N, 3, H, W)`` in [0, 1]; a scalar, the mean over the batch."""

DINOV2 = "facebook/dinov2-small"
_PATCH_PX = 14
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, which DINOv2 was trained with


def load_distance(name: str, device: torch.device) -> Distance:
    """The distance called ``name`` in `PairedObjective.perceptual_net`, its weights frozen and on ``device``.

    Raises `UsageError` if its package is not installed, `ModelError` if its weights cannot be loaded.
    """
    if name == "lpips-vgg":
        net = _lpips().to(device).eval().requires_grad_(False)
        return lambda z, y: net(z * 2 - 1, y * 2 - 1).mean()  # LPIPS takes [-1, 1]
    source = name.partition(":")[2] or DINOV2
    with loading("dinov2", source, "use perceptual_net embedded"):
        stages = DinoStages(load_model("dinov2", "Dinov2Model", source)).to(device).eval().requires_grad_(False)

    def distance(z: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            of_y = stages(y)
        return perceptual_loss(stages(z), of_y)

    return distance


def _lpips() -> Any:
    try:
        import lpips  # pyright: ignore[reportMissingImports] - not a dependency: it brings torchvision
    except ImportError as error:
        raise UsageError(
            "perceptual_net lpips-vgg needs the package lpips; install it with a torchvision that fits your torch, "
            "or use perceptual_net embedded"
        ) from error
    try:
        return lpips.LPIPS(net="vgg", verbose=False)
    except Exception as error:  # torchvision fetches the weights: network errors have no common base
        raise ModelError(
            f"the weights of LPIPS cannot be loaded ({type(error).__name__}); check the network, or use "
            "perceptual_net embedded"
        ) from error


@dataclass(frozen=True, slots=True)
class Stages:
    """Feature maps for `perceptual_loss`."""

    stages: Sequence[Tensor]


class DinoStages(nn.Module):
    """Patch features of four depths of a DINOv2 model, as maps ``(N, C, H/14, W/14)``."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(_STD)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> HasStages:
        """Features of ``images`` ``(N, 3, H, W)`` in [0, 1]; sides are enlarged to the next multiple of 14."""
        height, width = (-(-side // _PATCH_PX) for side in images.shape[-2:])
        size = (height * _PATCH_PX, width * _PATCH_PX)
        if size != tuple(images.shape[-2:]):
            images = F.interpolate(images, size=size, mode="bicubic", align_corners=False)
        states: Sequence[Tensor] = self.model(
            pixel_values=(images - self.mean) / self.std, output_hidden_states=True
        ).hidden_states
        depths = sorted({round(share * (len(states) - 1)) for share in (0.25, 0.5, 0.75, 1.0)})
        maps = [states[depth][:, 1:].mT.unflatten(2, (height, width)) for depth in depths]  # without the class token
        return Stages(maps)
