"""Pareto sets and choices on (cost, quality) points; pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from topcoat.errors import UsageError


class Priced(Protocol):
    """A point with a cost and a quality."""

    @property
    def tflop(self) -> float:
        """TFLOP per image, whole pipeline."""
        ...

    @property
    def distance(self) -> float:
        """Fréchet distance to the baseline; smaller is better."""
        ...

    @property
    def share(self) -> float | None:
        """Share of the gap closed; None where there is no gap."""
        ...


P = TypeVar("P", bound=Priced)


def pareto_front(points: Sequence[P]) -> list[P]:
    """The points that no other beats in one of cost and distance without losing in the other, cheapest first.

    Of points that are equal in both, the first is kept.
    """
    front: list[P] = []
    for point in sorted(points, key=lambda one: (one.tflop, one.distance)):
        if not front or point.distance < front[-1].distance:
            front.append(point)
    return front


def choose(points: Sequence[P], *, target_gap: float | None = None, max_tflop: float | None = None) -> P | None:
    """The cheapest point that closes at least ``target_gap`` of the gap, or the best one of at most ``max_tflop``.

    With both, the cheapest that meets both; None if no point does. Raises `UsageError` if neither is given or a limit
    cannot be met by anything (a share above 1.5, a cost of 0 or less).
    """
    if target_gap is None and max_tflop is None:
        raise UsageError("nothing to choose by; give a target share of the gap, a largest cost, or both")
    if target_gap is not None and not 0 < target_gap <= 1.5:
        raise UsageError(f"target share {target_gap:g} is outside (0, 1.5]; 0.9 means 90 % of the gap")
    if max_tflop is not None and max_tflop <= 0:
        raise UsageError(f"a cost of at most {max_tflop:g} TFLOP is not possible; use more than 0")
    fitting = [point for point in points if max_tflop is None or point.tflop <= max_tflop]
    if target_gap is None:
        return min(fitting, key=lambda one: (one.distance, one.tflop), default=None)
    good = [point for point in fitting if _at_least(point.share, target_gap)]
    return min(good, key=lambda one: (one.tflop, one.distance), default=None)


def _at_least(share: float | None, target: float) -> bool:
    return share is not None and share >= target
