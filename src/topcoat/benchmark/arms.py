"""What a benchmark compares: arms, each one way to make images, on subjects, each a prompt with a noise seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from topcoat.cost.table import count_steps
from topcoat.errors import UsageError
from topcoat.generators.base import MAX_STEPS, ModelPair, check_request
from topcoat.prompts import Prompt, as_prompts
from topcoat.seeds import FLOOR_SEED_OFFSET

Model = Literal["distilled", "baseline"]


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to make the images of all subjects."""

    model: Model
    steps: int
    head: str | None = None
    """The head's name in the benchmark; None for the model's own images."""
    strength: float = 1.0
    other_seeds: bool = False
    """The noise floor: the same prompts at other seeds."""

    @property
    def label(self) -> str:
        """Short and readable: ``4 steps + unet at 0.75``, ``baseline, 28 steps``."""
        steps = count_steps(self.steps)
        if self.model == "baseline":
            return f"baseline, {steps}" + (", other seeds" if self.other_seeds else "")
        if self.head is None:
            return steps
        return f"{steps} + {self.head}" + ("" if self.strength == 1 else f" at {self.strength:g}")


def own_arms(pair: ModelPair) -> tuple[Arm, Arm, Arm]:
    """Of a pair: both models at their own step counts, distilled first, and the noise floor."""
    distilled, baseline = Arm("distilled", pair.distilled.steps), Arm("baseline", pair.baseline.steps)
    return distilled, baseline, replace(baseline, other_seeds=True)


@dataclass(frozen=True, slots=True)
class Subjects:
    """Prompts with one noise seed each, the same for every arm."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]

    @classmethod
    def of(cls, prompts: Iterable[str | Prompt], seeds: Sequence[int], *, what: str) -> Subjects:
        """Checked subjects; raises `UsageError` for anything that `check_request` refuses, and for fewer than 2.

        ``what`` names the caller's work in that error.
        """
        texts, numbers = check_request([prompt.text for prompt in as_prompts(prompts)], seeds)
        if len(texts) < 2:
            raise UsageError(f"{what} needs 2 or more subjects (1,000 or more to quote it); give more prompts")
        return cls(tuple(texts), tuple(numbers))

    def __len__(self) -> int:
        return len(self.prompts)

    def batch(self, start: int, size: int, *, other_seeds: bool = False) -> tuple[list[str], list[int]]:
        """Prompts and seeds of one batch, with `FLOOR_SEED_OFFSET` on the seeds for ``other_seeds``."""
        part, offset = slice(start, start + size), FLOOR_SEED_OFFSET if other_seeds else 0
        return list(self.prompts[part]), [seed + offset for seed in self.seeds[part]]

    @property
    def digest(self) -> str:
        """SHA-256 of all prompts and seeds."""
        return hashlib.sha256(json.dumps([self.prompts, self.seeds]).encode()).hexdigest()


def grid(
    distilled_steps: Sequence[int],
    heads: Sequence[str],
    strengths: Sequence[float],
    baseline_steps: Sequence[int],
    without_strength: Sequence[str] = (),
) -> list[Arm]:
    """Every arm once: the baseline's step counts, then for each distilled step count no head and every head.

    ``heads`` are tried at every strength, those ``without_strength`` as they are. Raises `UsageError` for an impossible
    step count or a strength outside (0, 2].
    """
    for steps in (*distilled_steps, *baseline_steps):
        if not 1 <= steps <= MAX_STEPS:
            raise UsageError(f"{steps} steps are not possible; use 1 to {MAX_STEPS}")
    for strength in strengths:
        if not 0 < strength <= 2:
            raise UsageError(f"strength {strength:g} is outside (0, 2]; the model without a head is tried anyway")
    arms = [Arm("baseline", steps) for steps in baseline_steps]
    for steps in distilled_steps:
        arms.append(Arm("distilled", steps))
        arms += [Arm("distilled", steps, head, strength) for head in heads for strength in strengths]
        arms += [Arm("distilled", steps, head) for head in without_strength]
    return list(dict.fromkeys(arms))
