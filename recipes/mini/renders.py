"""Stage 1: render the portraits that everything else learns from.

One shard holds 250 renders as uint8 ``images`` (n, 3, H, W) with the subjects' ``identity`` and ``scene`` vectors.
Render ``i`` depends on ``i`` alone, so shards may be made in any order, by any number of processes, and again.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from recipes.mini.meter import Meter
from recipes.mini.portrait.render import render_portrait
from recipes.mini.portrait.subject import IDENTITY_FIELDS, SCENE_FIELDS, sample_subject
from recipes.mini.recipe import PROMPT_SEED, Recipe, Workshop
from topcoat.files import atomic_path
from topcoat.prompts import Prompt, sample_prompts, words_of

SHARD_RENDERS = 250


@dataclass(frozen=True)
class Renders:
    """All renders in memory: ``images`` uint8 (N, 3, H, W), ``identity`` (N, I), ``scene`` (N, S), their prompts."""

    images: Tensor
    identity: Tensor
    scene: Tensor
    prompts: list[Prompt]


def make_renders(recipe: Recipe, shop: Workshop, processes: int) -> None:
    """Render every missing shard."""
    shop.renders.mkdir(parents=True, exist_ok=True)
    missing = [path for path in _shard_paths(recipe, shop) if not path.exists()]
    jobs = [(recipe, path) for path in missing]
    with (
        multiprocessing.get_context("spawn").Pool(processes, _use_one_thread) as pool,
        Meter("renders", len(jobs) * SHARD_RENDERS) as meter,
    ):
        for count, _ in enumerate(pool.imap_unordered(_render_shard, jobs), start=1):
            meter.update(count * SHARD_RENDERS, f"on {processes} processes")


def load_renders(recipe: Recipe, shop: Workshop) -> Renders:
    """Every shard that exists, up to the recipe's count; more renders may still be on their way."""
    shards = [load_file(path) for path in _shard_paths(recipe, shop) if path.exists()]
    if not shards:
        raise SystemExit(f"no renders in {shop.renders}; run the stage `renders` first")
    images, identity, scene = (torch.cat([shard[key] for shard in shards]) for key in ("images", "identity", "scene"))
    numbers = [int(path.stem) for path in _shard_paths(recipe, shop) if path.exists()]
    prompts = _prompts(recipe)
    kept = [prompts[i] for n in numbers for i in range(n * SHARD_RENDERS, (n + 1) * SHARD_RENDERS)]
    return Renders(images, identity, scene, kept)


def _prompts(recipe: Recipe) -> list[Prompt]:
    return sample_prompts(recipe.renders, PROMPT_SEED)


def _shard_paths(recipe: Recipe, shop: Workshop) -> Iterator[Path]:
    for number in range(recipe.renders // SHARD_RENDERS):
        yield shop.renders / f"{number:05d}.safetensors"


def _use_one_thread() -> None:
    torch.set_num_threads(1)


def _render_shard(job: tuple[Recipe, Path]) -> None:
    recipe, path = job
    first = int(path.stem) * SHARD_RENDERS
    prompts = sample_prompts(first + SHARD_RENDERS, PROMPT_SEED)[first:]
    images, identity, scene = [], [], []
    for index, prompt in enumerate(prompts, start=first):
        words = words_of(prompt)
        assert words is not None
        subject = sample_subject(words, index)
        image = render_portrait(subject, index, recipe.size_px, recipe.supersampling)
        images.append((image * 255).round().to(torch.uint8))
        identity.append(subject.vector(IDENTITY_FIELDS))
        scene.append(subject.vector(SCENE_FIELDS))
    tensors = {
        "images": torch.stack(images),
        "identity": torch.from_numpy(np.stack(identity)),
        "scene": torch.from_numpy(np.stack(scene)),
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)
