"""Painting batches once: from the store where they are kept, else by the generator, with the seconds it took."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from topcoat.cost import hardware, timed
from topcoat.errors import UsageError
from topcoat.generators.base import Generator, LatentGenerator
from topcoat.pairs.manifest import spec_identity
from topcoat.proof.store import Shard, ShardStore, to_bytes


class Painter:
    """A generator whose batches are kept in a store.

    It is warmed up on the first batch of ``batch_size`` images that it has to paint, so that no seconds hold the
    costs of a first run.
    """

    def __init__(self, generator: Generator, store: ShardStore, batch_size: int) -> None:
        self.generator = generator
        self._identity = spec_identity(generator.spec)
        self._store = store
        self._batch_size = batch_size
        self._machine = str(hardware())
        self._warm = False

    def paint(self, stage: str, prompts: list[str], seeds: list[int], steps: int | None = None) -> Shard:
        """Images of one batch as 8-bit values, and the seconds that painting them took, now or when it was kept.

        ``stage`` names the folder in the store; ``steps`` None means the generator's own count.
        """
        return self._kept(stage, prompts, seeds, steps, self.generator.generate, to_bytes)

    def paint_latents(self, stage: str, prompts: list[str], seeds: list[int], steps: int | None = None) -> Shard:
        """Latents ``(N, C, H/8, W/8)`` of one batch as float16, and the seconds without any decoding.

        Raises `UsageError` if the generator gives no latents.
        """
        generator = self.generator
        if not isinstance(generator, LatentGenerator):
            raise UsageError(f"the generator {generator.spec.name} gives no latents; leave out heads that take them")
        return self._kept(f"{stage}-latents", prompts, seeds, steps, generator.generate_latents, _as_half)

    def _kept(
        self,
        stage: str,
        prompts: list[str],
        seeds: list[int],
        steps: int | None,
        make: Callable[..., Tensor],
        pack: Callable[[Tensor], Tensor],
    ) -> Shard:
        steps = None if steps == self.generator.spec.steps else steps
        key: dict[str, Any] = {"model": self._identity, "prompts": prompts, "seeds": seeds, "steps": steps}
        key["machine"] = self._machine  # its seconds belong to this machine
        shard = self._store.get(stage, key)
        if shard is None:
            if not self._warm and len(prompts) == self._batch_size:
                make(prompts, seeds, steps=1)
                self._warm = True
            made: list[Tensor] = []
            seconds = timed(lambda: made.append(make(prompts, seeds, steps=steps)))
            shard = Shard(pack(made[0]), seconds)
            self._store.put(stage, key, shard)
        return shard


def _as_half(latents: Tensor) -> Tensor:
    return latents.to("cpu", torch.float16)
