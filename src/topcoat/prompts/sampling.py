"""Sampled prompts: stratified rounds of attributes, the mini style, and which style a model pair understands."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Literal

from topcoat.errors import UsageError
from topcoat.prompts.prompt import Prompt, check_count_and_seed

Style = Literal["photo", "mini"]
"""``photo``: full sentences with invented names, for real models. ``mini``: the few words that the mini pair knows."""

VOCABULARY: Mapping[str, tuple[str, ...]] = {
    "age": ("young", "middle-aged", "old"),
    "gender": ("woman", "man"),
    "skin": ("pale", "fair", "olive", "tan", "brown", "dark"),
    "hair_length": ("short", "shoulder-length", "long", "bald"),
    "hair_texture": ("straight", "wavy", "curly"),
    "hair_color": ("black", "brown", "blond", "red", "grey", "white"),
    "eyes": ("brown", "green", "blue", "grey"),
    "facial_hair": ("none", "stubble", "beard"),
    "freckles": ("none", "freckles"),
    "glasses": ("none", "glasses"),
    "expression": ("neutral expression", "gentle smile", "broad smile"),
    "clothing_color": ("white", "black", "grey", "red", "blue", "green", "yellow"),
    "garment": ("shirt", "sweater"),
    "light_tone": ("warm", "white", "cool"),
    "light_side": ("left", "right", "front"),
    "background": ("dark", "grey", "white", "blue", "green", "beige"),
}
"""Every attribute of a mini prompt, with the words that the embedded mini pair was trained on."""

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


def sample_prompts(count: int, seed: int = 0) -> list[Prompt]:
    """``count`` balanced prompts of the mini vocabulary; the first ``n`` are the same for every ``count >= n``.

    Raises `UsageError` if ``count`` is below 1 or ``seed`` is negative.
    """
    check_count_and_seed(count, seed)
    sampler = StratifiedSampler(seed)
    prompts = []
    for index in range(count):
        words = _words_at(sampler, index)
        prompts.append(Prompt(id=f"{seed:04d}-{index:08d}", text=mini_sentence(words), attributes=words))
    return prompts


def check_words(attributes: Mapping[str, str]) -> None:
    """Raise `UsageError` for an unknown word of attributes that are those of a mini prompt; others may hold any."""
    if attributes.keys() != VOCABULARY.keys():
        return
    for name, allowed in VOCABULARY.items():
        if attributes[name] not in allowed:
            raise UsageError(
                f"portrait attribute {name}={attributes[name]!r} is unknown; use one of: {', '.join(allowed)}"
            )


def _words_at(sampler: StratifiedSampler, index: int) -> dict[str, str]:
    """One portrait; a word that another rules out (a woman's beard, grey hair of the young) is sampled again."""
    words = {name: sampler.sample(name, values, index) for name, values in VOCABULARY.items()}
    if words["gender"] == "woman":
        words["facial_hair"] = "none"
        if words["hair_length"] == "bald":
            lengths = ("short", "shoulder-length", "long")
            words["hair_length"] = sampler.sample("hair_length of a woman", lengths, index)
    elif words["hair_length"] == "shoulder-length":
        words["hair_length"] = "short"
    if words["age"] == "young" and words["hair_color"] in ("grey", "white"):
        words["hair_color"] = sampler.sample("hair_color of the young", ("black", "brown", "blond", "red"), index)
    return words


def mini_sentence(words: Mapping[str, str]) -> str:
    """The prompt's text, for example ``studio portrait of a young woman, fair skin, long wavy red hair, ...``."""
    hair = f"{words['hair_length']} {words['hair_texture']} {words['hair_color']} hair"
    parts = (
        f"studio portrait of {'an' if words['age'][0] in 'aeiou' else 'a'} {words['age']} {words['gender']}",
        f"{words['skin']} skin",
        "bald" if words["hair_length"] == "bald" else hair,
        f"{words['eyes']} eyes",
        words["facial_hair"],
        words["freckles"],
        words["glasses"],
        words["expression"],
        f"{words['clothing_color']} {words['garment']}",
        f"{words['light_tone']} light from the {words['light_side']}",
        f"{words['background']} background",
    )
    return ", ".join(part for part in parts if part != "none")


def style_of_pair(pair: str) -> Style:
    """The style that the model pair of that name understands: ``mini`` for the mini pair and pairs named after it."""
    return "mini" if pair.split("-")[0] == "mini" else "photo"


def sample_style(style: Style, count: int, seed: int = 0) -> list[Prompt]:
    """``count`` prompts of a style with the packaged vocabulary; raises `UsageError` like `sample_prompts`."""
    if style == "mini":
        return sample_prompts(count, seed)
    from topcoat.prompts.photo import sample_photo_prompts

    return sample_photo_prompts(count, seed)


def held_out_prompts(count: int, seed: int = 0, style: Style = "mini") -> list[Prompt]:
    """The first ``count`` sampled prompts of the ``test`` split, which no head is trained on."""
    wanted = 40 * count  # one prompt in 20 is of that split
    while True:
        prompts = [prompt for prompt in sample_style(style, wanted, seed) if prompt.split == "test"]
        if len(prompts) >= count:
            return prompts[:count]
        wanted *= 2
