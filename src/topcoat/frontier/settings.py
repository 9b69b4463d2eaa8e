"""What a sweep tries: steps of the distilled model x head x strength, and the baseline at fewer steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from topcoat.cost import count_steps
from topcoat.errors import UsageError
from topcoat.generators.base import MAX_STEPS


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to make the images."""

    model: Literal["distilled", "baseline"]
    steps: int
    head: str | None = None
    """The head's name in the sweep; None for the model's own images."""
    strength: float = 1.0

    @property
    def label(self) -> str:
        """Short and readable: ``4 steps + best at 0.75``, ``baseline, 28 steps``."""
        if self.model == "baseline":
            return f"baseline, {count_steps(self.steps)}"
        if self.head is None:
            return count_steps(self.steps)
        at = "" if self.strength == 1 else f" at {self.strength:g}"
        return f"{count_steps(self.steps)} + {self.head}{at}"


def settings_of(
    distilled_steps: Sequence[int],
    heads: Sequence[str],
    strengths: Sequence[float],
    baseline_steps: Sequence[int],
    decoders: Sequence[str] = (),
) -> list[Setting]:
    """Every setting once: for each step count the bare model and every head at every strength, then the baseline's.

    ``decoders`` are heads that take latents: they have no strength.

    Raises `UsageError` for a step count that cannot be or a strength outside (0, 2].
    """
    for steps in (*distilled_steps, *baseline_steps):
        if not 1 <= steps <= MAX_STEPS:
            raise UsageError(f"{steps} steps are not possible; use 1 to {MAX_STEPS}")
    for strength in strengths:
        if not 0 < strength <= 2:
            raise UsageError(f"strength {strength:g} is outside (0, 2]; the model without a head is tried anyway")
    found = [Setting("baseline", steps) for steps in baseline_steps]
    for steps in distilled_steps:
        found.append(Setting("distilled", steps))
        found += [Setting("distilled", steps, head, strength) for head in heads for strength in strengths]
        found += [Setting("distilled", steps, head) for head in decoders]
    return list(dict.fromkeys(found))
