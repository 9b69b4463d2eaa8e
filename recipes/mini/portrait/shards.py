"""Shards of rendered portraits on disk: how they are written, kept half done, and read back.

A shard is a safetensors file with ``images`` uint8 (n, 3, H, W), ``identity`` and ``scene`` float32 (n, ...),
``landmarks`` float32 (n, 68, 2) in pixels and ``index`` int64 (n,); its metadata hold the ``words`` of every portrait
and the indices that ``failed``, both as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save

from recipes.mini.portrait.words import Words, sample_words

SHARD_RENDERS = 250
WORDS_SEED = 20
"""Seed of the words of all renders."""


@dataclass(frozen=True)
class Renders:
    """Portraits in memory: ``images`` uint8 (N, 3, H, W), vectors (N, ...), ``landmarks`` (N, 68, 2) in pixels."""

    images: np.ndarray
    identity: np.ndarray
    scene: np.ndarray
    landmarks: np.ndarray
    index: np.ndarray
    words: list[Words]

    @property
    def prompts(self) -> list[str]:
        """The words of each portrait as a sentence."""
        return [words.sentence() for words in self.words]


@dataclass(frozen=True)
class Shard:
    """Portraits ``first`` to ``first + count - 1`` and where they are written."""

    folder: Path
    first: int
    count: int

    @property
    def path(self) -> Path:
        """The finished shard."""
        return self.folder / f"{self.first // SHARD_RENDERS:05d}.safetensors"

    @property
    def partial(self) -> Path:
        """What is there of a shard in the making."""
        return self.path.with_suffix(".part")


def shards(folder: Path, count: int, first: int = 0) -> Iterator[Shard]:
    """All shards of portraits ``first`` (a multiple of `SHARD_RENDERS`) to ``count - 1``, the last perhaps shorter."""
    for start in range(first, count, SHARD_RENDERS):
        yield Shard(folder, start, min(SHARD_RENDERS, count - start))


def save_portraits(path: Path, done: Mapping[int, Mapping[str, np.ndarray]], failed: set[int]) -> None:
    """Write the portraits to ``path``, at once or not at all."""
    if not done:
        raise ValueError(f"{path} would hold no portrait")
    order = sorted(done)
    arrays = {key: np.stack([done[index][key] for index in order]) for key in done[order[0]]}
    arrays["index"] = np.array(order, np.int64)
    words = [vars(sample_words(index, WORDS_SEED)) for index in order]
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(save(arrays, {"words": json.dumps(words), "failed": json.dumps(sorted(failed))}))
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def load_partial(shard: Shard) -> tuple[dict[int, dict[str, np.ndarray]], set[int]]:
    """Portraits of ``shard`` that were kept, by index, and those that failed."""
    if not shard.partial.exists():
        return {}, set()
    arrays = load_file(shard.partial)
    with safe_open(shard.partial, "numpy") as file:
        failed = set(json.loads(file.metadata()["failed"]))
    index = arrays.pop("index")
    return {int(i): {key: value[n] for key, value in arrays.items()} for n, i in enumerate(index)}, failed


def count_done(every: list[Shard]) -> int:
    """Portraits on disk, those of unfinished shards included."""
    total = 0
    for shard in every:
        if shard.path.exists():
            total += shard.count
        elif shard.partial.exists():
            with contextlib.suppress(Exception), safe_open(shard.partial, "numpy") as file:
                total += len(file.get_tensor("index"))
    return total


def reopen(shard: Shard) -> None:
    """Make a finished shard one in the making where a larger count now asks more of it."""
    if not shard.path.exists():
        return
    with safe_open(shard.path, "numpy") as file:
        held = len(file.get_tensor("index")) + len(json.loads(file.metadata()["failed"]))
    if held < shard.count:
        os.replace(shard.path, shard.partial)


def load_shard(path: Path, size_px: int | None = None) -> Renders:
    """The portraits of a finished shard; ``size_px`` takes the area average of the pictures."""
    arrays = load_file(path)
    with safe_open(path, "numpy") as file:
        words = [Words(**entry) for entry in json.loads(file.metadata()["words"])]
    if size_px is not None:
        arrays["landmarks"] = arrays["landmarks"] * np.float32(size_px / arrays["images"].shape[-1])
        arrays["images"] = _area_average(arrays["images"], size_px)
    return Renders(words=words, **arrays)


def _area_average(images: np.ndarray, size_px: int) -> np.ndarray:
    """``images`` uint8 (N, 3, H, H) reduced to ``size_px``, each new pixel the mean of what it covers."""
    size = images.shape[-1]
    if size == size_px:
        return images
    # the share of each old pixel in each new one, along one axis
    edges = np.arange(size_px + 1) * (size / size_px)
    old = np.arange(size)
    cover = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)
    share = (np.clip(cover, 0.0, 1.0) * size_px / size).astype(np.float32)
    result = np.empty((*images.shape[:2], size_px, size_px), np.uint8)
    for number, image in enumerate(images):
        result[number] = np.rint(share @ image.astype(np.float32) @ share.T)
    return result
