"""Batches of images kept on disk as 8-bit shards, so that a long proof goes on where it stopped.

A shard is named by what decides its images (model settings and weights, prompts, seeds, steps): new weights make new
shards, and a new head uses the old ones again. It also keeps the seconds that painting it took.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from topcoat.files import atomic_path


@dataclass(frozen=True, slots=True)
class Shard:
    """One batch: images ``(N, 3, H, W)`` uint8 (or float16 latents), and the seconds it took to make them."""

    images: Tensor
    seconds: float


class ShardStore:
    """Shards in ``folder``; with None nothing is kept and nothing is found."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def get(self, stage: str, key: dict[str, Any]) -> Shard | None:
        """The shard of ``stage`` made with exactly ``key``, or None; a damaged one counts as none and is made again."""
        if self._folder is None:
            return None
        try:
            with safe_open(self._path(stage, key), framework="pt") as file:
                return Shard(file.get_tensor("images"), float(file.metadata()["seconds"]))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None

    def put(self, stage: str, key: dict[str, Any], shard: Shard) -> None:
        """Keep a shard; raises `DataError` if it cannot be written."""
        if self._folder is None:
            return
        with atomic_path(self._path(stage, key)) as temporary:
            save_file({"images": shard.images.contiguous()}, temporary, metadata={"seconds": repr(shard.seconds)})

    def _path(self, stage: str, key: dict[str, Any]) -> Path:
        assert self._folder is not None
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:20]
        return self._folder / stage / f"{digest}.safetensors"


def to_bytes(images: Tensor) -> Tensor:
    """8-bit values of images ``(N, 3, H, W)`` in [0, 1]: what a picture file holds."""
    return (images.detach().to("cpu", torch.float32).clamp(0, 1) * 255).round().to(torch.uint8)


def to_floats(images: Tensor) -> Tensor:
    """Images in [0, 1] from 8-bit values."""
    return images.to(torch.float32) / 255
