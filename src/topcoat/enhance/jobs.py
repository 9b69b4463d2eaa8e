"""Which pictures are asked for, and which file each becomes: settled before any work, and nothing passed over."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from topcoat.errors import DataError, UsageError
from topcoat.files import check_folder
from topcoat.pictures.formats import (
    FORMATS,
    OTHER_SUFFIXES,
    Format,
    format_of,
    suffixes,
    usual_suffixes,
    written_format,
)

PIPE = Path("-")
"""Standard input as a source, standard output as a target."""
KEEP = "keep"
_NO_PICTURES = frozenset(
    {".csv", ".gz", ".html", ".json", ".jsonl", ".md", ".mov", ".mp4", ".parquet", ".pdf", ".txt", ".zip"}
)


@dataclass(frozen=True, slots=True)
class Job:
    """One picture: where it comes from, and which file of which format it becomes."""

    source: Path
    target: Path
    format: Format | None
    """None keeps the format that the source turns out to have."""
    mask: Path | None = None
    """A picture that says where the head works."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that was asked for and is no job."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path} {self.reason}"


@dataclass(slots=True)
class Found:
    """What lies in the inputs."""

    pictures: list[tuple[Path, Path]] = field(default_factory=list[tuple[Path, Path]])
    """Each picture, and its name below the output folder."""
    left_out: list[LeftOut] = field(default_factory=list[LeftOut])
    folders: list[Path] = field(default_factory=list[Path])
    """Folders that were not entered, because that was not asked for."""
    other_files: list[Path] = field(default_factory=list[Path])
    """Files that are no pictures by their name."""


def find(inputs: Sequence[str], *, recursive: bool, output: Path) -> Found:
    """Pictures in files, folders and patterns, in the order of the inputs, a folder's sorted by name.

    A name that does not exist is a pattern if it can be one. The output folder is not searched where it lies in an
    input. Raises `UsageError` for ``-`` among other inputs.
    """
    if "-" in inputs and len(inputs) > 1:
        raise UsageError("- reads one picture from standard input; give it alone, or give files and folders")
    found = Found()
    for text in inputs:
        path = PIPE if text == "-" else Path(text).expanduser()
        if path == PIPE or path.is_file():
            found.pictures.append((path, Path(path.name)))
        elif path.is_dir():
            before = len(found.pictures), len(found.left_out)
            _search(path, Path(), found, recursive=recursive, output=output.resolve())
            if (len(found.pictures), len(found.left_out)) == before:
                inside = sum(path in each.parents for each in found.folders)
                deeper, known = f"add --recursive for its {inside} subfolders", f"these are read: {usual_suffixes()}"
                found.left_out.append(LeftOut(path, f"holds no pictures; {deeper if inside else known}"))
        elif matches := sorted(glob.glob(str(path), recursive=True)):
            _match(path, matches, found, recursive=recursive, output=output.resolve())
        elif glob.has_magic(str(path)):
            found.left_out.append(LeftOut(path, "matches no file; check the pattern"))
        else:
            found.pictures.append((path, Path(path.name)))  # reading it says what is wrong
    return found


def plan(found: Found, output: Path, *, one_file: bool, format_name: str) -> list[Job]:
    """Where each picture goes. ``one_file`` says that a single file, and no folder, was given.

    Raises `UsageError` for several pictures into one file, two into the same, one over itself, or a file type that is
    not written here.
    """
    wanted = None if format_name == KEEP else FORMATS[format_name]
    output = output.expanduser()
    if output == PIPE:
        if len(found.pictures) != 1:
            raise UsageError(f"-o - writes one picture to standard output, and {len(found.pictures)} were given")
        return [Job(found.pictures[0][0], PIPE, wanted)]
    kind = format_of(output)
    is_file = kind is not None and not output.is_dir()
    if one_file and not output.is_dir() and output.suffix.lower() in OTHER_SUFFIXES | _NO_PICTURES:
        written_format(output)
    if is_file:
        if not one_file:
            raise UsageError(f"{output} is one file, but several pictures were given; give a folder to -o")
        if wanted is not None and wanted is not kind:
            raise UsageError(f"--format says {wanted.name}, and the name {output} says another; leave one of them out")
        jobs = [Job(source, output, kind) for source, _ in found.pictures]
    elif found.pictures and found.pictures[0][0] == PIPE:
        raise UsageError(f"standard input has no name, and {output} is a folder; give a picture file to -o, or -o -")
    else:
        targets = [output / _named(name, wanted) for _, name in found.pictures]
        jobs = [Job(source, to, format_of(to)) for (source, _), to in zip(found.pictures, targets, strict=True)]
    _check_targets(jobs)
    return jobs


def check_output(jobs: Iterable[Job], *, make: bool) -> None:
    """Whether the targets can be written, before any work; ``make`` makes their folders and tries it.

    Raises `DataError` where a folder is a file, read-only or full, or a target is a folder.
    """
    targets = [job.target for job in jobs if job.target != PIPE]
    for folder in sorted({target.parent for target in targets}):
        check_folder(folder, make=make)
    for target in targets:
        if target.is_dir():
            raise DataError(f"cannot write {target}: it is a folder; choose another folder or name")


def _match(pattern: Path, matches: Sequence[str], found: Found, *, recursive: bool, output: Path) -> None:
    """Sort in what matches a pattern; names keep their folders from where the pattern's first wildcard stands."""
    fixed = list(itertools.takewhile(lambda part: not glob.has_magic(part), pattern.parts))
    base = Path(*fixed)
    known: set[Path] = set()
    for path in map(Path, matches):
        if path.resolve() in known or output in (path.resolve(), *path.resolve().parents):
            continue  # links lead to the same file again
        known.add(path.resolve())
        name = path.relative_to(base)
        if not path.is_dir():
            _sort_in(path, name, found)
        elif recursive:
            _search(path, name, found, recursive=True, output=output)
        elif "**" not in pattern.parts:
            found.folders.append(path)


def _search(folder: Path, inside: Path, found: Found, *, recursive: bool, output: Path) -> None:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        found.left_out.append(LeftOut(folder, f"cannot be read ({error.strerror}); check its permissions"))
        return
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            _sort_in(path, inside / entry.name, found)
        elif path.resolve() == output:
            continue
        elif not recursive:
            found.folders.append(path)
        elif entry.is_symlink():
            found.left_out.append(LeftOut(path, "is a link to a folder, which is not followed; give the folder itself"))
        else:
            _search(path, inside / entry.name, found, recursive=True, output=output)


def _sort_in(path: Path, name: Path, found: Found) -> None:
    suffix = path.suffix.lower()
    kind = format_of(path)
    if not path.exists():
        found.left_out.append(LeftOut(path, "is a link to nothing"))
    elif not path.is_file():
        found.other_files.append(path)
    elif suffix in suffixes():
        found.pictures.append((path, name))
    elif kind is not None:
        found.left_out.append(LeftOut(path, f"is {kind.title}, which needs another package; install topcoat[heic]"))
    elif suffix in OTHER_SUFFIXES:
        found.left_out.append(LeftOut(path, f"is of a type that is not read ({suffix}); convert it to PNG or TIFF"))
    else:
        found.other_files.append(path)


def _named(name: Path, wanted: Format | None) -> Path:
    if wanted is None:
        return name if format_of(name) is not None else name.with_name(f"{name.name}.png")
    return name if format_of(name) is wanted else name.with_suffix(wanted.suffixes[0])


def _check_targets(jobs: Sequence[Job]) -> None:
    sources = {job.source.resolve(): job.source for job in jobs}
    taken: dict[Path, Path] = {}
    for job in jobs:
        resolved = job.target.resolve()
        if resolved in sources:
            raise UsageError(f"{job.target} would be written over itself; give another folder or name to -o")
        other = taken.setdefault(resolved, job.source)
        if other is not job.source:
            raise UsageError(
                f"{other} and {job.source} would both become {job.target}; enhance them into different folders"
            )
