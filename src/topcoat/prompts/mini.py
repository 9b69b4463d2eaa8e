"""The mini style: the vocabulary that the embedded mini pair was trained on, and its prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from topcoat.errors import UsageError
from topcoat.prompts.prompt import Prompt, check_count_and_seed
from topcoat.prompts.sampler import StratifiedSampler

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
"""Every attribute of a mini prompt, with its words."""


@dataclass(frozen=True, slots=True)
class PortraitWords:
    """The words of a mini prompt, one (or a short phrase) for each attribute of `VOCABULARY`.

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
        hair = f"{self.hair_length} {self.hair_texture} {self.hair_color} hair"
        parts = [
            f"studio portrait of {'an' if self.age[0] in 'aeiou' else 'a'} {self.age} {self.gender}",
            f"{self.skin} skin",
            "bald" if self.hair_length == "bald" else hair,
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


def sample_prompts(count: int, seed: int = 0) -> list[Prompt]:
    """``count`` balanced prompts of the mini vocabulary; the first ``n`` are the same for every ``count >= n``.

    Raises `UsageError` if ``count`` is below 1 or ``seed`` is negative.
    """
    check_count_and_seed(count, seed)
    sampler = StratifiedSampler(seed)
    prompts = []
    for index in range(count):
        words = _words_at(sampler, index)
        attributes = {name: getattr(words, name) for name in VOCABULARY}
        prompts.append(Prompt(id=f"{seed:04d}-{index:08d}", text=words.sentence(), attributes=attributes))
    return prompts


def words_of(prompt: Prompt) -> PortraitWords | None:
    """The words of a prompt of the mini vocabulary, None for any other prompt; raises like `PortraitWords`."""
    return PortraitWords(**prompt.attributes) if prompt.attributes.keys() == VOCABULARY.keys() else None


def _words_at(sampler: StratifiedSampler, index: int) -> PortraitWords:
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
    return PortraitWords(**words)
