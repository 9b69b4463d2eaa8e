"""Reading pairs: a folder of shards as a sequence, with images decoded when they are asked for."""

from __future__ import annotations

import bisect
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, overload

import torch
from torch import Tensor

from topcoat import hub
from topcoat.errors import DataError, UsageError
from topcoat.files import sha256_of
from topcoat.images import decode_image
from topcoat.pairs.manifest import Manifest, read_manifest
from topcoat.pairs.schema import (
    BASELINE_LATENTS,
    PairingConfig,
    PairRecord,
    distilled_column,
    latents_column,
    read_cells,
    read_layout,
    read_records,
)
from topcoat.prompts import Split

Side = Literal["distilled", "baseline"]
"""The two sides of a pair."""

_READERS = 4  # threads that compare digests
_CACHED_COLUMNS = 16  # columns of row groups in memory, undecoded; two of them are at most about 16 MB


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


@dataclass(frozen=True, slots=True)
class _Group:
    """A row group: its shard and that one's SHA-256, its number there and the dataset row it starts at."""

    shard: Path
    sha256: str
    number: int
    start: int


class PairDataset(Sequence[Pair]):
    """Pairs in a folder made by `build_pairs`; `open` reads texts, images are read when asked for."""

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        groups: Sequence[_Group],
        records: Sequence[PairRecord],
        rows: Sequence[int],
        steps: int | None = None,
    ) -> None:
        """A view of some rows of an opened folder; use `open`, `split` and `with_steps`."""
        self.folder = folder
        """Where the pairs lie."""
        self.manifest = manifest
        """What made them."""
        self.records = tuple(records)
        """Every record, without images."""
        self._groups = groups
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
            rows = read_records(shard)
            if len(rows) != entry.rows:
                raise DataError(
                    f"{shard} has {len(rows)} pairs, the manifest says {entry.rows}; delete it and build again"
                )
            start = len(records)
            for number, size in enumerate(read_layout(shard)[1]):
                groups.append(_Group(shard, entry.sha256, number, start))
                start += size
            records += rows
        return cls(folder, manifest, groups, records, range(len(records)))

    @classmethod
    def from_pretrained(cls, repo: str, *, revision: str | None = None, folder: Path | None = None) -> PairDataset:
        """Fetch and open the dataset in the Hugging Face repository ``owner/name`` at ``revision``.

        It lies in this machine's cache, or in ``folder``, which is a dataset's folder like any other then. What is
        there already is not fetched again. Raises `DataError` if the hub refuses or cannot be reached, or the
        repository holds no pairs of topcoat.
        """

        def fetched(*files: str) -> Path:
            return hub.download(repo, files, what="the pairs", revision=revision, kind="dataset", folder=folder)

        manifest = read_manifest(fetched("manifest.json", "README.md"))
        return cls.open(fetched(*(f"data/{entry.name}" for entry in manifest.shards)))

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
        for record in self.records:
            digest.update(b"\0" + record.id.encode())
        if self._steps is not None:
            digest.update(f"\0steps {self._steps}".encode())
        return digest.hexdigest()

    @property
    def pairing(self) -> PairingConfig:
        """How the images were generated, and what else is kept of each pair."""
        return self.manifest.pairing

    @property
    def steps(self) -> tuple[int, ...]:
        """The distilled step counts of `with_steps`, first that of the whole dataset; none for imported pairs."""
        own = self.manifest.distilled.get("steps")
        return (*(() if own is None else (own,)), *self.pairing.distilled_steps)

    def split(self, name: Split) -> PairDataset:
        """The pairs of one split; may be empty. Raises `UsageError` for another name."""
        if name not in get_args(Split):
            raise UsageError(f"no split is called {name!r}; use one of: {', '.join(get_args(Split))}")
        chosen = [index for index, record in enumerate(self.records) if record.split == name]
        records, rows = [self.records[index] for index in chosen], [self._rows[index] for index in chosen]
        return PairDataset(self.folder, self.manifest, self._groups, records, rows, self._steps)

    def with_steps(self, steps: int) -> PairDataset:
        """The same pairs with the distilled images (and latents) of ``steps`` steps.

        Raises `UsageError` if the dataset has no distilled images of that many steps.
        """
        if steps not in self.steps:
            available = ", ".join(str(count) for count in self.steps) or "the images as they are"
            raise UsageError(f"{self.folder} has no distilled images of {steps} steps; use one of: {available}")
        own = None if steps == self.manifest.distilled.get("steps") else steps
        return PairDataset(self.folder, self.manifest, self._groups, self.records, self._rows, own)

    def image(self, index: int, side: Side) -> Tensor:
        """One image ``(3, H, W)`` of one side; raises `IndexError` outside the dataset."""
        return decode_image(*self.encoded(index, side))

    def encoded(self, index: int, side: Side) -> tuple[bytes, str]:
        """The bytes of an image's file, and what to call it; raises `IndexError` outside the dataset."""
        data = self._cell(index, distilled_column(self._steps) if side == "distilled" else side)["bytes"].as_py()
        if data is None:
            raise DataError(
                f"pair {self.records[index].id} has no {side} image; build or import the pairs again, or take it out"
            )
        return data, f"{side} image of pair {self.records[index].id}"

    def latents(self, index: int) -> Tensor | None:
        """The distilled latents ``(C, h, w)`` float32, or None where none were kept; raises `IndexError` outside."""
        return self._latents(index, latents_column(self._steps)) if self.pairing.latents else None

    def baseline_latents(self, index: int) -> Tensor | None:
        """The baseline latents ``(C, h, w)`` float32, or None where none were kept; raises `IndexError` outside."""
        return self._latents(index, BASELINE_LATENTS) if self.pairing.baseline_latents else None

    def _latents(self, index: int, column: str) -> Tensor:
        return torch.from_numpy(self._cell(index, column).astype("float32"))

    def _cell(self, index: int, column: str) -> Any:
        row = self._rows[index]
        group = self._groups[bisect.bisect_right(self._groups, row, key=lambda group: group.start) - 1]
        return _cells(group.shard, group.sha256, group.number, column)[row - group.start]

    def batches(self, size: int, count: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Both sides ``(N, 3, H, W)`` of the first ``count`` pairs (by default all), ``size`` at a time."""
        end = len(self) if count is None else min(count, len(self))
        for start in range(0, end, size):
            rows = range(start, min(start + size, end))
            distilled, baseline = (torch.stack([self.image(row, side) for row in rows]) for side in get_args(Side))
            yield distilled, baseline

    def verify(self, on_progress: Callable[[int, int], None] | None = None) -> None:
        """Read every byte and compare it with the manifest; raises `DataError` for a shard that was changed.

        ``on_progress`` is called with (shards compared, shards).
        """
        entries = self.manifest.shards
        paths = [self.folder / "data" / entry.name for entry in entries]
        with ThreadPoolExecutor(_READERS) as pool:  # a digest is computed without Python's lock
            digests = pool.map(sha256_of, paths)
            for done, (entry, path, digest) in enumerate(zip(entries, paths, digests, strict=True), start=1):
                if digest != entry.sha256:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise DataError(f"{path} was changed since it was built; delete it and build the pairs again")
                if on_progress is not None:
                    on_progress(done, len(entries))

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> list[Pair]: ...
    def __getitem__(self, index: int | slice) -> Pair | list[Pair]:
        if isinstance(index, slice):
            return [self[position] for position in range(len(self))[index]]
        return Pair(
            self.records[index],
            self.image(index, "distilled"),
            self.image(index, "baseline"),
            self.latents(index),
            self.baseline_latents(index),
        )

    def __repr__(self) -> str:
        return f"PairDataset({str(self.folder)!r}, {len(self)} pairs of {self.manifest.pair})"


@functools.lru_cache(maxsize=_CACHED_COLUMNS)
def _cells(shard: Path, sha256: str, row_group: int, column: str) -> Any:
    """One column of a row group, undecoded; ``sha256`` tells a shard from the one it replaced."""
    return read_cells(shard, column, row_group)
