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

from torch import Tensor

from topcoat.errors import DataError, UsageError
from topcoat.files import sha256_of
from topcoat.images import decode_image
from topcoat.pairs.manifest import Manifest, read_manifest
from topcoat.pairs.records import IMAGE_COLUMNS, PairRecord, read_columns, read_records, row_group_sizes
from topcoat.prompts import Split

Side = Literal["distilled", "baseline"]
"""The two image columns."""

_KEPT_GROUPS = 8  # row groups of undecoded images in memory; each is at most about 16 MB


@dataclass(frozen=True)
class Pair:
    """One pair: its record and both images ``(3, H, W)`` in [0, 1]."""

    record: PairRecord
    distilled: Tensor
    baseline: Tensor


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

    def __init__(self, store: _Store, records: Sequence[PairRecord], rows: Sequence[int]) -> None:
        self._store = store
        self._records = tuple(records)
        self._rows = tuple(rows)

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
        return digest.hexdigest()

    def split(self, name: Split) -> PairDataset:
        """The pairs of one split, sharing this dataset's cache; may be empty. Raises `UsageError` for another name."""
        if name not in get_args(Split):
            raise UsageError(f"no split is called {name!r}; use one of: {', '.join(get_args(Split))}")
        chosen = [index for index, record in enumerate(self._records) if record.split == name]
        return PairDataset(
            self._store, [self._records[index] for index in chosen], [self._rows[index] for index in chosen]
        )

    def image(self, index: int, column: Side) -> Tensor:
        """One image ``(3, H, W)`` of one side; raises `IndexError` outside the dataset."""
        row = self._rows[index]
        return decode_image(self._store.row(row)[column]["bytes"], f"{column} image of pair {self._records[index].id}")

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
        return Pair(self._records[index], self.image(index, "distilled"), self.image(index, "baseline"))

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
    """Undecoded rows of a folder, a few row groups at a time; shared by all views, safe to use from threads."""

    def __init__(self, folder: Path, manifest: Manifest, groups: Sequence[_Group]) -> None:
        self.folder = folder
        self.manifest = manifest
        self._groups = groups
        self._starts = [group.start for group in groups]
        self._kept: OrderedDict[int, list[dict[str, Any]]] = OrderedDict()
        self._lock = threading.Lock()

    def row(self, row: int) -> dict[str, Any]:
        """Both images of dataset row ``row`` as ``{column: {"bytes", "path"}}``."""
        number = bisect.bisect_right(self._starts, row) - 1
        group = self._groups[number]
        with self._lock:
            rows = self._kept.pop(number, None)
            if rows is None:
                rows = read_columns(group.shard, list(IMAGE_COLUMNS), group.number)
            self._kept[number] = rows
            while len(self._kept) > _KEPT_GROUPS:
                self._kept.popitem(last=False)
        return rows[row - group.start]

    def __getstate__(self) -> dict[str, Any]:
        """Worker processes start with an empty cache and a lock of their own."""
        return {"folder": self.folder, "manifest": self.manifest, "groups": self._groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["folder"], state["manifest"], state["groups"])
