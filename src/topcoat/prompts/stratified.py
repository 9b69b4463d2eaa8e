"""Stratified sampling: every value of an attribute comes once in a round, and rounds are shuffled."""

from __future__ import annotations

import random
from collections.abc import Callable

from topcoat.errors import UsageError

_SHUFFLES = 1000
_CACHED_ROUNDS = 4096

Fits = Callable[[int, str], bool]
"""Whether a value is allowed at a position."""


class StratifiedSampler:
    """Samples attributes independently, each in shuffled rounds in which every value comes once.

    At any count the values of an attribute are balanced within one, and position ``i`` has the same value however many
    are asked for. ``scope`` keeps samplers of one seed apart.
    """

    def __init__(self, seed: int, scope: str = "") -> None:
        self._seed, self._scope = seed, scope
        self._rounds: dict[tuple[str, int], list[str]] = {}

    def sample(self, name: str, values: tuple[str, ...], index: int, fits: Fits | None = None) -> str:
        """The value of the attribute ``name`` at position ``index``.

        A round with a value that does not fit its position is shuffled again, which keeps the balance. Where no order
        fits, the values that do not fit are replaced by ones that do. Raises `UsageError` if there is none.
        """
        number, position = divmod(index, len(values))
        order = self._rounds.get((name, number))
        if order is None:
            if len(self._rounds) >= _CACHED_ROUNDS:
                self._rounds.clear()  # a round that is needed again comes out the same
            order = self._rounds[name, number] = self._round(name, values, number, fits)
        return order[position]

    def _round(self, name: str, values: tuple[str, ...], number: int, fits: Fits | None) -> list[str]:
        rng = random.Random(f"{self._seed}/{self._scope}{name}/{number}")
        order = list(values)
        rng.shuffle(order)
        if fits is None:
            return order
        first = number * len(values)
        for _ in range(_SHUFFLES):
            if all(fits(first + offset, value) for offset, value in enumerate(order)):
                return order
            rng.shuffle(order)
        for offset, value in enumerate(order):
            if not fits(first + offset, value):
                fitting = [other for other in values if fits(first + offset, other)]
                if not fitting:
                    raise UsageError(
                        f"prompt {first + offset} of seed {self._seed} has no possible {name}: every word of it is "
                        "implausible there; allow one more"
                    )
                order[offset] = rng.choice(fitting)
        return order
