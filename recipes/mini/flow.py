"""Flow matching with a Flux transformer: building, conditioning, noising and Euler sampling.

Convention of FLUX and of diffusers' `FlowMatchEulerDiscreteScheduler`: ``x_s = (1 - s) x_0 + s * noise`` for
``s`` in [0, 1], and the network predicts the velocity ``noise - x_0`` (rectified flow, arXiv 2209.03003).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor

from recipes.mini.recipe import Recipe, autocast

LATENT_CHANNELS = 16


@dataclass(frozen=True)
class Condition:
    """What a prompt says to the transformer: pooled CLIP (N, width) and T5 states (N, tokens, width)."""

    pooled: Tensor
    states: Tensor

    def take(self, rows: Tensor | slice) -> Condition:
        """The conditions of some rows."""
        return Condition(self.pooled[rows], self.states[rows])

    def to(self, device: torch.device | str) -> Condition:
        """The same on another device."""
        return Condition(self.pooled.to(device), self.states.to(device))


def build_transformer(recipe: Recipe) -> Any:
    """An untrained `FluxTransformer2DModel` of the recipe's size; typed Any, as diffusers' own types are too wide."""
    half = (recipe.head_dim - 8) // 2
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=4 * LATENT_CHANNELS,
        num_layers=recipe.double_blocks,
        num_single_layers=recipe.single_blocks,
        attention_head_dim=recipe.head_dim,
        num_attention_heads=recipe.heads,
        joint_attention_dim=recipe.text_width,
        pooled_projection_dim=recipe.text_width,
        guidance_embeds=False,
        axes_dims_rope=(8, half, half),
    )


def load_transformer(folder: Path, device: str = "cpu") -> Any:
    """A trained transformer on ``device``, frozen."""
    transformer: Any = FluxTransformer2DModel.from_pretrained(folder)
    return transformer.eval().requires_grad_(False).to(device)


def pack(latents: Tensor) -> Tensor:
    """Latents (N, 16, h, w) -> tokens (N, h/2 * w/2, 64), FLUX's 2x2 packing."""
    count, channels, height, width = latents.shape
    grid = latents.view(count, channels, height // 2, 2, width // 2, 2)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(count, height * width // 4, channels * 4)


def unpack(tokens: Tensor) -> Tensor:
    """The inverse of `pack` for square latents."""
    count, length, channels = tokens.shape
    side = int(length**0.5)
    grid = tokens.view(count, side, side, channels // 4, 2, 2)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(count, channels // 4, 2 * side, 2 * side)


def velocity(transformer: Any, tokens: Tensor, level: Tensor, condition: Condition) -> Tensor:
    """Predicted velocity (N, T, 64) of ``tokens`` at noise levels ``level`` (N) in [0, 1]."""
    side = int(tokens.shape[1] ** 0.5)
    image_ids = torch.zeros(side, side, 3, device=tokens.device)
    image_ids[..., 1] = torch.arange(side, device=tokens.device)[:, None]
    image_ids[..., 2] = torch.arange(side, device=tokens.device)[None, :]
    return transformer(
        hidden_states=tokens,
        timestep=level,
        pooled_projections=condition.pooled,
        encoder_hidden_states=condition.states,
        img_ids=image_ids.view(-1, 3),
        txt_ids=torch.zeros(condition.states.shape[1], 3, device=tokens.device),
        return_dict=False,
    )[0]


def noise_of(seeds: Sequence[int], side: int) -> Tensor:
    """Starting noise (N, T, 64), one CPU generator per image, the same that FluxPipeline draws for these seeds."""
    noise = [torch.randn((1, LATENT_CHANNELS, side, side), generator=torch.Generator().manual_seed(s)) for s in seeds]
    return pack(torch.cat(noise))


@dataclass(frozen=True)
class Guide:
    """A worse opinion to move away from: ``v_guide + scale * (v - v_guide)``, two passes a step.

    The same transformer with the empty prompt is classifier-free guidance (arXiv 2207.12598, eq. 6); a weaker
    transformer with the same prompt is autoguidance (arXiv 2406.02507, eq. 3).
    """

    transformer: Any
    condition: Condition | None
    """One row, the empty prompt; None takes the image's own prompt."""
    scale: float

    def apply(self, predicted: Tensor, tokens: Tensor, level: Tensor, own: Condition) -> Tensor:
        """The guided velocity (N, T, 64) from the transformer's own prediction."""
        if self.condition is not None:
            own = self.condition.take(torch.zeros(len(tokens), dtype=torch.long)).to(tokens.device)
        worse = velocity(self.transformer, tokens, level, own).float()
        return worse + self.scale * (predicted - worse)


@torch.no_grad()
def sample(
    transformer: Any,
    noise: Tensor,
    condition: Condition,
    steps: int,
    *,
    guide: Guide | None = None,
    batch_images: int = 64,
    exact: bool = False,
) -> Tensor:
    """Euler's method from noise tokens to latents (N, 16, h, w) on the CPU, guided where asked.

    It runs on the transformer's device; ``exact`` keeps to single precision.
    """
    levels = [*torch.linspace(1, 1 / steps, steps).tolist(), 0.0]
    results = []
    for rows in torch.arange(len(noise)).split(batch_images):
        tokens, own = noise[rows].to(transformer.device), condition.take(rows).to(transformer.device)
        for level, after in pairwise(levels):
            level_each = torch.full((len(rows),), level, device=transformer.device)
            with nullcontext() if exact else autocast(transformer.device.type):
                step = velocity(transformer, tokens, level_each, own).float()
                if guide is not None:
                    step = guide.apply(step, tokens, level_each, own)
            tokens = tokens + (after - level) * step
        results.append(unpack(tokens).cpu())
    return torch.cat(results)
