"""A dataset of pairs in memory, as training reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from topcoat.images import encode_png
from topcoat.pairs.dataset import Pair, PairDataset, Side
from topcoat.pairs.manifest import FORMAT_VERSION, Manifest
from topcoat.prompts import Split


def fake_pair(distilled: Tensor, baseline: Tensor, latents: Tensor | None = None) -> Pair:
    record: Any = None  # nothing here reads the texts
    return Pair(record, distilled, baseline, latents)


class FakeDataset(PairDataset):
    """Pairs in memory, 8-bit exact; ``split`` cuts them in two."""

    manifest = Manifest(
        format_version=FORMAT_VERSION,
        pair="fake",
        distilled={"licence": {"name": "MIT"}},
        baseline={"licence": {"name": "MIT"}},
        shard_size=1,
        versions={},
        shards=(),
        failures=(),
        dropped=(),
    )

    def __init__(self, pairs: Sequence[Pair], validation: Sequence[Pair] = (), digest: str = "fake") -> None:
        self._pairs = list(pairs)
        self._validation = list(validation)
        self._digest = digest

    @property
    def digest(self) -> str:
        return self._digest

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: Any) -> Any:
        return self._pairs[index]

    def encoded(self, index: int, side: Side) -> tuple[bytes, str]:
        return encode_png(getattr(self[index], side)), f"{side} image {index}"

    def latents(self, index: int) -> Tensor | None:
        return self[index].latents

    def baseline_latents(self, index: int) -> Tensor | None:
        return self[index].baseline_latents

    def split(self, name: Split) -> FakeDataset:
        assert name in ("train", "val", "test")
        return FakeDataset({"train": self._pairs, "val": self._validation}.get(name, []), digest=self._digest)
