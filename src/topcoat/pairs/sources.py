"""Others' paired images as a stream of items: two folders of pictures, or Parquet files with two image columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from topcoat.errors import DataError, UsageError
from topcoat.images import list_images

FOLDERS = (("A", "B"), ("train_A", "train_B"), ("trainA", "trainB"), ("distilled", "baseline"))
"""Names of the two folders that are looked for, distilled first."""

COLUMNS = ("input_image", "edited_image", "edit_prompt")
"""Names of the columns that are looked for: distilled, baseline, prompt."""

_BATCH_ROWS = 16


@dataclass(frozen=True, slots=True)
class Item:
    """One pair as it was found; a side that is missing is None, ``problem`` says why it cannot be used at all."""

    name: str
    distilled: bytes | None
    baseline: bytes | None
    prompt: str = ""
    problem: str = ""


class Source(Protocol):
    """A finite stream of items in a fixed order."""

    @property
    def words(self) -> str:
        """What it is, for a manifest; free of this machine's paths."""
        ...

    def __len__(self) -> int:
        """The number of items."""
        ...

    def __iter__(self) -> Iterator[Item]:
        """The items; may be asked for again."""
        ...


@dataclass(frozen=True)
class FolderSource:
    """Two folders whose pictures belong together by file name (without the suffix); a ``.txt`` beside is the prompt."""

    distilled: Path
    baseline: Path
    _paths: tuple[dict[str, Path], dict[str, Path]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_paths", (_by_name(self.distilled), _by_name(self.baseline)))

    @property
    def words(self) -> str:
        """See `Source.words`."""
        return f"folders {self.distilled.name} and {self.baseline.name}"

    def __len__(self) -> int:
        return len(self._names())

    def __iter__(self) -> Iterator[Item]:
        left, right = self._paths
        for name in self._names():
            try:
                sides = [None if path is None else path.read_bytes() for path in (left.get(name), right.get(name))]
            except OSError as error:
                yield Item(name, None, None, problem=f"cannot be read ({error.strerror})")
                continue
            yield Item(name, sides[0], sides[1], self._prompt(name))

    def _names(self) -> list[str]:
        return sorted({*self._paths[0], *self._paths[1]})

    def _prompt(self, name: str) -> str:
        for folder in (self.distilled, self.baseline):
            text = folder / f"{name}.txt"
            if text.is_file():
                return " ".join(text.read_text(encoding="utf-8", errors="replace").split())
        return ""


@dataclass(frozen=True)
class ParquetSource:
    """Parquet files in Hugging Face layout; an image is a struct of ``bytes`` and ``path``, or bytes alone."""

    files: tuple[Path, ...]
    distilled: str
    baseline: str
    prompt: str | None

    @property
    def words(self) -> str:
        """See `Source.words`."""
        return f"columns {self.distilled} and {self.baseline} of {', '.join(path.name for path in self.files[:3])}" + (
            f" and {len(self.files) - 3} more" if len(self.files) > 3 else ""
        )

    def __len__(self) -> int:
        return sum(_opened(path).metadata.num_rows for path in self.files)

    def __iter__(self) -> Iterator[Item]:
        columns = [self.distilled, self.baseline, *([self.prompt] if self.prompt else [])]
        for path in self.files:
            row = 0
            try:
                for batch in _opened(path).iter_batches(batch_size=_BATCH_ROWS, columns=columns):
                    for record in batch.to_pylist():
                        yield self._item(path, row, record)
                        row += 1
            except (pa.ArrowException, OSError) as error:
                raise DataError(
                    f"{path} is damaged from row {row} on ({type(error).__name__}); get it again"
                ) from error

    def _item(self, path: Path, row: int, record: dict[str, Any]) -> Item:
        prompt = "" if self.prompt is None else " ".join(str(record[self.prompt] or "").split())
        sides = [_image_bytes(record[name], path.parent) for name in (self.distilled, self.baseline)]
        return Item(f"{path.stem}-{row:07d}", sides[0], sides[1], prompt)


def open_source(
    folder: str | Path,
    *,
    distilled: str | None = None,
    baseline: str | None = None,
    prompt: str | None = None,
) -> Source:
    """The paired images in ``folder`` (or in one Parquet file).

    A folder with two folders of pictures is read as such, one with Parquet files by its columns. ``distilled``,
    ``baseline`` and ``prompt`` name other folders or columns than `FOLDERS` and `COLUMNS`. Raises `DataError` if there
    is nothing of the kind, `UsageError` if only one side is named or a name is not there.
    """
    folder = Path(folder)
    if (distilled is None) != (baseline is None):
        raise UsageError("name both sides, or none: --distilled and --baseline are folders or columns")
    if folder.is_file():
        return _parquet((folder,), distilled, baseline, prompt)
    if not folder.is_dir():
        raise DataError(f"{folder} does not exist; give a folder of paired images or a Parquet file")
    candidates = FOLDERS if distilled is None or baseline is None else ((distilled, baseline),)
    for left, right in candidates:
        if (folder / left).is_dir() and (folder / right).is_dir():
            if prompt is not None:
                raise UsageError("--prompt names a column, and folders have none; put name.txt beside name.png")
            return FolderSource(folder / left, folder / right)
    files = tuple(sorted(path for path in folder.rglob("*.parquet") if not path.name.startswith(".")))
    if files:
        return _parquet(files, distilled, baseline, prompt)
    looked = " or ".join(f"{left}/ and {right}/" for left, right in candidates)
    raise DataError(f"{folder} holds neither {looked} nor Parquet files; name two folders or columns")


def _parquet(files: tuple[Path, ...], distilled: str | None, baseline: str | None, prompt: str | None) -> Source:
    left, right = distilled or COLUMNS[0], baseline or COLUMNS[1]
    text = prompt
    for number, path in enumerate(files):
        names = _opened(path).schema_arrow.names
        if number == 0 and prompt is None and COLUMNS[2] in names:
            text = COLUMNS[2]
        for name in (left, right, *([text] if text else [])):
            if name not in names:
                raise UsageError(f"{path} has no column {name}; name its columns, which are: {', '.join(names)}")
    return ParquetSource(files, left, right, text)


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is no readable Parquet file; get it again") from error


def _by_name(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in list_images(folder):
        if path.stem in found:
            raise DataError(f"{folder} holds {found[path.stem].name} and {path.name}, one name twice; remove one")
        found[path.stem] = path
    return found


def _image_bytes(value: Any, folder: Path) -> bytes | None:
    """The file bytes of an image cell; None where it is empty or names a file that is not there."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, dict):
        return None
    if value.get("bytes") is not None:
        return value["bytes"]
    try:
        return (folder / value["path"]).read_bytes()
    except (KeyError, TypeError, OSError):
        return None
