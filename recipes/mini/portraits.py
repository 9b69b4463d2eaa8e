"""The finished renders as tensors of the recipe's size."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recipes.mini.portrait.words import Words
from recipes.mini.recipe import Recipe, WorkFolder
from recipes.mini.renders import load_renders


@dataclass(frozen=True)
class Portraits:
    """N renders: ``images`` uint8 (N, 3, H, W), ``identity`` (N, I), ``scene`` (N, S), ``landmarks`` (N, L, 2) px."""

    images: Tensor
    identity: Tensor
    scene: Tensor
    landmarks: Tensor
    words: list[Words]


def load_portraits(recipe: Recipe, work: WorkFolder) -> Portraits:
    """Every finished render, up to the recipe's count; more may still be on their way."""
    renders = load_renders(work.renders, recipe.renders, recipe.size_px)
    arrays = (renders.images, renders.identity, renders.scene, renders.landmarks)
    images, identity, scene, landmarks = map(torch.from_numpy, arrays)
    return Portraits(images, identity, scene, landmarks, renders.words)
