"""Stratified sampling: every attribute deals its words in shuffled rounds."""

from __future__ import annotations

import random
from collections.abc import Callable

from topcoat.errors import UsageError

_SHUFFLES = 1000
_KEPT_ROUNDS = 4096

Fits = Callable[[int, str], bool]
"""Told a position and a word: may that word be dealt there?"""


class Deck:
    """Deals the words of any number of attributes, each in rounds of its own in which every word comes once.

    So at any count no word is dealt more than once oftener than another, and position ``i`` holds the same word
    however many are asked for. Rounds of different attributes are shuffled apart, so attributes are independent.
    """

    def __init__(self, seed: int, scope: str = "") -> None:
        self._seed = seed
        self._scope = scope
        """Keeps decks of one seed and one name apart."""
        self._rounds: dict[tuple[str, int], list[str]] = {}

    def draw(self, name: str, values: tuple[str, ...], index: int, fits: Fits | None = None) -> str:
        """The word at position ``index`` of the deck ``name``.

        A round in which a word does not fit its position is shuffled again, which keeps the balance. Where no order
        of a round fits, the words that do not are replaced by ones that do. Raises `UsageError` if there is none.
        """
        number, position = divmod(index, len(values))
        dealt = self._rounds.get((name, number))
        if dealt is None:
            if len(self._rounds) >= _KEPT_ROUNDS:
                self._rounds.clear()  # a round that is wanted again is dealt again, and comes out the same
            dealt = self._rounds[name, number] = self._deal(name, values, number, fits)
        return dealt[position]

    def _deal(self, name: str, values: tuple[str, ...], number: int, fits: Fits | None) -> list[str]:
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
                        f"prompt {first + offset} of seed {self._seed} can have no {name}: every word of it is "
                        "implausible there; allow one more"
                    )
                order[offset] = rng.choice(fitting)
        return order
