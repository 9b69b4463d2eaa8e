"""Where `topcoat evaluate` reads from: folders of pictures, or a dataset with a head. A bad file never stops a run."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from topcoat.errors import DataError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from topcoat.cli.console import Output
    from topcoat.heads.base import Head
    from topcoat.prompts import Split

_FIRST = 8
_NAME = "name"

Read = Callable[[], "Tensor"]


@dataclass
class Source:
    """Subjects as ways to read each of their images; what has been read and what could not be is told as it happens."""

    subjects: Sequence[Mapping[str, Read]]
    attributes: Sequence[Mapping[str, str]] | None = None
    bad: list[str] = field(default_factory=list)
    """A sentence for each file that could not be read."""
    groups: list[Mapping[str, str]] | None = None
    """Attributes of the subjects that were read, filled as the streams are."""
    first: dict[str, list[Tensor]] = field(default_factory=dict)
    """The first images of each set."""
    apart: Mapping[str, Path] = field(default_factory=dict)
    """Folders of sets that are not of the same subjects."""

    @property
    def count(self) -> int:
        """Number of subjects, bad ones included."""
        return len(self.subjects)

    def streams(self) -> dict[str, Iterator[Tensor]]:
        """One stream of images ``(3, H, W)`` for each set, of the same subjects, to be read in step.

        A subject with an unreadable image is left out of every stream. What one stream is ahead of another is held in
        memory: one batch, where they are read batch by batch.
        """
        names = list(self.subjects[0]) if self.subjects else []
        waiting: dict[str, deque[Tensor]] = {name: deque() for name in names}
        self.groups = None if self.attributes is None else []
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

        apart = {name: read_folder(folder, self.bad) for name, folder in self.apart.items()}
        return {name: stream(name) for name in names} | apart

    def _readable(self) -> Iterator[dict[str, Tensor]]:
        for number, subject in enumerate(self.subjects):
            try:
                images = {name: read() for name, read in subject.items()}
            except DataError as error:
                self.bad.append(str(error))
                continue
            if self.groups is not None and self.attributes is not None:
                self.groups.append(self.attributes[number])
            for name, image in images.items():
                first = self.first.setdefault(name, [])
                if len(first) < _FIRST:
                    first.append(image)
            yield images


def from_pairs(folder: Path, split: Split, head: Head, strength: float) -> Source:
    """A dataset's split with a head behind its distilled images, or behind their latents where it decodes those.

    Raises `UsageError` for fewer than 2 pairs, and for a head that decodes latents where the pairs hold none.
    """
    from topcoat.pairs.dataset import PairDataset

    dataset = PairDataset.open(folder).split(split)
    decodes = head.descriptor.takes == "latent"
    if decodes and not dataset.painting.latents:
        raise UsageError(
            f"the head decodes latents, and the pairs in {folder} hold none; build them with --latents, or use a head "
            "that takes images"
        )
    if len(dataset) < 2:
        raise UsageError(
            f"{folder} has {len(dataset)} pairs in its {split} split; choose another --split, or build more"
        )

    def enhanced(index: int) -> Tensor:
        given = dataset.latents(index) if decodes else dataset.image(index, "distilled")
        assert given is not None
        return head(given[None], strength)[0]

    def subject(index: int) -> dict[str, Read]:
        # The distilled image is decoded twice rather than held: decoding is cheap beside everything that follows.
        return {
            "enhanced": lambda: enhanced(index),
            "baseline": lambda: dataset.image(index, "baseline"),
            "distilled": lambda: dataset.image(index, "distilled"),
        }

    records = dataset.records
    attributes = [record.attributes for record in records] if any(record.attributes for record in records) else None
    return Source([subject(index) for index in range(len(dataset))], attributes)


def from_folders(out: Output, enhanced: Path, baseline: Path, distilled: Path | None, groups: Path | None) -> Source:
    """Two or three folders of pictures, paired by name or, for the baseline, in sorted order.

    Without distilled images the baseline may hold more or fewer pictures: then the two are compared as sets. Raises
    `UsageError` for distilled and enhanced pictures of other names, or pairs that lack a baseline.
    """
    from topcoat.images import list_images

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
        return Source([{"enhanced": _reader(path)} for path in z], apart={"baseline": baseline})
    if _stems(y) != _stems(z):
        out.warn(f"the pictures of {baseline} and {enhanced} have other names; they are paired in sorted order")
    subjects: list[dict[str, Read]] = []
    for index in range(len(z)):
        subject = {"enhanced": _reader(z[index]), "baseline": _reader(y[index])}
        subjects.append(subject if x is None else subject | {"distilled": _reader(x[index])})
    return Source(subjects, None if groups is None else read_groups(groups, _stems(z)))


def read_folder(folder: Path, bad: list[str]) -> Iterator[Tensor]:
    """The pictures of a folder; what cannot be read is told to ``bad`` and left out."""
    from topcoat.images import list_images

    paths = list_images(folder)  # before the first image is asked for: a wrong folder should fail at once

    def images() -> Iterator[Tensor]:
        for path in paths:
            try:
                yield _reader(path)()
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


def _reader(path: Path) -> Read:
    from topcoat.images import read_image

    return lambda: read_image(path)


def _stems(paths: Sequence[Path]) -> list[str]:
    return [path.stem for path in paths]
