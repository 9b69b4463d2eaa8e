"""The mini vocabulary: what a prompt for the embedded mini pair can say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from topcoat.errors import UsageError

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
"""Every attribute that a mini prompt can say, with the words it can take."""


@dataclass(frozen=True, slots=True)
class PortraitWords:
    """What a mini prompt says of a portrait, one word (or short phrase) for each attribute of `VOCABULARY`.

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
