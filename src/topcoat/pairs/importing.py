"""Others' paired images as a dataset of pairs: checked one by one, converted to PNG, with a manifest."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from topcoat.errors import DataError, TopcoatError, UsageError
from topcoat.files import write_text
from topcoat.generators.base import Licence
from topcoat.images import decode_image, encode_png
from topcoat.pairs.card import dataset_card
from topcoat.pairs.dataset import PairDataset
from topcoat.pairs.manifest import FORMAT, Failure, Manifest, ShardEntry, versions, write_manifest
from topcoat.pairs.records import PairRecord, as_row, shard_schema
from topcoat.pairs.shards import write_shard
from topcoat.pairs.sources import Item, Source
from topcoat.prompts import prompt_from_text, split_of_id

UNKNOWN_LICENCE = Licence(name="unknown", url="", note="Nobody said under which terms these images may be used.")


@dataclass(frozen=True, slots=True)
class _Good:
    """A checked item: its record, both PNG files and the size of both."""

    record: PairRecord
    distilled: bytes
    baseline: bytes
    size_px: tuple[int, int]


def import_pairs(
    source: Source,
    folder: str | Path,
    *,
    name: str,
    licence: Licence = UNKNOWN_LICENCE,
    shard_size: int = 250,
    on_progress: Callable[[int, int], None] | None = None,
) -> PairDataset:
    """Convert ``source`` to a dataset in ``folder``, which must be new or empty.

    An item that lacks a side, cannot be decoded, has sides of two sizes or another size than the first good one is
    listed as a failure in the manifest, and the rest goes on. Nothing is known of seeds, so the column holds the
    item's position. The split follows the prompt, or the item's name where it has none. The folder appears in one
    piece at the end; a stopped import leaves nothing there.

    Raises `UsageError` for a bad name or size, `DataError` if the folder is in use, cannot be written, or no item can
    be used.
    """
    if not name.strip() or shard_size < 1:
        raise UsageError(f"pair name {name!r} and shard size {shard_size} are not possible; give a name, and 1 or more")
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is not an empty folder; choose another one, nothing was changed")
    total = len(source)
    workplace = folder.with_name(f".{folder.name}.importing")
    shutil.rmtree(workplace, ignore_errors=True)  # of an import that was stopped
    try:
        manifest = _written(source, workplace, name, licence, shard_size, total, on_progress)
        write_manifest(workplace, manifest)
        write_text(workplace / "README.md", dataset_card(manifest))
        os.replace(workplace, folder)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
    return PairDataset.open(folder)


def _written(
    source: Source,
    workplace: Path,
    name: str,
    licence: Licence,
    shard_size: int,
    total: int,
    on_progress: Callable[[int, int], None] | None,
) -> Manifest:
    """Write all shards; returns the manifest that lists them."""
    failures: list[Failure] = []
    shards: list[ShardEntry] = []
    sizes: list[tuple[int, int]] = []
    good = _checked(source, failures, sizes, total, on_progress)
    first = next(good, None)
    while first is not None:
        chunk = _chunk(first, good, shard_size)
        path = workplace / "data" / f"train-{len(shards):05d}.parquet"
        shards.append(write_shard(path, chunk, shard_schema()))
        first = next(good, None)
    if not shards:
        last = f"; the last one: {failures[-1].id} {failures[-1].error}" if failures else ""
        raise DataError(f"none of {total} items can be used{last}")
    width, height = sizes[0]
    side = {"width_px": width, "height_px": height, "licence": licence.model_dump(mode="json")}
    identity: dict[str, Any] = {
        "imported": source.words,
        "distilled": {"name": f"{name}-distilled", **side},
        "baseline": {"name": f"{name}-baseline", **side},
    }
    return Manifest(
        format=FORMAT,
        pair=name,
        identity=identity,
        shard_size=shard_size,
        versions=versions(),
        shards=tuple(shards),
        failures=tuple(failures),
    )


def _chunk(first: _Good, rest: Iterator[_Good], count: int) -> Iterator[dict[str, Any]]:
    """The rows of one shard: ``first`` and up to ``count - 1`` of the rest."""
    item: _Good | None = first
    for position in range(count):
        if item is None:
            return
        yield as_row(item.record, item.distilled, item.baseline)
        item = next(rest, None) if position < count - 1 else None


def _checked(
    source: Source,
    failures: list[Failure],
    sizes: list[tuple[int, int]],
    total: int,
    on_progress: Callable[[int, int], None] | None,
) -> Iterator[_Good]:
    """The usable items; the others go to ``failures``. ``sizes`` gets the size of the first one."""
    for position, item in enumerate(source):
        try:
            good = _good(item, position)
            if sizes and good.size_px != sizes[0]:
                raise DataError(f"is {_px(good.size_px)}, the first pair is {_px(sizes[0])}; resize it")
        except TopcoatError as error:
            failures.append(Failure(id=item.name, prompt=item.prompt, seed=position, error=str(error)))
        else:
            if not sizes:
                sizes.append(good.size_px)
            yield good
        if on_progress is not None:
            on_progress(position + 1, total)


def _good(item: Item, position: int) -> _Good:
    """The item, checked; raises `DataError` with the reason why it cannot be used."""
    if item.problem:
        raise DataError(item.problem)
    for side, data in (("distilled", item.distilled), ("baseline", item.baseline)):
        if data is None:
            raise DataError(f"has no {side} image")
    images = [
        decode_image(data or b"", f"its {side} image")
        for side, data in (("distilled", item.distilled), ("baseline", item.baseline))
    ]
    sizes = [_size_px(image) for image in images]
    if sizes[0] != sizes[1]:
        raise DataError(f"has two sizes, distilled {_px(sizes[0])} and baseline {_px(sizes[1])}; make them one")
    split = prompt_from_text(item.prompt).split if item.prompt else split_of_id(item.name)
    digest = hashlib.sha256(item.name.encode()).hexdigest()[:16]
    record = PairRecord(f"{digest}-{position}", item.prompt, position, {}, split)
    return _Good(record, encode_png(images[0]), encode_png(images[1]), sizes[0])


def _size_px(image: Tensor) -> tuple[int, int]:
    return image.shape[-1], image.shape[-2]


def _px(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} px"
