"""What took long, kept by content: by all that decides images and scores, and by the machine of the seconds."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from topcoat.cost.machine import hardware
from topcoat.cost.measure import Meter, Spent
from topcoat.errors import DataError, UsageError
from topcoat.files import atomic_path, read_json, write_json
from topcoat.generators.base import Generator, LatentGenerator
from topcoat.pairs.manifest import spec_identity


@dataclass(frozen=True, slots=True)
class Batch:
    """Images ``(N, 3, H, W)`` uint8 or latents ``(N, C, H/8, W/8)`` float16, and what it took to make them."""

    images: Tensor
    spent: Spent


class Store:
    """Batches as safetensors files and evaluations as JSON files in ``folder``; with None batches stay in memory.

    A damaged file counts as none, and is made again. What cannot be written raises `DataError`.
    """

    def __init__(self, folder: str | Path | None) -> None:
        self._folder = None if folder is None else Path(folder)
        self._memory: dict[str, Batch] = {}
        self.in_memory = folder is None

    def batch(self, key: dict[str, Any]) -> Batch | None:
        """The batch made with exactly ``key``, or None."""
        name = _name(key) + ".safetensors"
        if self._folder is None:
            return self._memory.get(name)
        try:
            with safe_open(self._folder / name, framework="pt") as file:
                spent = {name: json.loads(value) for name, value in file.metadata().items()}
                return Batch(file.get_tensor("images"), Spent(**spent))
        except (OSError, SafetensorError, TypeError, AttributeError, ValueError):
            return None

    def keep_batch(self, key: dict[str, Any], batch: Batch) -> None:
        """Keep a batch."""
        name = _name(key) + ".safetensors"
        if self._folder is None:
            self._memory[name] = batch
            return
        spent = {name: json.dumps(value) for name, value in dataclasses.asdict(batch.spent).items()}
        with atomic_path(self._folder / name) as temporary:
            save_file({"images": batch.images.contiguous()}, temporary, metadata=spent)

    def evaluation(self, key: dict[str, Any]) -> Any:
        """The JSON values measured with exactly ``key``, or None."""
        if self._folder is None:
            return None
        try:
            return read_json(self._folder / f"{_name(key)}.json")
        except DataError:
            return None

    def keep_evaluation(self, key: dict[str, Any], values: Any) -> None:
        """Keep JSON values."""
        if self._folder is not None:
            write_json(self._folder / f"{_name(key)}.json", values)


class CachedGenerator:
    """A generator whose batches are kept in a store.

    It is warmed up before the first full batch that it has to make, so that no seconds hold the cost of a first run.
    """

    def __init__(self, generator: Generator, store: Store, batch_size: int) -> None:
        self.generator = generator
        self.meter = Meter(getattr(generator, "device", "cpu"))
        # In memory a batch is found by the same models alone, so that no weights need be read for their digests.
        self._identity = id(generator) if store.in_memory else spec_identity(generator.spec)
        self._store = store
        self._batch_size = batch_size
        self._machine = str(hardware())
        self._warm = False

    def batch(self, prompts: list[str], seeds: list[int], steps: int, *, latents: bool = False) -> Batch:
        """Images of one batch as 8-bit values, or its latents as float16, whose seconds hold no decoding.

        Raises `UsageError` for ``latents`` of a generator without any.
        """
        make: Callable[..., Tensor] = self.generator.generate
        if latents:
            if not isinstance(self.generator, LatentGenerator):
                name = self.generator.spec.name
                raise UsageError(f"the generator {name} gives no latents; leave out heads that take them")
            make = self.generator.generate_latents
        key = {"kind": "latents" if latents else "images", "model": self._identity, "machine": self._machine}
        key |= {"prompts": prompts, "seeds": seeds, "steps": steps}
        batch = self._store.batch(key)
        if batch is None:
            if not self._warm and len(prompts) == self._batch_size:
                make(prompts, seeds, steps=1)
                self._warm = True
            made, spent = self.meter.run(lambda: make(prompts, seeds, steps=steps))
            batch = Batch(made.to("cpu", torch.float16) if latents else to_bytes(made), spent)
            self._store.keep_batch(key, batch)
        return batch


def to_bytes(images: Tensor) -> Tensor:
    """8-bit values of images ``(N, 3, H, W)`` in [0, 1]: what a picture file holds."""
    return (images.detach().to("cpu", torch.float32).clamp(0, 1) * 255).round().to(torch.uint8)


def to_floats(images: Tensor) -> Tensor:
    """Images in [0, 1] from 8-bit values."""
    return images.to(torch.float32) / 255


def _name(key: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:20]
