"""Names from a user's file: a list of names, or IMDb's name.basics.tsv(.gz), read as a stream.

A file may hold fourteen million names and a dataset needs a few thousand of them. Kept are those with the smallest
seeded hashes, so memory grows with what is asked for and not with the file, the file's order does not matter, and the
first names stay the same when more are asked for.
"""

from __future__ import annotations

import gzip
import hashlib
import heapq
import itertools
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from topcoat.errors import DataError, UsageError
from topcoat.prompts.deck import Deck
from topcoat.prompts.names import is_latin, seed_of, settle
from topcoat.prompts.prompt import check_count_and_seed

if TYPE_CHECKING:
    from topcoat.prompts.vocabulary import Gender

IMDB_NOTICE = (
    "IMDb's data is for personal and non-commercial use only, and this holds for prompts made from it too: read the "
    "terms at https://developer.imdb.com/non-commercial-datasets/ before you use it"
)
REAL_PEOPLE_NOTICE = (
    "these are names of real people, many of them living: a model may paint the likeness of a person it knows by "
    "name, and the prompts tie that name to an age, a region and a look that are not theirs; do not publish such "
    "images as portraits of those people, and leave --names-file out for invented names"
)
LIST_NOTICE = "if these are names of real people, a model may paint their likeness; invented names are the default"

_IMDB_HEADER = ("nconst", "primaryName")
_GENDERS: dict[str, Gender] = {"actress": "female", "actor": "male"}
_LONGEST_WORDS = 8
_LONGEST_LETTERS = 100
_REPORT_EVERY = 100_000

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class FileNames:
    """Names that were read from a file: ``pools`` by gender, in the order in which they are given out."""

    seed: int
    pools: dict[Gender, tuple[str, ...]]
    is_imdb: bool

    follows_locale = False

    def name(self, index: int, gender: Gender, locale: str) -> str:
        """The name of the subject at ``index``; none comes twice in the first ``len(pool)``. ``locale`` is unused."""
        key: Gender = settle(gender, seed_of(f"{self.seed}/name/{index}")) if self.is_imdb else "either"
        names = self.pools[key]
        if index < len(names):
            return names[index]
        return Deck(self.seed).draw(f"names of {key}", names, index)

    @property
    def notices(self) -> tuple[str, ...]:
        """What a user of these names must be told."""
        return (IMDB_NOTICE, REAL_PEOPLE_NOTICE) if self.is_imdb else (LIST_NOTICE,)


def read_names(path: str | Path, count: int, seed: int, on_progress: Progress | None = None) -> FileNames:
    """Up to ``count`` names of each kind from a text file (one a line) or IMDb's ``name.basics.tsv``; gzip by ``.gz``.

    IMDb's actresses name women and its actors men; its other people and names in other scripts are left out. A plain
    list does not say whom a name fits, so any subject may have any of its names. ``on_progress`` is called with (bytes
    read, bytes of the file).

    Raises `UsageError` for a line that is no name, a bad count or seed, `DataError` for a file that is missing,
    damaged or without a name.
    """
    check_count_and_seed(count, seed)
    path = Path(path)
    try:
        with open(path, "rb") as raw:
            lines = _lines(raw, path.suffix.lower() == ".gz", on_progress)
            first = next(lines, "")
            is_imdb = tuple(first.split("\t")[:2]) == _IMDB_HEADER
            found = _imdb_names(path, first, lines) if is_imdb else _listed_names(path, first, lines)
            kinds: tuple[Gender, ...] = ("female", "male") if is_imdb else ("either",)
            keepers: dict[Gender, _Smallest] = {gender: _Smallest(count, seed) for gender in kinds}
            for gender, name in found:
                keepers[gender].offer(name)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise DataError(f"the names file {path} is damaged or not complete; fetch it again") from None
    except UnicodeDecodeError:
        raise DataError(f"the names file {path} is not UTF-8 text; give a text file or one ending in .gz") from None
    except OSError as error:
        raise DataError(f"the names file {path} cannot be read ({error.strerror}); check the path") from None
    pools: dict[Gender, tuple[str, ...]] = {gender: keeper.names() for gender, keeper in keepers.items()}
    for gender, names in pools.items():
        if not names:
            what = "no name" if gender == "either" else f"no name of an {'actress' if gender == 'female' else 'actor'}"
            raise DataError(f"the names file {path} holds {what}; write one name a line or give name.basics.tsv.gz")
    return FileNames(seed, pools, is_imdb)


class _Smallest:
    """Keeps the ``count`` different names with the smallest seeded hashes."""

    def __init__(self, count: int, seed: int) -> None:
        self._count = count
        self._seed = seed
        self._heap: list[tuple[int, str]] = []  # hashes negative, so that the largest is on top
        self._kept: set[str] = set()

    def offer(self, name: str) -> None:
        digest = hashlib.blake2b(f"{self._seed}/{name}".encode(), digest_size=8).digest()
        entry = (-int.from_bytes(digest, "big"), name)
        if len(self._heap) < self._count:
            if name not in self._kept:
                heapq.heappush(self._heap, entry)
                self._kept.add(name)
        elif entry > self._heap[0] and name not in self._kept:
            _, dropped = heapq.heapreplace(self._heap, entry)
            self._kept.remove(dropped)
            self._kept.add(name)

    def names(self) -> tuple[str, ...]:
        return tuple(name for _, name in sorted(self._heap, reverse=True))


def _lines(raw: IO[bytes], zipped: bool, on_progress: Progress | None) -> Iterator[str]:
    """Lines as text without their ends, read one at a time; gzip is unpacked on the way."""
    total = os.fstat(raw.fileno()).st_size
    stream = gzip.GzipFile(fileobj=raw) if zipped else raw
    for number, line in enumerate(stream, start=1):
        if on_progress is not None and number % _REPORT_EVERY == 0:
            on_progress(raw.tell(), total)
        yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")


def _listed_names(path: Path, first: str, rest: Iterator[str]) -> Iterator[tuple[Gender, str]]:
    for number, line in enumerate(itertools.chain((first,), rest), start=1):
        if "\t" in line.strip():
            raise UsageError(
                f"{path} line {number}: has columns but is not IMDb's name.basics.tsv, whose first columns are "
                f"{' and '.join(_IMDB_HEADER)}; write one name a line"
            )
        name = " ".join(line.split())
        if len(name.split()) > _LONGEST_WORDS or len(name) > _LONGEST_LETTERS:
            raise UsageError(
                f"{path} line {number}: is too long for a name; at most {_LONGEST_WORDS} words and {_LONGEST_LETTERS} "
                "letters are allowed"
            )
        if name:
            yield "either", name


def _imdb_names(path: Path, header: str, rest: Iterator[str]) -> Iterator[tuple[Gender, str]]:
    columns = header.split("\t")
    if "primaryProfession" not in columns:
        raise UsageError(f"{path} has no column primaryProfession, which says who is an actress; fetch the whole file")
    where = columns.index("primaryProfession")
    for number, line in enumerate(rest, start=2):
        cells = line.split("\t")
        if len(cells) != len(columns):
            raise UsageError(
                f"{path} line {number}: has {len(cells)} columns, not {len(columns)}; fetch the file again"
            )
        gender: Gender | None = next((_GENDERS[job] for job in cells[where].split(",") if job in _GENDERS), None)
        name = " ".join(cells[1].split())
        if gender and name and name != "\\N" and len(name) <= _LONGEST_LETTERS and is_latin(name):
            yield gender, name
