"""Prompts of the mini vocabulary, which the embedded mini pair was taught."""

from __future__ import annotations

from topcoat.prompts.deck import Deck
from topcoat.prompts.prompt import Prompt, check_count_and_seed
from topcoat.prompts.words import VOCABULARY, PortraitWords


def sample_prompts(count: int, seed: int = 0) -> list[Prompt]:
    """``count`` balanced prompts of the mini vocabulary; the first ``n`` are the same for every ``count >= n``.

    Raises `UsageError` if ``count`` is below 1 or ``seed`` is negative.
    """
    check_count_and_seed(count, seed)
    deck = Deck(seed)
    prompts = []
    for index in range(count):
        words = _words_at(deck, index)
        prompts.append(Prompt(id=f"{seed:04d}-{index:08d}", text=words.sentence(), words=words))
    return prompts


def _words_at(deck: Deck, index: int) -> PortraitWords:
    """Deal one portrait; what a word rules out (a woman's beard, a young head gone grey) is dealt again without it."""
    dealt = {name: deck.draw(name, values, index) for name, values in VOCABULARY.items()}
    if dealt["gender"] == "woman":
        dealt["facial_hair"] = "none"
        if dealt["hair_length"] == "bald":
            dealt["hair_length"] = deck.draw("hair_length of a woman", ("short", "shoulder-length", "long"), index)
    elif dealt["hair_length"] == "shoulder-length":
        dealt["hair_length"] = "short"
    if dealt["age"] == "young" and dealt["hair_color"] in ("grey", "white"):
        dealt["hair_color"] = deck.draw("hair_color of the young", ("black", "brown", "blond", "red"), index)
    return PortraitWords(**dealt)
