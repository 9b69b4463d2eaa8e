"""Sets of images to evaluate, subject by subject, so that an unreadable file leaves its subject out of every set."""

from __future__ import annotations

import itertools
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image
from torch import Tensor

from topcoat.errors import DataError, UsageError, first_few
from topcoat.files import sha256_of
from topcoat.images import read_image
from topcoat.pictures.folders import list_pictures, read_groups

SubjectSets = Mapping[str, Tensor]
"""One subject's images ``(3, H, W)`` by set."""


@dataclass
class Source:
    """Subjects by number; `good`, `bad` and `groups` fill as the streams are read."""

    sets: Sequence[str]
    """The sets of every subject, such as ``enhanced`` and ``baseline``."""
    captions: Sequence[str]
    """Who each subject is."""
    read: Callable[[int], SubjectSets]
    """Reads the images of a subject by its number; raises `DataError` for one that is unreadable."""
    inputs: dict[str, Any]
    """Where the images come from, for the report."""
    attributes: Sequence[Mapping[str, str]] | None = None
    bad: list[str] = field(default_factory=list[str])
    """A sentence for each unreadable file."""
    good: list[int] = field(default_factory=list[int])
    """Numbers of the subjects that were read."""
    groups: list[Mapping[str, str]] = field(default_factory=list[Mapping[str, str]])
    """Attributes of the subjects that were read, where there are any."""
    separate: Mapping[str, Path] = field(default_factory=dict[str, Path])
    """Folders of sets that are of other subjects."""
    texts: Sequence[str] | None = None
    """Prompts of the subjects, where they are known."""
    prompts: list[str] = field(default_factory=list[str])
    """Those of the subjects that were read."""
    pair: str | None = None
    """The model pair of the images, where it is known."""
    notes: list[str] = field(default_factory=list[str])
    """What to know before the images are read."""

    @property
    def count(self) -> int:
        """Number of subjects, bad ones included."""
        return len(self.captions)

    def subject(self, index: int) -> tuple[SubjectSets, str]:
        """Images and caption of the subject at a position of the streams, read once more."""
        number = self.good[index]
        return self.read(number), self.captions[number]

    def streams(self) -> dict[str, Iterator[Tensor]]:
        """One stream of images ``(3, H, W)`` for each set, of the same subjects, to be read in step.

        A subject with an unreadable image is left out of every stream. What one stream is ahead of another is held in
        memory: one batch, where they are read batch by batch.
        """
        waiting: dict[str, deque[Tensor]] = {name: deque() for name in self.sets}
        subjects = self._readable()

        def stream(name: str) -> Iterator[Tensor]:
            while True:
                while not waiting[name]:
                    images = next(subjects, None)
                    if images is None:
                        return
                    for other, image in images.items():
                        waiting[other].append(image)
                yield waiting[name].popleft()

        separate = {name: read_folder(folder, self.bad) for name, folder in self.separate.items()}
        return {name: stream(name) for name in self.sets} | separate

    def _readable(self) -> Iterator[SubjectSets]:
        for number in range(self.count):
            try:
                images = self.read(number)
            except DataError as error:
                self.bad.append(str(error))
                continue
            self.good.append(number)
            if self.attributes is not None:
                self.groups.append(self.attributes[number])
            if self.texts is not None:
                self.prompts.append(self.texts[number])
            yield images


def from_folders(enhanced: Path, baseline: Path, distilled: Path | None = None, groups: Path | None = None) -> Source:
    """Two or three folders of pictures, paired by name or, for the baseline, in sorted order.

    Without distilled images the baseline may hold more or fewer pictures: then the two are compared as sets. ``groups``
    is a CSV file as of `read_groups`. Pictures that are the same file in two folders are noted. Raises `UsageError` for
    distilled and enhanced pictures of other names, a baseline whose names agree with theirs in part, pairs that lack a
    baseline, and a picture of another size than the rest of its folder.
    """
    given = {"enhanced": enhanced, "baseline": baseline, "distilled": distilled, "groups": groups}
    inputs = {name: path.name for name, path in given.items() if path is not None}
    z, y = list_pictures(enhanced), list_pictures(baseline)
    x = None if distilled is None else list_pictures(distilled)
    compared = [(enhanced, baseline)]
    if distilled is not None:
        compared += [(distilled, baseline), (enhanced, distilled)]
    for folder in dict.fromkeys(itertools.chain(*compared)):
        check_sizes(folder)
    notes = [note for folders in compared for note in same_pictures(*folders)]
    if distilled is not None and x is not None and _stems(x) != _stems(z):
        raise UsageError(
            f"{distilled} and {enhanced} must hold pictures of the same names; {_only(distilled, x, enhanced, z)}"
        )
    others, shared = _only(enhanced, z, baseline, y), set(_stems(y)) & set(_stems(z))
    as_sets, counts = len(y) != len(z), f"{baseline} holds {len(y)} pictures and {enhanced} {len(z)} ({others})"
    if as_sets and (x is not None or groups is not None):
        raise UsageError(
            f"{counts}; give one baseline picture for each subject, or compare the two as sets without --distilled and "
            "--groups"
        )
    if as_sets and shared:
        notes.append(f"{counts}; they are compared as sets, not picture by picture")
    if not as_sets and others and shared:
        raise UsageError(
            f"the pictures of {baseline} and {enhanced} have the same names in part, so no order pairs them rightly: "
            f"{others}; rename or remove these"
        )
    if not as_sets and others:
        notes.append(
            f"the pictures of {baseline} and {enhanced} have other names; they are paired in sorted order, "
            f"{y[0].name} with {z[0].name} first"
        )
    paths = {"enhanced": z} | ({} if as_sets else {"baseline": y}) | ({} if x is None else {"distilled": x})
    return Source(
        tuple(paths),
        _stems(z),
        lambda number: {name: read_image(one[number]) for name, one in paths.items()},
        inputs,
        None if groups is None else read_groups(groups, _stems(z)),
        separate={"baseline": baseline} if as_sets else {},
        notes=notes,
    )


def same_pictures(folder: Path, other: Path) -> list[str]:
    """A sentence where pictures of two folders are the same files, byte by byte; nothing where none are."""
    files, others = list_pictures(folder), list_pictures(other)
    if folder.resolve() == other.resolve():
        return [f"{folder} and {other} are the same folder, whose pictures are compared with themselves; check it"]
    sizes = {path.stat().st_size for path in files} & {path.stat().st_size for path in others}
    known = {sha256_of(path) for path in others if path.stat().st_size in sizes}
    same = [path for path in files if path.stat().st_size in sizes and sha256_of(path) in known]
    if not same:
        return []
    count = "all" if len(same) == len(files) else str(len(same))
    return [
        f"{count} of {len(files)} pictures of {folder} are the same pictures as in {other}, such as {same[0].name}; "
        "check the paths"
    ]


def check_sizes(folder: Path) -> None:
    """Raise `UsageError` that names the pictures of another size than the rest of a folder; headers alone are read."""
    files = list_pictures(folder)
    sizes = {path: size for path in files if (size := _size_px(path)) is not None}
    if len(set(sizes.values())) < 2:
        return
    (usual, count), *_ = Counter(sizes.values()).most_common()
    odd = [path for path, size in sizes.items() if size != usual]
    width, height = sizes[odd[0]]
    more = "" if len(odd) == 1 else f", and {len(odd) - 1} more are not of that size"
    raise UsageError(
        f"{odd[0]} is {width} x {height} px, and {count} of {len(files)} pictures in {folder} are {usual[0]} x "
        f"{usual[1]} px{more}; resize what differs, or take it out"
    )


def _size_px(path: Path) -> tuple[int, int] | None:
    """Width and height as the picture is seen; None where reading it will say what is wrong."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of size and odd tags: reading the picture says more
            with Image.open(path) as picture:
                turned = picture.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
                width, height = picture.size
                return (height, width) if turned else (width, height)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def read_folder(folder: Path, bad: list[str]) -> Iterator[Tensor]:
    """The pictures of a folder; a sentence on each unreadable one goes to ``bad``."""
    check_sizes(folder)  # before the first image is asked for: a wrong folder should fail at once

    def images() -> Iterator[Tensor]:
        for path in list_pictures(folder):
            try:
                yield read_image(path)
            except DataError as error:
                bad.append(str(error))

    return images()


def _only(folder: Path, files: Sequence[Path], other: Path, others: Sequence[Path]) -> str:
    """Which names one of two folders has and the other has not; empty where there are none."""
    left, right = (set(_stems(each)) for each in (files, others))
    sides = ((folder, sorted(left - right)), (other, sorted(right - left)))
    return "; ".join(f"only in {where}: {first_few(names)}" for where, names in sides if names)


def _stems(paths: Sequence[Path]) -> list[str]:
    return [path.stem for path in paths]
