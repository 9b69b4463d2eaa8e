"""Which subjects a report shows: the best, the middle and the worst by a figure, so that nobody picks them."""

from __future__ import annotations

from torch import Tensor

from topcoat.metrics.record import Example

EXAMPLES_EACH = 2
"""Subjects of each place (best, median, worst) that a report shows, for identity and for the distance each."""


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
    found: dict[int, str] = {}
    for place, chosen in places.items():
        for index in chosen:
            found.setdefault(index, place)
    return tuple(
        Example(measure, place, index, float(values[index]))
        for place in ("best", "median", "worst")
        for index in places[place]
        if found[index] == place
    )
