"""Names of subjects: invented by Faker for many locales, or sampled from a user's file as it is read.

Of a file the names with the smallest seeded hashes are taken: memory grows with what is asked for, not with the file
(IMDb's has 14 million names), its order does not matter, and the first names stay the same when more are asked for.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import heapq
import importlib.util
import itertools
import os
import unicodedata
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from topcoat.errors import DataError, UsageError
from topcoat.prompts.prompt import check_count_and_seed
from topcoat.prompts.stratified import StratifiedSampler

if TYPE_CHECKING:
    from faker import Faker

Gender = Literal["female", "male", "either"]
"""The kind of first name; ``either`` is one of the two by chance."""

IMDB_NOTICE = (
    "IMDb's data is for personal and non-commercial use only, and this holds for prompts made from it too: read the "
    "terms at https://developer.imdb.com/non-commercial-datasets/ before you use it"
)
REAL_PEOPLE_NOTICE = (
    "these are names of real people, many of them living: a model may show the likeness of a person it knows by "
    "name, and the prompts tie that name to an age, a region and a look that are not theirs; do not publish such "
    "images as portraits of those people, and leave --names-file out for invented names"
)
LIST_NOTICE = "if these are names of real people, a model may show their likeness; invented names are the default"

_TRIES = 50
_IMDB_HEADER = ("nconst", "primaryName")
_GENDERS: dict[str, Gender] = {"actress": "female", "actor": "male"}
_LONGEST_WORDS = 8
_LONGEST_LETTERS = 100
_REPORT_EVERY = 100_000


@dataclass(frozen=True)
class InventedNames:
    """First and family names that Faker puts together, each from a seed of its own."""

    seed: int
    follows_locale = True
    """Whether a name is of the locale that is asked for."""

    def name(self, index: int, gender: Gender, locale: str) -> str:
        """A first and a family name of ``locale`` in the Latin script; no titles.

        Raises `UsageError` for a locale that has no names in the Latin script.
        """
        own_seed = _seed_of(f"{self.seed}/name/{index}")
        faker = _faker(locale)
        faker.seed_instance(own_seed)
        for _ in range(_TRIES):  # a few locales have single names in another script
            name = _full_name(faker, _one_gender(gender, own_seed))
            if is_latin(name):
                return name
        raise UsageError(
            f"the names of Faker's locale {locale!r} are not in the Latin script, which models read best; choose "
            "another locale"
        )


@dataclass(frozen=True)
class FileNames:
    """Names from a file: ``pools`` by gender, in the order in which they are given out."""

    seed: int
    pools: dict[Gender, tuple[str, ...]]
    is_imdb: bool

    follows_locale = False

    def name(self, index: int, gender: Gender, locale: str) -> str:
        """The name of the subject at ``index``; none comes twice in the first ``len(pool)``. ``locale`` is unused."""
        key: Gender = _one_gender(gender, _seed_of(f"{self.seed}/name/{index}")) if self.is_imdb else "either"
        names = self.pools[key]
        if index < len(names):
            return names[index]
        return StratifiedSampler(self.seed).sample(f"names of {key}", names, index)

    @property
    def notices(self) -> tuple[str, ...]:
        """Warnings for the user of these names."""
        return (IMDB_NOTICE, REAL_PEOPLE_NOTICE) if self.is_imdb else (LIST_NOTICE,)


def check_locale(locale: str) -> None:
    """Raise `UsageError` if Faker has no names of its own for ``locale``, or none in the Latin script."""
    if not locale.isidentifier() or importlib.util.find_spec(f"faker.providers.person.{locale}") is None:
        raise UsageError(f"Faker has no names for the locale {locale!r}; use one that it has, such as pl_PL or yo_NG")
    for gender in ("female", "male"):
        InventedNames(0).name(0, gender, locale)


def is_latin(text: str) -> bool:
    """Whether every letter of a text is of the Latin script, with or without accents."""
    return text.isascii() or all(
        not letter.isalpha() or unicodedata.name(letter, "").startswith(("LATIN", "MODIFIER LETTER")) for letter in text
    )


def read_names(
    path: str | Path, count: int, seed: int, on_progress: Callable[[int, int], None] | None = None
) -> FileNames:
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
            names = _imdb_names(path, first, lines) if is_imdb else _listed_names(path, first, lines)
            genders: tuple[Gender, ...] = ("female", "male") if is_imdb else ("either",)
            chosen: dict[Gender, _SmallestHashes] = {gender: _SmallestHashes(count, seed) for gender in genders}
            for gender, name in names:
                chosen[gender].add(name)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise DataError(f"the names file {path} is damaged or not complete; fetch it again") from None
    except UnicodeDecodeError:
        raise DataError(f"the names file {path} is not UTF-8 text; give a text file or one ending in .gz") from None
    except OSError as error:
        raise DataError(f"the names file {path} cannot be read ({error.strerror}); check the path") from None
    pools: dict[Gender, tuple[str, ...]] = {gender: names.sorted() for gender, names in chosen.items()}
    for gender, pool in pools.items():
        if not pool:
            what = {"either": "no name", "female": "no name of an actress", "male": "no name of an actor"}[gender]
            raise DataError(f"the names file {path} holds {what}; write one name a line or give name.basics.tsv.gz")
    return FileNames(seed, pools, is_imdb)


class _SmallestHashes:
    """The ``count`` different names with the smallest seeded hashes, of any number that is added."""

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._seed = count, seed
        self._hashes: dict[str, bytes] = {}
        self._largest = b"\xff" * 8  # names with a larger hash are not among the smallest

    def add(self, name: str) -> None:
        digest = hashlib.blake2b(f"{self._seed}/{name}".encode(), digest_size=8).digest()
        if digest <= self._largest:
            self._hashes[name] = digest
        if len(self._hashes) > 2 * self._count + 100:
            self._hashes = {name: self._hashes[name] for name in self.sorted()}
            self._largest = max(self._hashes.values())

    def sorted(self) -> tuple[str, ...]:
        return tuple(heapq.nsmallest(self._count, self._hashes, key=self._hashes.__getitem__))


def _lines(raw: IO[bytes], zipped: bool, on_progress: Callable[[int, int], None] | None) -> Iterator[str]:
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
    professions = columns.index("primaryProfession")
    for number, line in enumerate(rest, start=2):
        cells = line.split("\t")
        if len(cells) != len(columns):
            raise UsageError(
                f"{path} line {number}: has {len(cells)} columns, not {len(columns)}; fetch the file again"
            )
        gender: Gender | None = next((_GENDERS[job] for job in cells[professions].split(",") if job in _GENDERS), None)
        name = " ".join(cells[1].split())
        if gender and name and name != "\\N" and len(name) <= _LONGEST_LETTERS and is_latin(name):
            yield gender, name


def _seed_of(text: str) -> int:
    """64 bits of the SHA-256 of a text, as a seed."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _one_gender(gender: Gender, seed: int) -> Gender:
    """``either`` made one of the two, by the seed."""
    if gender != "either":
        return gender
    return "female" if seed % 2 else "male"


def _full_name(faker: Faker, gender: Gender) -> str:
    """First and family name, capitalised; the romanised ones where a locale has them by gender."""
    romanised = hasattr(faker, "first_romanized_name_female")
    first = getattr(faker, f"first_romanized_name_{gender}" if romanised else f"first_name_{gender}")()
    last = faker.last_romanized_name() if romanised else getattr(faker, f"last_name_{gender}")()
    parts = (part.title() if part.isupper() or part.islower() else part for part in (first, last))
    return " ".join(" ".join(parts).split())


@functools.cache
def _faker(locale: str) -> Faker:
    """Faker with the names of one locale and nothing else, which makes it quick to start."""
    from faker import Faker

    return Faker(locale, providers=["faker.providers.person"])
