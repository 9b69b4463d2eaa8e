"""Where `topcoat evaluate` reads from: folders of pictures, or a dataset with a head. A bad file never stops a run."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topcoat.errors import DataError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from topcoat.cli.console import Output
    from topcoat.gates import Gates
    from topcoat.heads.head import Head
    from topcoat.metrics.report import Looked
    from topcoat.prompts import Split

_NAME = "name"

Images = Mapping[str, "Tensor"]
"""One subject's images ``(3, H, W)`` by set."""


@dataclass
class Source:
    """Subjects by number; what has been read and what could not be is told as it happens."""

    sets: Sequence[str]
    """Which images every subject has."""
    captions: Sequence[str]
    """Who each subject is."""
    read: Callable[[int], Images]
    """Reads the images of a subject by its number; raises `DataError` where one cannot be read."""
    inputs: dict[str, Any]
    """Where the images come from, for the report."""
    attributes: Sequence[Mapping[str, str]] | None = None
    bad: list[str] = field(default_factory=list)
    """A sentence for each file that could not be read."""
    good: list[int] = field(default_factory=list)
    """Numbers of the subjects that were read, filled as the streams are."""
    apart: Mapping[str, Path] = field(default_factory=dict)
    """Folders of sets that are not of the same subjects."""

    @property
    def count(self) -> int:
        """Number of subjects, bad ones included."""
        return len(self.captions)

    @property
    def groups(self) -> Sequence[Mapping[str, str]] | None:
        """Attributes of the subjects that were read, in a list that fills as the streams are."""
        return None if self.attributes is None else _Picked(self.attributes, self.good)

    def look_up(self, index: int) -> Looked:
        """The subject at a position of the streams, read once more; no image need be kept to be shown."""
        from topcoat.metrics.report import Looked

        number = self.good[index]
        return Looked(self.read(number), self.captions[number])

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

        apart = {name: read_folder(folder, self.bad) for name, folder in self.apart.items()}
        return {name: stream(name) for name in self.sets} | apart

    def _readable(self) -> Iterator[Images]:
        for number in range(self.count):
            try:
                images = self.read(number)
            except DataError as error:
                self.bad.append(str(error))
                continue
            self.good.append(number)
            yield images


class _Picked(Sequence["Mapping[str, str]"]):
    """Those of some values whose numbers are listed; the list may still grow."""

    def __init__(self, values: Sequence[Mapping[str, str]], numbers: list[int]) -> None:
        self._values, self._numbers = values, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: Any) -> Any:
        return self._values[self._numbers[index]]


def from_pairs(folder: Path, split: Split, head: Head, strength: float, gates: Gates | None = None) -> Source:
    """A dataset's split with a head behind its distilled images, or behind their latents where it decodes those.

    With ``gates`` the set ``gated`` holds what they make of the head's results. Raises `UsageError` for fewer than 2
    pairs, and for a head that decodes latents where the pairs hold none.
    """
    from topcoat.pairs.dataset import PairDataset

    dataset = PairDataset.open(folder).split(split)
    decodes = head.input == "latent"
    if decodes and not dataset.pairing.latents:
        raise UsageError(
            f"the head decodes latents, and the pairs in {folder} hold none; build them with --latents, or use a head "
            "that takes images"
        )
    if len(dataset) < 2:
        raise UsageError(
            f"{folder} has {len(dataset)} pairs in its {split} split; choose another --split, or build more"
        )

    def read(index: int) -> Images:
        distilled = dataset.image(index, "distilled")
        given = dataset.latents(index) if decodes else distilled
        assert given is not None
        enhanced = head(given[None], strength)
        images = {"enhanced": enhanced[0], "baseline": dataset.image(index, "baseline"), "distilled": distilled}
        return images if gates is None else images | {"gated": gates(distilled[None], enhanced, strength).images[0]}

    records = dataset.records
    return Source(
        sets=("enhanced", "baseline", "distilled", *(() if gates is None else ("gated",))),
        captions=[f"{record.id}: {record.prompt}" for record in records],
        read=read,
        inputs={
            "data": folder.name,
            "dataset_digest": dataset.digest,
            "split": split,
            "head_digest": head.digest,
            "strength": strength,
        },
        attributes=[record.attributes for record in records] if any(record.attributes for record in records) else None,
    )


def from_folders(out: Output, enhanced: Path, baseline: Path, distilled: Path | None, groups: Path | None) -> Source:
    """Two or three folders of pictures, paired by name or, for the baseline, in sorted order.

    Without distilled images the baseline may hold more or fewer pictures: then the two are compared as sets. Raises
    `UsageError` for distilled and enhanced pictures of other names, or pairs that lack a baseline.
    """
    from topcoat.images import list_images, read_image

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
        return Source(
            ("enhanced",), _stems(z), lambda number: {"enhanced": read_image(z[number])}, inputs,
            apart={"baseline": baseline},
        )  # fmt: skip
    if _stems(y) != _stems(z):
        out.warn(f"the pictures of {baseline} and {enhanced} have other names; they are paired in sorted order")
    paths = {"enhanced": z, "baseline": y} | ({} if x is None else {"distilled": x})
    return Source(
        tuple(paths),
        _stems(z),
        lambda number: {name: read_image(one[number]) for name, one in paths.items()},
        inputs,
        None if groups is None else read_groups(groups, _stems(z)),
    )


def read_folder(folder: Path, bad: list[str]) -> Iterator[Tensor]:
    """The pictures of a folder; what cannot be read is told to ``bad`` and left out."""
    from topcoat.images import list_images, read_image

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
