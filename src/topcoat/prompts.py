"""Portrait prompts: explicit attributes in plain English, balanced and seeded.

A prompt is a `PortraitWords` (what is said of the subject) turned into one sentence. Sampling is stratified: every
attribute deals its values in shuffled rounds, so the marginals are balanced at any count, and prompt ``i`` of a seed
is the same prompt however many are asked for.
"""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from topcoat.errors import UsageError

MAX_WORDS = 400
"""Longest prompt accepted; diffusion text encoders read 77 to 512 tokens, so more is a mistake, not a wish."""

Split = Literal["train", "val", "test"]

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
"""Every attribute that a prompt can say, with the words it can take."""


@dataclass(frozen=True, slots=True)
class PortraitWords:
    """What a prompt says of a portrait, one word (or short phrase) for each attribute of `VOCABULARY`.

    Raises `UsageError` for a word outside the vocabulary.
    """

    age: str
    gender: str
    skin: str
    hair_length: str
    hair_texture: str
    hair_color: str
    eyes: str
    facial_hair: str
    freckles: str
    glasses: str
    expression: str
    clothing_color: str
    garment: str
    light_tone: str
    light_side: str
    background: str

    def __post_init__(self) -> None:
        for name, allowed in VOCABULARY.items():
            value = getattr(self, name)
            if value not in allowed:
                raise UsageError(f"portrait attribute {name}={value!r} is unknown; use one of: {', '.join(allowed)}")

    def sentence(self) -> str:
        """The prompt's text, for example ``studio portrait of a young woman, fair skin, long wavy red hair, ...``."""
        hair = (
            "bald" if self.hair_length == "bald" else f"{self.hair_length} {self.hair_texture} {self.hair_color} hair"
        )
        article = "an" if self.age[0] in "aeiou" else "a"
        parts = [
            f"studio portrait of {article} {self.age} {self.gender}",
            f"{self.skin} skin",
            hair,
            f"{self.eyes} eyes",
            self.facial_hair,
            self.freckles,
            self.glasses,
            self.expression,
            f"{self.clothing_color} {self.garment}",
            f"{self.light_tone} light from the {self.light_side}",
            f"{self.background} background",
        ]
        return ", ".join(part for part in parts if part != "none")


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt: a stable ``id``, its ``text`` and, where it was sampled, the ``words`` it says."""

    id: str
    text: str
    words: PortraitWords | None = None

    @property
    def split(self) -> Split:
        """``train`` (90 %), ``val`` (5 %) or ``test`` (5 %), decided by the id alone."""
        share = int(hashlib.sha256(self.id.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
        return "train" if share < 0.90 else "val" if share < 0.95 else "test"

    @property
    def attributes(self) -> dict[str, str]:
        """The words as a plain mapping; empty for a prompt that a user wrote."""
        return {} if self.words is None else dataclasses.asdict(self.words)


def prompt_from_text(text: str) -> Prompt:
    """A `Prompt` from a user's own text, with an id derived from that text.

    Raises `UsageError` if the text is empty or has more than `MAX_WORDS` words.
    """
    text = " ".join(text.split())
    count = len(text.split(" "))
    if not text:
        raise UsageError('the prompt is empty; say what to paint, for example "studio portrait of an old man, beard"')
    if count > MAX_WORDS:
        raise UsageError(f"the prompt has {count} words; at most {MAX_WORDS} are allowed, shorten it")
    return Prompt(id=hashlib.sha256(text.encode()).hexdigest()[:16], text=text)


def as_prompts(prompts: Iterable[str | Prompt]) -> list[Prompt]:
    """Prompts from any mix of texts and `Prompt` objects; a single string is refused as a likely slip."""
    if isinstance(prompts, str):
        raise UsageError("prompts must be a list of texts, not one text; put it in brackets: [prompt]")
    return [item if isinstance(item, Prompt) else prompt_from_text(item) for item in prompts]


def sample_prompts(count: int, seed: int = 0) -> list[Prompt]:
    """``count`` balanced portrait prompts; the first ``n`` are the same for every ``count >= n``.

    Raises `UsageError` if ``count`` is below 1 or ``seed`` is negative.
    """
    if count < 1:
        raise UsageError(f"cannot sample {count} prompts; ask for 1 or more")
    if seed < 0:
        raise UsageError(f"prompt seed {seed} is negative; use 0 or more")
    deck = _Deck(seed)
    prompts = []
    for index in range(count):
        words = _words_at(deck, index)
        prompts.append(Prompt(id=f"{seed:04d}-{index:08d}", text=words.sentence(), words=words))
    return prompts


def held_out_prompts(count: int, seed: int = 0) -> list[Prompt]:
    """The first ``count`` sampled prompts of the ``test`` split, which no head is trained on."""
    wanted = 40 * count  # one prompt in 20 is of that split
    while True:
        found = [prompt for prompt in sample_prompts(wanted, seed) if prompt.split == "test"]
        if len(found) >= count:
            return found[:count]
        wanted *= 2


class _Deck:
    """Deals each attribute's values in shuffled rounds; one round is cached per attribute."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rounds: dict[str, tuple[int, list[str]]] = {}

    def draw(self, name: str, values: tuple[str, ...], index: int) -> str:
        """The value at position ``index`` of the attribute's deck."""
        number, position = divmod(index, len(values))
        cached = self._rounds.get(name)
        if cached is None or cached[0] != number:
            order = list(values)
            random.Random(f"{self._seed}/{name}/{number}").shuffle(order)
            cached = self._rounds[name] = (number, order)
        return cached[1][position]


def _words_at(deck: _Deck, index: int) -> PortraitWords:
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
