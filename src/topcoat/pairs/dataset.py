"""Reading pairs: a folder of shards as a sequence, with images decoded when they are asked for."""

from __future__ import annotations

import bisect
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, overload

import torch
from torch import Tensor

from topcoat.errors import DataError, UsageError
from topcoat.files import sha256_of
from topcoat.images import decode_image
from topcoat.pairs.manifest import Manifest, read_manifest
from topcoat.pairs.painting import Painting, painting_of
from topcoat.pairs.records import (
    BASELINE_LATENTS,
    LATENTS,
    PairRecord,
    distilled_column,
    latents_column,
    read_columns,
    read_latents,
    read_records,
    row_group_sizes,
)
from topcoat.prompts import Split

Side = Literal["distilled", "baseline"]
"""The two sides of a pair."""

_KEPT_COLUMNS = 16  # columns of row groups in memory, undecoded; two of them are at most about 16 MB


@dataclass(frozen=True)
class Pair:
    """One pair: its record, both images ``(3, H, W)`` in [0, 1] and, where kept, the latents ``(C, h, w)`` of each."""

    record: PairRecord
    distilled: Tensor
    baseline: Tensor
    latents: Tensor | None = None
    """The distilled ones."""
    baseline_latents: Tensor | None = None


class ImageColumn(Sequence[Tensor]):
    """One side of a dataset as a sequence of images ``(3, H, W)``; can be iterated any number of times."""

    def __init__(self, dataset: PairDataset, name: Side) -> None:
        self._dataset = dataset
        self._name: Side = name

    def __len__(self) -> int:
        return len(self._dataset)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        if isinstance(index, slice):
            return [self[position] for position in range(len(self))[index]]
        return self._dataset.image(index, self._name)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[index] for index in range(len(self)))


class PairDataset(Sequence[Pair]):
    """Pairs in a folder made by `build_pairs`; `open` reads texts, images are read when asked for."""

    def __init__(
        self, store: _Store, records: Sequence[PairRecord], rows: Sequence[int], steps: int | None = None
    ) -> None:
        """A view of some rows of an opened folder; use `open`, `split` and `with_steps`."""
        self._store = store
        self._records = tuple(records)
        self._rows = tuple(rows)
        self._steps = steps

    @classmethod
    def open(cls, folder: str | Path) -> PairDataset:
        """Open a folder of pairs; raises `DataError` if it is none, or a shard is missing or damaged."""
        folder = Path(folder)
        manifest = read_manifest(folder)
        records: list[PairRecord] = []
        groups: list[_Group] = []
        for entry in manifest.shards:
            shard = folder / "data" / entry.name
            found = read_records(shard)
            if len(found) != entry.rows:
                raise DataError(
                    f"{shard} has {len(found)} pairs, the manifest says {entry.rows}; delete it and build again"
                )
            start = len(records)
            for number, size in enumerate(row_group_sizes(shard)):
                groups.append(_Group(shard, number, start))
                start += size
            records += found
        return cls(_Store(folder, manifest, groups), records, range(len(records)))

    @property
    def folder(self) -> Path:
        """Where the pairs lie."""
        return self._store.folder

    @property
    def manifest(self) -> Manifest:
        """What made them."""
        return self._store.manifest

    @property
    def records(self) -> tuple[PairRecord, ...]:
        """Every record, without images."""
        return self._records

    @property
    def distilled(self) -> ImageColumn:
        """The distilled images."""
        return ImageColumn(self, "distilled")

    @property
    def baseline(self) -> ImageColumn:
        """The baseline images."""
        return ImageColumn(self, "baseline")

    @property
    def digest(self) -> str:
        """64 hex digits that change if any pair of this dataset or view, or their order, does."""
        digest = hashlib.sha256()
        for entry in self.manifest.shards:
            digest.update(entry.sha256.encode())
        for record in self._records:
            digest.update(b"\0" + record.id.encode())
        if self._steps is not None:
            digest.update(f"\0steps {self._steps}".encode())
        return digest.hexdigest()

    @property
    def painting(self) -> Painting:
        """What was painted of each prompt."""
        return painting_of(self.manifest.identity)

    @property
    def steps(self) -> tuple[int, ...]:
        """The distilled step counts that can be had by `with_steps`, first that of the whole dataset; may be none."""
        own = self._own_steps
        return (*(() if own is None else (own,)), *self.painting.distilled_steps)

    @property
    def _own_steps(self) -> int | None:
        """None where nobody painted, as in a dataset that was imported."""
        return self.manifest.identity["distilled"].get("steps")

    def split(self, name: Split) -> PairDataset:
        """The pairs of one split, sharing this dataset's cache; may be empty. Raises `UsageError` for another name."""
        if name not in get_args(Split):
            raise UsageError(f"no split is called {name!r}; use one of: {', '.join(get_args(Split))}")
        chosen = [index for index, record in enumerate(self._records) if record.split == name]
        return PairDataset(
            self._store,
            [self._records[index] for index in chosen],
            [self._rows[index] for index in chosen],
            self._steps,
        )

    def with_steps(self, steps: int) -> PairDataset:
        """The same pairs with the distilled images (and latents) of ``steps`` steps, sharing this dataset's cache.

        Raises `UsageError` if the distilled model did not paint that many steps here.
        """
        if steps not in self.steps:
            there = ", ".join(str(count) for count in self.steps) or "the images as they are"
            raise UsageError(f"{self.folder} has no distilled images of {steps} steps; use one of: {there}")
        return PairDataset(self._store, self._records, self._rows, None if steps == self._own_steps else steps)

    def image(self, index: int, column: Side) -> Tensor:
        """One image ``(3, H, W)`` of one side; raises `IndexError` outside the dataset."""
        name = distilled_column(self._steps) if column == "distilled" else column
        cell = self._store.cell(self._rows[index], name)
        if cell is None or cell["bytes"] is None:
            raise DataError(
                f"pair {self._records[index].id} has no {column} image; build or import the pairs again, or take it out"
            )
        return decode_image(cell["bytes"], f"{column} image of pair {self._records[index].id}")

    def latents(self, index: int) -> Tensor | None:
        """The distilled latents ``(C, h, w)`` float32, or None where none were kept; raises `IndexError` outside."""
        return self._kept_latents(index, latents_column(self._steps), self.painting.latents)

    def baseline_latents(self, index: int) -> Tensor | None:
        """The baseline latents ``(C, h, w)`` float32, or None where none were kept; raises `IndexError` outside."""
        return self._kept_latents(index, BASELINE_LATENTS, self.painting.baseline_latents)

    def _kept_latents(self, index: int, column: str, kept: bool) -> Tensor | None:
        row = self._rows[index]
        return torch.from_numpy(self._store.cell(row, column).astype("float32")) if kept else None

    def batches(self, size: int, count: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Both sides ``(N, 3, H, W)`` of the first ``count`` pairs (by default all), ``size`` at a time."""
        end = len(self) if count is None else min(count, len(self))
        for start in range(0, end, size):
            rows = range(start, min(start + size, end))
            distilled, baseline = (torch.stack([self.image(row, side) for row in rows]) for side in get_args(Side))
            yield distilled, baseline

    def verify(self) -> None:
        """Read every byte and compare it with the manifest; raises `DataError` for a shard that was changed."""
        for entry in self.manifest.shards:
            shard = self.folder / "data" / entry.name
            if sha256_of(shard) != entry.sha256:
                raise DataError(f"{shard} was changed since it was built; delete it and build the pairs again")

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> list[Pair]: ...
    def __getitem__(self, index: int | slice) -> Pair | list[Pair]:
        if isinstance(index, slice):
            return [self[position] for position in range(len(self))[index]]
        return Pair(
            self._records[index],
            self.image(index, "distilled"),
            self.image(index, "baseline"),
            self.latents(index),
            self.baseline_latents(index),
        )

    def __iter__(self) -> Iterator[Pair]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        return f"PairDataset({str(self.folder)!r}, {len(self)} pairs of {self.manifest.pair})"


@dataclass(frozen=True)
class _Group:
    """A row group: its shard, its number there and the dataset row it starts at."""

    shard: Path
    number: int
    start: int


class _Store:
    """Undecoded columns of a folder, a few row groups at a time; shared by all views, safe to use from threads."""

    def __init__(self, folder: Path, manifest: Manifest, groups: Sequence[_Group]) -> None:
        self.folder = folder
        self.manifest = manifest
        self._groups = groups
        self._starts = [group.start for group in groups]
        self._kept: OrderedDict[tuple[int, str], Any] = OrderedDict()
        self._lock = threading.Lock()

    def cell(self, row: int, column: str) -> Any:
        """One column of dataset row ``row``: an image as ``{"bytes", "path"}``, latents as an array ``(C, h, w)``."""
        number = bisect.bisect_right(self._starts, row) - 1
        group, key = self._groups[number], (number, column)
        with self._lock:
            values = self._kept.pop(key, None)
            if values is None:
                values = _read(group, column)
            self._kept[key] = values
            while len(self._kept) > _KEPT_COLUMNS:
                self._kept.popitem(last=False)
        return values[row - group.start]

    def __getstate__(self) -> dict[str, Any]:
        """Worker processes start with an empty cache and a lock of their own."""
        return {"folder": self.folder, "manifest": self.manifest, "groups": self._groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["folder"], state["manifest"], state["groups"])


def _read(group: _Group, column: str) -> Any:
    if column.startswith(LATENTS):
        return read_latents(group.shard, column, group.number)
    return [row[column] for row in read_columns(group.shard, [column], group.number)]
