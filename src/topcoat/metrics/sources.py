"""Sets of images to evaluate, subject by subject, so that an unreadable file leaves its subject out of every set."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from torch import Tensor

from topcoat.errors import DataError, UsageError
from topcoat.images import list_images, read_image

_NAME = "name"

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
    is a CSV file as of `read_groups`. Raises `UsageError` for distilled and enhanced pictures of other names, or pairs
    that lack a baseline.
    """
    given = {"enhanced": enhanced, "baseline": baseline, "distilled": distilled, "groups": groups}
    inputs = {name: path.name for name, path in given.items() if path is not None}
    z, y = list_images(enhanced), list_images(baseline)
    x = None if distilled is None else list_images(distilled)
    if x is not None and _stems(x) != _stems(z):
        both = zip_longest(_stems(x), _stems(z))
        odd = next(one if other is None else other for one, other in both if one != other)
        raise UsageError(
            f"{distilled} and {enhanced} must hold pictures of the same names; the first that differs is {odd}"
        )
    if len(y) != len(z):
        if x is not None or groups is not None:
            raise UsageError(
                f"{baseline} holds {len(y)} pictures and {enhanced} {len(z)}; give one baseline picture for each "
                "subject, or compare the two as sets without --distilled and --groups"
            )
        alone = {"baseline": baseline}
        return Source(("enhanced",), _stems(z), lambda at: {"enhanced": read_image(z[at])}, inputs, separate=alone)
    paths = {"enhanced": z, "baseline": y} | ({} if x is None else {"distilled": x})
    return Source(
        tuple(paths),
        _stems(z),
        lambda number: {name: read_image(one[number]) for name, one in paths.items()},
        inputs,
        None if groups is None else read_groups(groups, _stems(z)),
        notes=[]
        if _stems(y) == _stems(z)
        else [f"the pictures of {baseline} and {enhanced} have other names; they are paired in sorted order"],
    )


def read_folder(folder: Path, bad: list[str]) -> Iterator[Tensor]:
    """The pictures of a folder; a sentence on each unreadable one goes to ``bad``."""
    paths = list_images(folder)  # before the first image is asked for: a wrong folder should fail at once

    def images() -> Iterator[Tensor]:
        for path in paths:
            try:
                yield read_image(path)
            except DataError as error:
                bad.append(str(error))

    return images()


def read_groups(path: Path, names: Sequence[str]) -> list[dict[str, str]]:
    """One mapping of column to value for each of ``names``, from a CSV file with a column ``name``.

    Empty cells are left out. Raises `DataError` for a file that is none, `UsageError` where a picture has no line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"the groups file {path} cannot be read ({error}); give a CSV file in UTF-8") from error
    if not lines or _NAME not in lines[0]:
        raise DataError(
            f"the groups file {path} has no column '{_NAME}'; give picture names there, a header line first"
        )
    by_name = {
        Path(line[_NAME] or "").stem: {
            column: value
            for column, value in line.items()
            if column and column != _NAME and isinstance(value, str) and value
        }
        for line in lines
    }
    missing = next((name for name in names if name not in by_name), None)
    if missing is not None:
        raise UsageError(f"the groups file {path} has no line for the picture {missing}; give every picture a line")
    return [by_name[name] for name in names]


def _stems(paths: Sequence[Path]) -> list[str]:
    return [path.stem for path in paths]
