"""Which subjects a report shows: the best, the middle and the worst by a number, so that the choice is not ours."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

EXAMPLES_EACH = 2
"""Subjects of each place (best, median, worst) that a report shows, for each number."""


@dataclass(frozen=True, slots=True)
class Example:
    """A subject to look at, chosen by a number."""

    measure: str
    """What it was chosen by, such as ``identity``."""
    place: str
    """``best``, ``median`` or ``worst``."""
    index: int
    """Position in the streams, from 0."""
    value: float


def choose_examples(
    measure: str, values: Tensor, *, best_is_high: bool, each: int = EXAMPLES_EACH
) -> tuple[Example, ...]:
    """``each`` subjects of every place from ``(N,)`` values, best first; the worst start with the very worst.

    A value that is not finite is in no place, and a subject is in one only: of few subjects there are fewer. Equal
    values keep the order of the subjects.
    """
    rows = values.isfinite().nonzero().squeeze(1)
    order = rows[values[rows].argsort(descending=best_is_high, stable=True)].tolist()
    middle = max(0, (len(order) - each) // 2)
    places = {"best": order[:each], "worst": order[::-1][:each], "median": order[middle : middle + each]}
    place_of: dict[int, str] = {}
    for place, chosen in places.items():
        for index in chosen:
            place_of.setdefault(index, place)
    return tuple(
        Example(measure, place, index, float(values[index]))
        for place in ("best", "median", "worst")
        for index in places[place]
        if place_of[index] == place
    )
