"""What a blind study asks, fixed when it is created, and which pictures each rater sees in which order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import pydantic

from topcoat.config import StrictModel, parse_config
from topcoat.errors import DataError
from topcoat.files import read_json

FORMAT, FORMAT_VERSION = "topcoat-blind-study", 1
PLAN_FILE, IMAGES_FOLDER, VOTES_FILE = "study.json", "images", "votes.sqlite"

Arm: TypeAlias = Literal["distilled", "enhanced", "baseline", "degraded"]
ARMS: tuple[Arm, ...] = ("distilled", "enhanced", "baseline")
COMPARISONS: Mapping[str, tuple[Arm, Arm]] = {
    "enhanced-distilled": ("enhanced", "distilled"),
    "enhanced-baseline": ("enhanced", "baseline"),
    "baseline-distilled": ("baseline", "distilled"),
}
"""What is compared; a score is the share of votes for the first one. The last one tells whether raters see the gap."""
CHECK = "attention-check"
CHECK_ARMS: tuple[Arm, Arm] = ("baseline", "degraded")
"""An attention check shows a baseline picture beside the same one with its detail taken away."""

Choice = Literal["1", "2", "0"]
"""The first picture, the second one, no difference."""

QUESTION = "Which picture looks better?"
CONSENT = """\
You will see portraits, two at a time, and say which of the two looks better. All of them were made by computer
programs; nobody in them is real.

Taking part is voluntary. You can stop at any time and go on later with your own link, which you find below the
pictures.

What is stored: your answers, how long each took, when it arrived, and the size of your window. To notice when one
person takes part twice, a random number is kept in your browser (a cookie), and a code is computed from your network
address and kind of browser; the address itself is not stored. No name, no e-mail address and nothing else about you is
asked for.

With your own link you can see and download everything that is stored of you, and delete it, as long as the study runs.
The answers are used to compare ways of making pictures, and are published in summary.\
"""


class ExclusionRules(StrictModel):
    """When all votes of a rater are left out of the result. Fixed at creation; None turns a rule off."""

    failed_checks: int | None = pydantic.Field(default=1, ge=0)
    """More failed attention checks than this."""
    fast_seconds: float = pydantic.Field(default=0.5, gt=0)
    """An answer in less time than this is too fast."""
    fast_share: float | None = pydantic.Field(default=0.25, ge=0, le=1)
    """A larger share of too-fast answers than this."""
    side_share: float | None = pydantic.Field(default=0.95, ge=0.5, le=1)
    """A larger share of decided answers for the same place than this, of at least 20."""
    doubled: Literal["none", "browser", "network"] = "browser"
    """Raters after the first one in the same browser, or from the same network address and kind of browser too."""


class StudySubject(StrictModel):
    """One person in the pictures, with a file for each arm."""

    id: str
    width_px: int
    height_px: int
    files: dict[Arm, str]
    """Names in the folder ``images``; subjects of attention checks have a ``degraded`` one."""
    groups: dict[str, str] = pydantic.Field(default={})


class StudyPlan(StrictModel):
    """``study.json``: everything that is fixed before the first vote."""

    format: Literal["topcoat-blind-study"] = FORMAT
    format_version: Literal[1] = FORMAT_VERSION
    topcoat_version: str
    created: str
    title: Annotated[str, pydantic.Field(min_length=1, max_length=120)]
    question: Annotated[str, pydantic.Field(min_length=1, max_length=200)] = QUESTION
    consent: Annotated[str, pydantic.Field(min_length=1)] = CONSENT
    contact: str = ""
    """Whom raters can write to; shown on every page."""
    raters: int = pydantic.Field(ge=1)
    """How many the study is planned for."""
    votes_per_rater: int = pydantic.Field(ge=1)
    checks_per_rater: int = pydantic.Field(ge=0)
    margin: float = pydantic.Field(gt=0, lt=0.5)
    """Enhanced is not worse than baseline if its share of preferences is above 0.5 less this margin."""
    rules: ExclusionRules
    quality: int | None
    """Of lossy WebP; None is lossless."""
    seed: int
    """Of the orders and places; whoever knows it can tell the pictures apart."""
    subjects: tuple[StudySubject, ...] = pydantic.Field(min_length=1)

    @property
    def digest(self) -> str:
        """The SHA-256 of everything above, as 64 hex digits."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @pydantic.model_validator(mode="after")
    def _fits(self) -> StudyPlan:
        most = len(self.subjects) * len(COMPARISONS)
        if self.votes_per_rater > most:
            raise ValueError(
                f"{self.votes_per_rater} votes of each rater are more than the {most} comparisons of "
                f"{len(self.subjects)} subjects; ask for fewer, or give more pictures"
            )
        checked = sum("degraded" in subject.files for subject in self.subjects)
        if self.checks_per_rater > checked:
            raise ValueError(f"{self.checks_per_rater} attention checks need as many subjects, not {checked}")
        return self


def read_plan(folder: Path) -> StudyPlan:
    """The plan of a study folder; raises `DataError` where it is none or its format is another one."""
    path = folder / PLAN_FILE
    if not path.is_file():
        raise DataError(f"{folder} holds no study ({PLAN_FILE} is missing); make one with topcoat study create")
    record: Any = read_json(path)
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise DataError(f"{path} is no plan of a blind study; give a folder that topcoat study create wrote")
    if record.get("format_version") != FORMAT_VERSION:
        raise DataError(
            f"{path} has format version {record.get('format_version')}, and this topcoat reads {FORMAT_VERSION}; "
            "use the version that made it"
        )
    return parse_config(record, StudyPlan, source=str(path))


@dataclass(frozen=True, slots=True)
class Trial:
    """Two pictures that a rater sees side by side."""

    subject: int
    """Its position in the plan."""
    comparison: str
    """One of `COMPARISONS`, or `CHECK`."""
    arms: tuple[Arm, Arm]
    """What is shown as picture 1 and as picture 2."""


def trials_of(plan: StudyPlan, number: int) -> list[Trial]:
    """What rater ``number`` (from 0) sees, in order.

    Order and places are random for each rater. A rater sees a subject once before any twice. Over raters every subject
    comes equally often in each comparison; within a rater each arm of a comparison is picture 1 in half of the trials.
    Attention checks lie anywhere but at the very start.
    """
    random = np.random.default_rng([plan.seed, number])
    names, count = tuple(COMPARISONS), len(plan.subjects)
    rounds = -(-plan.votes_per_rater // count)
    shown = [(int(subject), turn) for turn in range(rounds) for subject in random.permutation(count)]
    votes = [
        (subject, names[(subject + number + turn) % len(names)]) for subject, turn in shown[: plan.votes_per_rater]
    ]
    trials: list[Trial | None] = [None] * len(votes)
    for name, arms in COMPARISONS.items():
        places = [place for place, (_, comparison) in enumerate(votes) if comparison == name]
        for place, swapped in zip(places, _halves(len(places), random), strict=True):
            trials[place] = Trial(votes[place][0], name, _placed(arms, swapped))
    ordered = [trial for trial in trials if trial is not None]
    checkable = [place for place, subject in enumerate(plan.subjects) if "degraded" in subject.files]
    for subject, swapped in zip(
        random.permutation(checkable)[: plan.checks_per_rater].tolist(),
        _halves(plan.checks_per_rater, random),
        strict=True,
    ):
        check = Trial(subject, CHECK, _placed(CHECK_ARMS, swapped))
        ordered.insert(int(random.integers(min(2, len(ordered)), len(ordered) + 1)), check)
    return ordered


def _placed(arms: tuple[Arm, Arm], swapped: bool) -> tuple[Arm, Arm]:
    return (arms[1], arms[0]) if swapped else arms


def _halves(count: int, random: np.random.Generator) -> list[bool]:
    """As many True as False in random order; of an odd number one more of either."""
    alternating = (np.arange(count) + random.integers(2)) % 2 == 0
    return random.permutation(alternating).tolist()
