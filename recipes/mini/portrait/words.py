"""The coarse words of a portrait: what its prompt says, drawn at random in plausible and balanced combinations."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

PORTRAIT_VOCABULARY: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "age": ("young", "middle-aged", "old"),
        "gender": ("woman", "man"),
        "ancestry": ("african", "asian", "european", "latin", "middle eastern", "south asian"),
        "skin": ("pale", "fair", "olive", "tan", "brown", "dark"),
        "face_shape": ("oval", "round", "square", "long", "heart-shaped"),
        "hair_style": (
            *("bald", "cropped", "short", "side-parted", "swept-back"),
            *("bob", "medium", "long", "tied-back", "afro"),
        ),
        "hair_texture": ("straight", "wavy", "curly"),
        "hair_color": ("black", "brown", "blond", "red", "grey", "white"),
        "facial_hair": ("none", "stubble", "moustache", "beard"),
        "eyes": ("brown", "green", "blue", "grey"),
        "freckles": ("none", "freckles"),
        "expression": (
            *("neutral expression", "gentle smile", "broad smile"),
            *("serious expression", "surprised expression"),
        ),
        "glasses": ("none", "glasses"),
        "garment": ("shirt", "sweater", "t-shirt", "suit jacket", "turtleneck"),
        "clothing_color": ("black", "white", "grey", "navy", "blue", "green", "red", "burgundy", "mustard", "brown"),
        "light_tone": ("warm", "white", "cool"),
        "light_side": ("left", "right", "front"),
        "light_quality": ("soft", "hard"),
        "background": ("dark", "grey", "white", "blue", "green", "beige", "brown", "red"),
    }
)
"""Every attribute with the words it may take."""


@dataclass(frozen=True)
class Phrase:
    """A piece of a prompt's text and the attributes that it says."""

    text: str
    attributes: tuple[str, ...]


@dataclass(frozen=True)
class Words:
    """One word for each attribute of `PORTRAIT_VOCABULARY`; ``none`` says that something is absent."""

    age: str
    gender: str
    ancestry: str
    skin: str
    face_shape: str
    hair_style: str
    hair_texture: str
    hair_color: str
    facial_hair: str
    eyes: str
    freckles: str
    expression: str
    glasses: str
    garment: str
    clothing_color: str
    light_tone: str
    light_side: str
    light_quality: str
    background: str

    def __post_init__(self) -> None:
        """Refuse a word that the vocabulary does not know."""
        for name, value in dataclasses.asdict(self).items():
            if value not in PORTRAIT_VOCABULARY[name]:
                known = ", ".join(PORTRAIT_VOCABULARY[name])
                raise ValueError(f"{name} cannot be {value!r}; it is one of {known}")

    def phrases(self, *, ancestry: bool = True) -> list[Phrase]:
        """What the words say, phrase by phrase; an absent extra has none. ``ancestry`` False leaves that word out."""
        if self.hair_style == "bald":
            hair = Phrase("bald", ("hair_style",))
        elif self.hair_style == "afro":
            hair = Phrase(f"{self.hair_color} afro", ("hair_style", "hair_color"))
        else:
            hair = Phrase(
                f"{self.hair_style} {self.hair_texture} {self.hair_color} hair",
                ("hair_style", "hair_texture", "hair_color"),
            )
        person = f"{self.age} {self.ancestry} {self.gender}" if ancestry else f"{self.age} {self.gender}"
        article = "an" if person[0] in "aeiou" else "a"
        phrases = [
            Phrase(
                f"studio portrait of {article} {person}",
                ("age", "ancestry", "gender") if ancestry else ("age", "gender"),
            ),
            Phrase(f"{self.skin} skin", ("skin",)),
            Phrase(f"{self.face_shape} face", ("face_shape",)),
            hair,
            Phrase(self.facial_hair, ("facial_hair",)),
            Phrase(f"{self.eyes} eyes", ("eyes",)),
            Phrase(self.freckles, ("freckles",)),
            Phrase(self.expression, ("expression",)),
            Phrase(self.glasses, ("glasses",)),
            Phrase(f"{self.clothing_color} {self.garment}", ("clothing_color", "garment")),
            Phrase(
                f"{self.light_quality} {self.light_tone} light from the {self.light_side}",
                ("light_quality", "light_tone", "light_side"),
            ),
            Phrase(f"{self.background} background", ("background",)),
        ]
        return [phrase for phrase in phrases if phrase.text != "none"]

    def sentence(self) -> str:
        """The prompt's text: all phrases, for example ``studio portrait of a young latin woman, olive skin, ...``."""
        return ", ".join(phrase.text for phrase in self.phrases())

    def mirrored(self) -> Words:
        """The words of the mirrored picture: the light comes from the other side."""
        sides = {"left": "right", "right": "left", "front": "front"}
        return dataclasses.replace(self, light_side=sides[self.light_side])


def sample_words(index: int, seed: int = 0) -> Words:
    """Plausible words that depend on ``(seed, index)`` alone."""
    rng = np.random.default_rng([seed, index])

    def pick(weights: Mapping[str, float]) -> str:
        names: Sequence[str] = tuple(weights)
        chances = np.fromiter(weights.values(), dtype=np.float64)
        return names[int(rng.choice(len(names), p=chances / chances.sum()))]

    def even(attribute: str) -> str:
        return pick(dict.fromkeys(PORTRAIT_VOCABULARY[attribute], 1.0))

    age, gender, ancestry = even("age"), even("gender"), even("ancestry")
    skin = pick(_SKIN_OF_ANCESTRY[ancestry])
    hair_style = pick(_hair_style_weights(age, gender, ancestry))
    hair_texture = "curly" if hair_style == "afro" else pick(_texture_weights(ancestry, hair_style))
    hair_color = pick(_hair_color_weights(age, ancestry))
    facial_hair = "none" if gender == "woman" else pick({"none": 4, "stubble": 2.2, "moustache": 1.3, "beard": 3})
    garments = {"shirt": 1.0, "sweater": 1.0, "t-shirt": 1.0, "suit jacket": 1.0, "turtleneck": 0.8}
    return Words(
        age=age,
        gender=gender,
        ancestry=ancestry,
        skin=skin,
        face_shape=even("face_shape"),
        hair_style=hair_style,
        hair_texture=hair_texture,
        hair_color=hair_color,
        facial_hair=facial_hair,
        eyes=pick(_eye_weights(ancestry)),
        freckles="freckles" if rng.random() < _FRECKLES_OF_SKIN[skin] else "none",
        expression=pick(
            {
                "neutral expression": 1.0,
                "gentle smile": 1.2,
                "broad smile": 0.9,
                "serious expression": 0.8,
                "surprised expression": 0.4,
            }
        ),
        glasses="glasses" if rng.random() < 0.2 else "none",
        garment=pick(garments),
        clothing_color=even("clothing_color"),
        light_tone=even("light_tone"),
        light_side=even("light_side"),
        light_quality=even("light_quality"),
        background=even("background"),
    )


_SKIN_OF_ANCESTRY: Mapping[str, Mapping[str, float]] = {
    "african": {"brown": 0.4, "dark": 0.6},
    "asian": {"pale": 0.25, "fair": 0.45, "olive": 0.2, "tan": 0.1},
    "european": {"pale": 0.4, "fair": 0.5, "olive": 0.1},
    "latin": {"fair": 0.2, "olive": 0.35, "tan": 0.35, "brown": 0.1},
    "middle eastern": {"fair": 0.25, "olive": 0.5, "tan": 0.25},
    "south asian": {"tan": 0.4, "brown": 0.5, "dark": 0.1},
}

_FRECKLES_OF_SKIN: Mapping[str, float] = {
    "pale": 0.4,
    "fair": 0.3,
    "olive": 0.12,
    "tan": 0.1,
    "brown": 0.05,
    "dark": 0.0,
}


def _hair_style_weights(age: str, gender: str, ancestry: str) -> dict[str, float]:
    if gender == "woman":
        weights = {"cropped": 0.4, "short": 0.7, "side-parted": 0.5, "swept-back": 0.4}
        weights |= {"bob": 1.4, "medium": 1.5, "long": 1.7, "tied-back": 1.3}
        if age == "old":
            weights |= {"long": 0.7, "short": 1.4, "bob": 1.7}
    else:
        weights = {"bald": 0.5, "cropped": 1.2, "short": 1.6, "side-parted": 1.3, "swept-back": 1.2}
        weights |= {"medium": 0.5, "long": 0.3, "tied-back": 0.25}
        if age == "young":
            weights["bald"] = 0.12
        if age == "old":
            weights |= {"bald": 1.1, "medium": 0.25, "long": 0.12, "tied-back": 0.1}
    if ancestry == "african":
        weights["afro"] = 1.6
        weights["cropped"] = weights.get("cropped", 0.0) + 0.6
    elif ancestry == "latin":
        weights["afro"] = 0.15
    return weights


def _texture_weights(ancestry: str, hair_style: str) -> dict[str, float]:
    if ancestry == "african":
        return {"wavy": 0.25, "curly": 1.0} if hair_style != "swept-back" else {"wavy": 1.0}
    if ancestry == "asian":
        return {"straight": 1.0, "wavy": 0.3}
    if ancestry in ("latin", "middle eastern", "south asian"):
        return {"straight": 0.8, "wavy": 1.0, "curly": 0.5}
    return {"straight": 1.0, "wavy": 0.9, "curly": 0.4}


def _hair_color_weights(age: str, ancestry: str) -> dict[str, float]:
    if ancestry == "european":
        natural = {"black": 0.5, "brown": 1.4, "blond": 1.2, "red": 0.7}
    elif ancestry in ("latin", "middle eastern"):
        natural = {"black": 1.2, "brown": 1.0, "blond": 0.12, "red": 0.05}
    else:
        natural = {"black": 1.5, "brown": 0.35}
    silver = {"young": (0.0, 0.0), "middle-aged": (0.35, 0.0), "old": (1.8, 1.2)}[age]
    total = sum(natural.values())
    return {name: weight / total for name, weight in natural.items()} | {"grey": silver[0], "white": silver[1]}


def _eye_weights(ancestry: str) -> dict[str, float]:
    if ancestry == "european":
        return {"brown": 0.8, "green": 0.8, "blue": 1.2, "grey": 0.7}
    if ancestry in ("latin", "middle eastern"):
        return {"brown": 1.4, "green": 0.4, "blue": 0.1, "grey": 0.1}
    return {"brown": 1.0}
