"""Making the folder of a blind study from three folders of pictures.

``study.json``     the plan, with the arm of every file: the answer key, never served
``images/``        the pictures under random names
``votes.sqlite``   raters and votes
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from topcoat import __version__
from topcoat.config import StrictModel, parse_config
from topcoat.errors import UsageError, first_few
from topcoat.files import FolderLock, write_json
from topcoat.pictures.folders import pictures_by_name
from topcoat.study.pictures import SUFFIX, degraded, encode, read_rgb
from topcoat.study.plan import (
    ARMS,
    CONSENT,
    IMAGES_FOLDER,
    PLAN_FILE,
    QUESTION,
    VOTES_FILE,
    Arm,
    ExclusionRules,
    StudyPlan,
    StudySubject,
)
from topcoat.study.store import Store

Progress = Callable[[int, int], None]


class StudySettings(StrictModel):
    """What a study's maker decides; `StudyPlan` says what each means."""

    title: str = "Which picture looks better?"
    question: str = QUESTION
    consent: str = CONSENT
    contact: str = ""
    subjects: int = 60
    raters: int = 40
    votes_per_rater: int | None = None
    """By default one for each subject."""
    checks_per_rater: int = 3
    margin: float = 0.1
    quality: int | None = None
    rules: ExclusionRules = ExclusionRules()
    seed: int | None = None
    """By default a random one, which nobody can guess."""

    @property
    def votes(self) -> int:
        """Votes of one rater."""
        return self.subjects if self.votes_per_rater is None else self.votes_per_rater


@dataclass(frozen=True, slots=True)
class Sources:
    """The pictures to choose from: the file of every arm, by subject."""

    files: Mapping[str, Mapping[Arm, Path]]
    notes: tuple[str, ...]
    """What to know of them, a sentence each."""


def match_pictures(folders: Mapping[Arm, Path]) -> Sources:
    """Pictures of the same name in all folders; raises `UsageError` or `DataError` where there are none."""
    by_arm = {arm: pictures_by_name(folder) for arm, folder in folders.items()}
    if len({folder.resolve() for folder in folders.values()}) < len(folders):
        raise UsageError("two of the folders are the same one, and nobody could tell its pictures apart; check them")
    common = sorted(set.intersection(*(set(files) for files in by_arm.values())))
    if not common:
        some = "; ".join(f"{folder} has {', '.join(list(by_arm[arm])[:2])}" for arm, folder in folders.items())
        raise UsageError(
            f"no picture is in all of the folders under one name ({some}); name the three of a subject alike"
        )
    notes: list[str] = []
    for arm, folder in folders.items():
        alone = [name for name in by_arm[arm] if name not in set(common)]
        if alone:
            notes.append(f"{folder} has pictures that another folder lacks, which are left out: {first_few(alone)}")
    return Sources({name: {arm: by_arm[arm][name] for arm in folders} for name in common}, tuple(notes))


def plan_study(
    sources: Sources, settings: StudySettings, groups: Mapping[str, Mapping[str, str]] | None = None
) -> StudyPlan:
    """The plan on subjects chosen at random, without their files' new names; reads no picture.

    ``groups`` has attributes of subjects by name. Raises `UsageError` for settings that do not fit together.
    """
    if settings.subjects > len(sources.files):
        raise UsageError(
            f"{settings.subjects} subjects are asked for, and {len(sources.files)} have a picture in every folder; "
            "ask for fewer, or give more pictures"
        )
    seed = secrets.randbits(63) if settings.seed is None else settings.seed
    random = np.random.default_rng(seed)
    names = sorted(sources.files)
    chosen = sorted(random.choice(len(names), settings.subjects, replace=False).tolist())
    checked = set(random.choice(chosen, min(settings.checks_per_rater, len(chosen)), replace=False).tolist())
    subjects = [
        StudySubject(
            id=names[place],
            width_px=0,
            height_px=0,
            files=dict.fromkeys((*ARMS, "degraded") if place in checked else ARMS, ""),
            groups=dict((groups or {}).get(names[place], {})),
        )
        for place in chosen
    ]
    fixed = settings.model_dump(exclude={"subjects", "votes_per_rater", "seed"})
    own = {"votes_per_rater": settings.votes, "seed": seed, "subjects": subjects}
    stamps = {"topcoat_version": __version__, "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    return parse_config({**fixed, **own, **stamps}, StudyPlan, source="the study")


def create_study(
    folder: Path, sources: Sources, plan: StudyPlan, *, on_progress: Progress | None = None
) -> tuple[StudyPlan, list[str]]:
    """Write the folder of a planned study; returns its plan with all files, and what to know of them.

    The plan is written last: without it there is no study, and the same call makes one. Raises `UsageError` for a
    folder that holds one, and for pictures of a subject that differ in size.
    """
    if (folder / PLAN_FILE).exists():
        raise UsageError(f"{folder} holds a study already; choose a new folder, or delete that one with all its votes")
    with FolderLock(folder):
        images = folder / IMAGES_FOLDER
        if images.exists():  # of a creation that was stopped
            shutil.rmtree(images)
        (folder / VOTES_FILE).unlink(missing_ok=True)
        images.mkdir(parents=True)
        subjects: list[StudySubject] = []
        alike: list[str] = []
        for subject in plan.subjects:
            pictures = _read_subject(subject, sources.files[subject.id])
            if np.array_equal(pictures["distilled"], pictures["enhanced"]):
                alike.append(subject.id)
            subjects.append(_write_subject(images, subject, pictures, plan.quality))
            if on_progress is not None:
                on_progress(len(subjects), len(plan.subjects))
        finished = plan.model_copy(update={"subjects": tuple(subjects)})
        Store(folder, finished).close()
        write_json(folder / PLAN_FILE, finished.model_dump(mode="json"))
    notes = []
    if alike:
        notes.append(f"distilled and enhanced are the same picture for {len(alike)} subjects, such as {alike[0]}")
    return finished, notes


def _read_subject(subject: StudySubject, files: Mapping[Arm, Path]) -> dict[Arm, np.ndarray]:
    """The pictures of one subject, all of one shape; with the degraded one where the plan has it."""
    pictures: dict[Arm, np.ndarray] = {arm: read_rgb(files[arm]) for arm in ARMS}
    shapes = {arm: rgb.shape for arm, rgb in pictures.items()}
    if len(set(shapes.values())) > 1:
        sizes = ", ".join(f"{arm} {shape[1]} x {shape[0]} px" for arm, shape in shapes.items())
        raise UsageError(f"the pictures of {subject.id} differ in size, which tells them apart: {sizes}; resize them")
    if "degraded" in subject.files:
        pictures["degraded"] = degraded(pictures["baseline"])
    return pictures


def _write_subject(
    folder: Path, subject: StudySubject, pictures: Mapping[Arm, np.ndarray], quality: int | None
) -> StudySubject:
    """Write the files of one subject under random names, and say which is which."""
    files: dict[Arm, str] = {}
    for arm, data in encode(pictures, quality).items():
        name = secrets.token_hex(16) + SUFFIX
        (folder / name).write_bytes(data)
        os.utime(folder / name, (0, 0))  # nor does the time of writing tell
        files[arm] = name
    height, width = pictures["baseline"].shape[:2]
    return subject.model_copy(update={"files": files, "width_px": width, "height_px": height})
