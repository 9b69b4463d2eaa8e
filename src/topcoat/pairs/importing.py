"""Images from elsewhere as a dataset: two folders of pictures, paired or not, or Parquet files with two image columns.

Every item is checked and converted to PNG or lossless WebP. The `datasets` library could read both layouts, but not
name what is wrong with one item and continue; and it would be a heavy dependency.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor
from torch.nn import functional as F

from topcoat.errors import DataError, TopcoatError, UsageError, first_few
from topcoat.files import FolderLock
from topcoat.generators.base import Licence
from topcoat.images import decode_image
from topcoat.pairs.build import shard_name
from topcoat.pairs.dataset import PairDataset
from topcoat.pairs.manifest import FORMAT_VERSION, Failure, Manifest, ShardEntry, versions, write_card, write_manifest
from topcoat.pairs.schema import ImageFormat, PairingConfig, PairRecord, as_row, shard_schema
from topcoat.pairs.shards import write_shard
from topcoat.pictures.folders import list_pictures, pictures_by_name
from topcoat.prompts import SPLITS, Split, prompt_from_text, split_of_id

FOLDERS = (("A", "B"), ("train_A", "train_B"), ("trainA", "trainB"), ("distilled", "baseline"))
"""Names of the two folders that are looked for, distilled first."""
COLUMNS = ("input_image", "edited_image", "edit_prompt")
"""Names of the columns that are looked for: distilled, baseline, prompt."""
UNKNOWN_LICENCE = Licence(name="unknown", url="", note="The terms of use of these images are unknown.")

_BATCH_ROWS = 16


@dataclass(frozen=True, slots=True)
class Item:
    """One pair of the source: file bytes of both sides (None for one that is missing) and its text."""

    name: str
    distilled: bytes | None
    baseline: bytes | None
    prompt: str = ""
    split: Split | None = None
    """None: that of the prompt, or of the name where there is none."""


@dataclass(frozen=True, slots=True)
class Source:
    """A finite stream of items in a fixed order."""

    description: str
    """For the manifest; free of this machine's paths."""
    count: int
    read: Callable[[], Iterator[Item]]
    """The items; may be called again."""
    unrelated: bool = False
    """Whether the two images of an item show different subjects. Those of other sizes are then reduced and cut."""


def open_source(
    folder: str | Path, *, distilled: str | None = None, baseline: str | None = None, prompt: str | None = None
) -> Source:
    """The paired images in ``folder`` (or in one Parquet file).

    A folder with two folders of pictures is read as such (equal file names belong together, ``name.txt`` beside is the
    prompt), one with Parquet files by its columns. ``distilled``, ``baseline`` and ``prompt`` name other folders or
    columns than `FOLDERS` and `COLUMNS`. Raises `DataError` if there is nothing of the kind, `UsageError` if only one
    side is named or a name is not there.
    """
    folder = Path(folder)
    if (distilled is None) != (baseline is None):
        raise UsageError("name both sides, or none: --distilled and --baseline are folders or columns")
    if folder.is_file():
        return _parquet_source([folder], distilled, baseline, prompt)
    if not folder.is_dir():
        raise DataError(f"{folder} does not exist; give a folder of paired images or a Parquet file")
    candidates = FOLDERS if distilled is None or baseline is None else ((distilled, baseline),)
    for left, right in candidates:
        if (folder / left).is_dir() and (folder / right).is_dir():
            if prompt is not None:
                raise UsageError("--prompt names a column, and folders have none; put name.txt beside name.png")
            return _folder_source(folder / left, folder / right)
    files = sorted(path for path in folder.rglob("*.parquet") if not path.name.startswith("."))
    if files:
        return _parquet_source(files, distilled, baseline, prompt)
    looked = " or ".join(f"{left}/ and {right}/" for left, right in candidates)
    raise DataError(f"{folder} holds neither {looked} nor Parquet files; name two folders or columns")


def unrelated_source(distilled: str | Path, baseline: str | Path) -> Source:
    """Two folders of pictures that have nothing to do with each other; a file's name decides its split.

    Within a split the shorter folder is gone through again. The description holds a digest of all names and sizes.
    Raises `DataError` if a folder is missing or has no pictures.
    """
    folders = {"distilled": Path(distilled), "baseline": Path(baseline)}
    digest = hashlib.sha256()
    by_split: dict[str, dict[str, list[Path]]] = {side: {} for side in folders}
    for side, folder in folders.items():
        for path in list_pictures(folder):
            digest.update(f"{side}/{path.name}/{path.stat().st_size}\n".encode())
            by_split[side].setdefault(split_of_id(path.name), []).append(path)
    left, right = by_split.values()
    rounds: list[tuple[Split, int]] = [
        (split, max(len(left[split]), len(right[split]))) for split in SPLITS if split in left and split in right
    ]

    def read() -> Iterator[Item]:
        for split, count in rounds:
            for index in range(count):
                first, second = (paths[split][index % len(paths[split])] for paths in (left, right))
                name = f"{first.name} and {second.name}"
                yield Item(name, _bytes_of(first), _bytes_of(second), split=split)

    names = " and ".join(folder.resolve().name for folder in folders.values())
    count = sum(count for _, count in rounds)
    return Source(f"the unrelated pictures of {names} ({digest.hexdigest()[:12]})", count, read, unrelated=True)


def import_pairs(
    source: Source,
    folder: str | Path,
    *,
    name: str,
    licence: Licence = UNKNOWN_LICENCE,
    shard_size: int = 250,
    image_format: ImageFormat = "png",
    on_progress: Callable[[int, int], None] | None = None,
) -> PairDataset:
    """Convert ``source`` to a dataset in ``folder``, which must be new or empty.

    An item that lacks a side, cannot be decoded, has sides of two sizes or another size than the first good one is
    listed as a failure in the manifest, and the rest continues. Seeds are unknown, so the column holds the item's
    position. The split follows the prompt, or the item's name where it has none. The folder appears in one piece at the
    end; a stopped import leaves nothing there.

    Raises `UsageError` for a bad name or size, `DataError` if the folder is not empty, cannot be written or is written
    by another process, or no item can be used.
    """
    if not name.strip() or shard_size < 1:
        raise UsageError(f"pair name {name!r} and shard size {shard_size} are not possible; give a name, and 1 or more")
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is not an empty folder; choose another one, nothing was changed")
    lock = FolderLock(folder, beside=True)
    workplace = folder.with_name(f".{folder.name}.importing")
    shutil.rmtree(workplace, ignore_errors=True)  # of an import that was stopped
    try:
        failures: list[Failure] = []
        sizes: list[tuple[int, int]] = []
        shards: list[ShardEntry] = []
        rows = _rows(source, image_format, failures, sizes, on_progress)
        for first in rows:
            path = workplace / "data" / shard_name(len(shards))
            shard = itertools.chain([first], itertools.islice(rows, shard_size - 1))
            shards.append(write_shard(path, shard, shard_schema()))
        if not shards:
            last = f"; the last one: {failures[-1].id} {failures[-1].error}" if failures else ""
            raise DataError(f"none of {source.count} items can be used{last}")
        width, height = sizes[0]
        side = {"width_px": width, "height_px": height, "licence": licence.model_dump(mode="json")}
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            pair=name,
            distilled={"name": f"{name}-distilled", **side},
            baseline={"name": f"{name}-baseline", **side},
            pairing=PairingConfig(image_format=image_format),
            imported=source.description,
            unrelated=source.unrelated,
            shard_size=shard_size,
            versions=versions(),
            shards=tuple(shards),
            failures=tuple(failures),
            dropped=(),
        )
        write_manifest(workplace, manifest)
        write_card(workplace, manifest)
        os.replace(workplace, folder)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
        lock.release()
    return PairDataset.open(folder)


def import_unrelated(
    distilled: str | Path,
    baseline: str | Path,
    folder: str | Path,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> PairDataset:
    """The pictures of two folders as the two sets of a dataset in ``folder``, which is opened where it holds them.

    Raises `DataError` as `unrelated_source` and `import_pairs`, and where ``folder`` holds other pictures.
    """
    source = unrelated_source(distilled, baseline)
    if (Path(folder) / "manifest.json").is_file():
        dataset = PairDataset.open(folder)
        if dataset.manifest.imported != source.description:
            raise DataError(
                f"{folder} holds {dataset.manifest.imported}, and the two folders hold other pictures by now; nothing "
                "was changed: put them back, or use another output folder"
            )
        return dataset
    name = f"{Path(distilled).resolve().name} to {Path(baseline).resolve().name}"
    return import_pairs(source, folder, name=name, image_format="webp", on_progress=on_progress)


def _rows(
    source: Source,
    image_format: ImageFormat,
    failures: list[Failure],
    sizes: list[tuple[int, int]],
    on_progress: Callable[[int, int], None] | None,
) -> Iterator[dict[str, Any]]:
    """The rows of all usable items; the others go to ``failures``. ``sizes`` gets the size of the first one."""
    for position, item in enumerate(source.read()):
        try:
            row, size_px = _row(item, position, image_format, source.unrelated, sizes)
            if sizes and size_px != sizes[0]:
                raise DataError(f"is {_px(size_px)}, the first pair is {_px(sizes[0])}; resize it")
        except TopcoatError as error:
            failures.append(Failure(id=item.name, prompt=item.prompt, seed=position, error=str(error)))
        else:
            sizes.append(size_px)
            del sizes[1:]
            yield row
        if on_progress is not None:
            on_progress(position + 1, source.count)


def _row(
    item: Item, position: int, image_format: ImageFormat, unrelated: bool, sizes: list[tuple[int, int]]
) -> tuple[dict[str, Any], tuple[int, int]]:
    """The item as a row, and its size in px; raises `DataError` with the reason why it cannot be used."""
    files = {"distilled": item.distilled, "baseline": item.baseline}
    for side, data in files.items():
        if data is None:
            raise DataError(f"has no {side} image")
    images = {side: decode_image(data or b"", f"its {side} image") for side, data in files.items()}
    if unrelated:
        wanted = sizes[0] if sizes else (images["distilled"].shape[-1], images["distilled"].shape[-2])
        images = {side: _reduced(image, wanted, side) for side, image in images.items()}
    size, other = ((image.shape[-1], image.shape[-2]) for image in images.values())
    if size != other:
        raise DataError(f"has two sizes, distilled {_px(size)} and baseline {_px(other)}; make them one")
    split = item.split or (prompt_from_text(item.prompt).split if item.prompt else split_of_id(item.name))
    digest = hashlib.sha256(item.name.encode()).hexdigest()[:16]
    record = PairRecord(f"{digest}-{position}", item.prompt, position, {}, split)
    return as_row(record, images, image_format=image_format), size


def _reduced(image: Tensor, size_px: tuple[int, int], side: str) -> Tensor:
    """``image`` (3, H, W) reduced until it just covers ``size_px``, and its middle cut out."""
    (width, height), (own_width, own_height) = size_px, (image.shape[-1], image.shape[-2])
    share = max(width / own_width, height / own_height)
    if share > 1:
        raise DataError(
            f"its {side} image is {_px((own_width, own_height))}, too small for {_px(size_px)}, the size of the first "
            "distilled image; leave it out"
        )
    size = (max(height, round(own_height * share)), max(width, round(own_width * share)))
    smaller = F.interpolate(image.unsqueeze(0), size, mode="bicubic", antialias=True).clamp(0, 1)[0]
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return smaller[:, top : top + height, left : left + width].contiguous()


def _px(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} px"


def _folder_source(distilled: Path, baseline: Path) -> Source:
    left, right = (pictures_by_name(folder) for folder in (distilled, baseline))
    names = sorted({*left, *right})

    def read() -> Iterator[Item]:
        for name in names:
            texts = [path for folder in (distilled, baseline) if (path := folder / f"{name}.txt").is_file()]
            prompt = " ".join(texts[0].read_text(encoding="utf-8", errors="replace").split()) if texts else ""
            yield Item(name, _bytes_of(left.get(name)), _bytes_of(right.get(name)), prompt)

    return Source(f"folders {distilled.name} and {baseline.name}", len(names), read)


def _parquet_source(files: list[Path], distilled: str | None, baseline: str | None, prompt: str | None) -> Source:
    """Parquet files in Hugging Face layout; an image is a struct of ``bytes`` and ``path``, or bytes alone."""
    count = 0
    columns = [distilled or COLUMNS[0], baseline or COLUMNS[1]]
    for number, path in enumerate(files):
        file = _parquet_file(path)
        names = file.schema_arrow.names
        if number == 0 and (prompt is not None or COLUMNS[2] in names):
            columns.append(prompt or COLUMNS[2])
        missing = next((name for name in columns if name not in names), None)
        if missing is not None:
            raise UsageError(f"{path} has no column {missing}; name its columns, which are: {', '.join(names)}")
        count += file.metadata.num_rows
    shown = first_few(path.name for path in files)
    return Source(f"columns {columns[0]} and {columns[1]} of {shown}", count, partial(_read_parquet, files, columns))


def _read_parquet(files: list[Path], columns: list[str]) -> Iterator[Item]:
    for path in files:
        row = 0
        try:
            for batch in _parquet_file(path).iter_batches(batch_size=_BATCH_ROWS, columns=columns):
                for cells in batch.to_pylist():
                    left, right, *texts = (cells[name] for name in columns)
                    distilled, baseline = (_cell_bytes(cell, path.parent) for cell in (left, right))
                    prompt = " ".join(str(texts[0] or "").split()) if texts else ""
                    yield Item(f"{path.stem}-{row:07d}", distilled, baseline, prompt)
                    row += 1
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path} is damaged from row {row} on ({type(error).__name__}); get it again") from error


def _parquet_file(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file; get it again") from error


def _cell_bytes(cell: Any, folder: Path) -> bytes | None:
    """The file bytes of an image cell; None where it is empty or names a file that does not exist."""
    if not isinstance(cell, dict):
        return cell if isinstance(cell, bytes) else None
    path = cell.get("path")
    return cell.get("bytes") if cell.get("bytes") is not None or not path else _bytes_of(folder / path)


def _bytes_of(path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError:
        return None
