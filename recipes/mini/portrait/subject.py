"""The numbers of a portrait: what its words leave open is drawn from its seed, each part from its own generator."""

from __future__ import annotations

import colorsys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recipes.mini.portrait.words import PORTRAIT_VOCABULARY, Words

Color = tuple[float, float, float]
"""Linear RGB reflectance (Rec. 709 primaries)."""


@dataclass(frozen=True)
class Subject:
    """One portrait's numbers. Angles are radians, colours linear RGB, strengths in [0, 1] unless said otherwise."""

    words: Words
    seed: int

    phenotype: Mapping[str, float]
    """anny's phenotype: gender, age, weight, ancestry and the rest."""
    shape: Mapping[str, float]
    """anny's local changes of the face, about -1..1, both sides of the face named."""
    action: Mapping[str, float]
    """anny's facial actions of the expression, 0..1."""

    skin_color: Color
    lip_color: Color
    ruddiness: float
    """Redness of cheeks, nose and ears."""
    eye_shadow: float
    """Darkness under and around the eyes."""
    freckle_density: float
    blotchiness: float
    """Strength of large, soft unevenness of the skin's tone."""
    wrinkles: float
    pores: float
    oiliness: float
    """How much the skin shines."""
    makeup: float
    """Strength of lipstick and rouge."""

    iris_color: Color
    limbal_ring: float
    pupil_radius: float
    """Fraction of the iris' radius."""

    yaw: float
    """Head's turn to the picture's right."""
    pitch: float
    """Head's nod, positive looks down."""
    roll: float
    """Head's tilt in the picture plane."""
    shoulder_turn: float
    """Turn of the shoulders against the head about the vertical."""
    gaze_x: float
    """Turn of the eyes from the head's forward direction, to the subject's left."""
    gaze_y: float
    """Turn of the eyes upwards."""

    key_azimuth: float
    """Direction of the key light, positive to the picture's right."""
    key_elevation: float
    key_size: float
    """Edge of the key light's square, metres."""
    key_strength: float
    fill_strength: float
    rim_strength: float
    light_color: Color

    backdrop_color: Color
    backdrop_gradient: tuple[float, float]
    """Change of brightness to the picture's right and to its top."""
    backdrop_glow: float
    """Brightness behind the head against that of the corners."""

    offset: tuple[float, float]
    """Shift of the framing as a fraction of the picture's size."""

    def identity_vector(self) -> np.ndarray:
        """Numbers that another photograph of the same person would share, float32, each about -1..1."""
        shape = [self.shape.get(name, 0.0) / 0.5 for name in VECTOR_SHAPES]
        phenotype = [2.0 * self.phenotype[name] - 1.0 for name in VECTOR_PHENOTYPES]
        skin = [2.0 * channel**0.45 - 1.0 for channel in (*self.skin_color, *self.lip_color, *self.iris_color)]
        rest = [self.ruddiness, self.eye_shadow, self.freckle_density, self.wrinkles, self.oiliness]
        return np.asarray([*shape, *phenotype, *skin, *rest, *_one_hot(self.words, IDENTITY_WORDS)], np.float32)

    def scene_vector(self) -> np.ndarray:
        """Numbers of the occasion: pose, expression, light, backdrop and clothing, float32, each about -1..1."""
        action = [self.action.get(name, 0.0) for name in VECTOR_ACTIONS]
        pose = [self.yaw / 0.35, self.pitch / 0.15, self.roll / 0.1, self.gaze_x / 0.2, self.gaze_y / 0.15]
        light = [self.key_azimuth, self.key_elevation, self.key_size - 1.0, self.key_strength - 1.0]
        light += [self.fill_strength, self.rim_strength, *self.light_color]
        backdrop = [2.0 * channel**0.45 - 1.0 for channel in self.backdrop_color]
        backdrop += [*self.backdrop_gradient, self.backdrop_glow]
        return np.asarray([*action, *pose, *light, *backdrop, *_one_hot(self.words, SCENE_WORDS)], np.float32)


IDENTITY_WORDS = (
    *("age", "gender", "ancestry", "skin", "face_shape"),
    *("hair_style", "hair_texture", "hair_color", "facial_hair", "eyes", "freckles"),
)
SCENE_WORDS = (
    *("expression", "glasses", "garment", "clothing_color"),
    *("light_tone", "light_side", "light_quality", "background"),
)
VECTOR_PHENOTYPES = ("gender", "age", "weight", "african", "asian", "caucasian")
VECTOR_SHAPES = (
    *("l-cheek-volume-incr", "l-cheek-bones-incr", "chin-height-incr", "chin-width-incr", "chin-prominent-incr"),
    *("l-eye-scale-incr", "l-eye-corner1-up", "l-eye-bag-incr", "eyebrows-trans-up", "eyebrows-angle-up"),
    *("forehead-scale-vert-incr", "head-scale-vert-incr", "head-scale-horiz-incr", "head-fat-incr"),
    *("mouth-scale-horiz-incr", "mouth-upperlip-volume-incr", "mouth-lowerlip-volume-incr"),
    *("nose-scale-vert-incr", "nose-scale-horiz-incr", "nose-hump-incr", "nose-point-up", "nose-width2-incr"),
)
VECTOR_ACTIONS = ("mouthSmileLeft", "jawOpen", "browInnerUp", "browDownLeft", "eyeSquintLeft", "eyeWideLeft")


def part_rng(seed: int, part: str) -> np.random.Generator:
    """The generator of one part, so that a change in one part moves no other."""
    return np.random.default_rng([seed, zlib.crc32(part.encode())])


def sample_subject(words: Words, seed: int) -> Subject:
    """The subject that ``words`` and ``seed`` determine."""
    return Subject(
        words=words,
        seed=seed,
        phenotype=_sample_phenotype(words, part_rng(seed, "phenotype")),
        shape=_sample_shape(words, part_rng(seed, "shape")),
        action=_sample_action(words, part_rng(seed, "expression")),
        **_sample_skin(words, part_rng(seed, "skin")),
        **_sample_eyes(words, part_rng(seed, "eyes")),
        **_sample_pose(part_rng(seed, "pose")),
        **_sample_light(words, part_rng(seed, "light")),
        **_sample_backdrop(words, part_rng(seed, "backdrop")),
    )


def _one_hot(words: Words, attributes: tuple[str, ...]) -> list[float]:
    return [
        1.0 if getattr(words, name) == word else -1.0
        for name in attributes
        for word in PORTRAIT_VOCABULARY[name]
        if word != "none"
    ]


def _clipped_normal(rng: np.random.Generator, mean: float, spread: float, low: float, high: float) -> float:
    return float(np.clip(rng.normal(mean, spread), low, high))


_ANCESTRY_MEANS: Mapping[str, tuple[float, float, float]] = {
    "african": (0.94, 0.03, 0.03),
    "asian": (0.03, 0.94, 0.03),
    "european": (0.03, 0.03, 0.94),
    "latin": (0.15, 0.3, 0.55),
    "middle eastern": (0.15, 0.08, 0.77),
    "south asian": (0.3, 0.15, 0.55),
}


def _sample_phenotype(words: Words, rng: np.random.Generator) -> dict[str, float]:
    low, high = {"young": (0.5, 0.58), "middle-aged": (0.68, 0.78), "old": (0.88, 0.99)}[words.age]
    man = words.gender == "man"
    concentration = 14.0 if words.ancestry in ("african", "asian", "european") else 10.0
    african, asian, caucasian = rng.dirichlet(np.array(_ANCESTRY_MEANS[words.ancestry]) * concentration + 0.2)
    weight = {"round": 0.66, "square": 0.55, "oval": 0.5, "heart-shaped": 0.46, "long": 0.42}[words.face_shape]
    return {
        "gender": float(rng.uniform(0.86, 1.0) if man else rng.uniform(0.0, 0.14)),
        "age": float(rng.uniform(low, high)),
        "muscle": float(rng.uniform(0.45, 0.65) if man else rng.uniform(0.4, 0.5)),
        "weight": _clipped_normal(rng, weight, 0.08, 0.34, 0.85),
        "height": 0.5,
        "proportions": 0.75,
        "cupsize": 0.4,
        "firmness": 0.6,
        "african": float(african),
        "asian": float(asian),
        "caucasian": float(caucasian),
    }


FACE_SHAPES: tuple[str, ...] = (
    *("cheek-trans-up", "cheek-volume-incr", "cheek-inner-incr", "cheek-bones-incr"),
    *("ear-lobe-incr", "ear-shape-round", "ear-trans-up", "ear-scale-vert-incr", "ear-scale-incr", "ear-wing-incr"),
    *("eye-corner1-up", "eye-height1-incr", "eye-scale-incr", "eye-push1-out", "eye-eyefold-up", "eye-height3-incr"),
    *("eye-height2-incr", "eye-bag-incr", "eye-push2-out", "eye-bag-height-incr", "eye-epicanthus-out"),
    *("eye-eyefold-angle-up", "eye-bag-out", "eye-corner2-up", "eye-trans-out"),
)
"""Local changes that anny has for each side, without their ``l-`` and ``r-``."""

MIDDLE_SHAPES: tuple[str, ...] = (
    *("chin-jaw-drop-incr", "chin-height-incr", "chin-prominent-incr", "chin-bones-incr", "chin-width-incr"),
    *("chin-cleft-incr", "chin-prognathism-incr"),
    *("eyebrows-angle-up", "eyebrows-trans-up", "eyebrows-trans-forward"),
    *("forehead-temple-incr", "forehead-trans-forward", "forehead-scale-vert-incr", "forehead-nubian-incr"),
    *("head-scale-vert-incr", "head-fat-incr", "head-back-scale-depth-incr", "head-age-incr"),
    *("head-scale-depth-incr", "head-scale-horiz-incr"),
    *("mouth-lowerlip-height-incr", "mouth-scale-horiz-incr", "mouth-cupidsbow-incr", "mouth-laugh-lines-out"),
    *("mouth-scale-depth-incr", "mouth-lowerlip-volume-incr", "mouth-angles-up", "mouth-upperlip-ext-up"),
    *("mouth-lowerlip-width-incr", "mouth-trans-forward", "mouth-upperlip-width-incr", "mouth-scale-vert-incr"),
    *("mouth-dimples-out", "mouth-upperlip-height-incr", "mouth-upperlip-volume-incr", "mouth-cupidsbow-width-incr"),
    *("mouth-lowerlip-ext-up", "mouth-upperlip-middle-up", "mouth-trans-up", "mouth-lowerlip-middle-up"),
    *("mouth-philtrum-volume-incr", "neck-double-incr", "neck-scale-horiz-incr"),
    *("nose-nostrils-angle-up", "nose-flaring-incr", "nose-curve-convex", "nose-scale-depth-incr"),
    *("nose-scale-vert-incr", "nose-point-width-incr", "nose-scale-horiz-incr", "nose-width1-incr"),
    *("nose-trans-forward", "nose-trans-up", "nose-hump-incr", "nose-nostrils-width-incr", "nose-greek-incr"),
    *("nose-point-up", "nose-width2-incr", "nose-width3-incr", "nose-septumangle-incr", "nose-base-up"),
    *("nose-compression-uncompress", "nose-volume-incr"),
)
"""Local changes of the middle of the face."""

# what makes a face of each shape, added to the random changes
_SHAPE_OF_FACE: Mapping[str, Mapping[str, float]] = {
    "oval": {"chin-width-incr": -0.1, "head-scale-vert-incr": 0.05},
    "round": {
        "head-fat-incr": 0.35,
        "cheek-volume-incr": 0.35,
        "chin-height-incr": -0.2,
        "head-scale-horiz-incr": 0.15,
        "head-scale-vert-incr": -0.15,
    },
    "square": {
        "chin-width-incr": 0.5,
        "chin-bones-incr": 0.5,
        "chin-jaw-drop-incr": 0.2,
        "head-scale-horiz-incr": 0.1,
    },
    "long": {
        "head-scale-vert-incr": 0.35,
        "chin-height-incr": 0.3,
        "cheek-volume-incr": -0.3,
        "head-scale-horiz-incr": -0.15,
    },
    "heart-shaped": {
        "chin-width-incr": -0.45,
        "chin-bones-incr": -0.35,
        "cheek-bones-incr": 0.4,
        "forehead-temple-incr": 0.3,
        "forehead-scale-vert-incr": 0.1,
    },
}

# anny's eyes are a little narrow
_OPENER: Mapping[str, float] = {"eye-height2-incr": 0.12, "eye-height1-incr": 0.06, "eye-height3-incr": 0.06}

# what the shapes of women's faces have on average beyond anny's own difference
_SOFTER: Mapping[str, float] = {
    "nose-scale-vert-incr": -0.2,
    "nose-scale-horiz-incr": -0.3,
    "nose-point-width-incr": -0.2,
    "nose-hump-incr": -0.2,
    "nose-point-up": 0.15,
    "mouth-upperlip-volume-incr": 0.3,
    "mouth-lowerlip-volume-incr": 0.3,
    "mouth-upperlip-height-incr": 0.2,
    "mouth-lowerlip-height-incr": 0.15,
    "mouth-scale-horiz-incr": -0.1,
    "eye-scale-incr": 0.25,
    "eye-height2-incr": 0.15,
    "eyebrows-trans-up": 0.2,
    "eyebrows-trans-forward": -0.3,
    "cheek-bones-incr": 0.15,
    "cheek-volume-incr": 0.1,
    "neck-scale-horiz-incr": -0.4,
    "chin-bones-incr": -0.35,
    "chin-width-incr": -0.25,
    "chin-jaw-drop-incr": -0.15,
    "head-scale-horiz-incr": -0.05,
}

# changes that look ill in full strength, as a fraction of the usual spread
_CALMER: Mapping[str, float] = {
    "head-age-incr": 0.0,
    "forehead-nubian-incr": 0.4,
    "chin-prognathism-incr": 0.5,
    "mouth-trans-forward": 0.5,
    "eye-trans-out": 0.4,
    "eye-scale-incr": 0.8,
    "eye-height1-incr": 0.7,
    "eye-height2-incr": 0.7,
    "eye-height3-incr": 0.7,
    "ear-wing-incr": 0.8,
    "mouth-scale-vert-incr": 0.6,
    "mouth-angles-up": 0.4,
    "mouth-upperlip-ext-up": 0.5,
    "mouth-lowerlip-ext-up": 0.5,
    "mouth-lowerlip-middle-up": 0.6,
    "mouth-upperlip-middle-up": 0.6,
    "neck-double-incr": 0.5,
    "head-scale-vert-incr": 0.6,
    "head-scale-depth-incr": 0.5,
}


def _sample_shape(words: Words, rng: np.random.Generator) -> dict[str, float]:
    spread = 0.16
    bias = dict(_SHAPE_OF_FACE[words.face_shape]) | _OPENER
    if words.gender == "woman":
        for name, value in _SOFTER.items():
            bias[name] = bias.get(name, 0.0) + value
    if words.expression.endswith("smile"):
        bias["mouth-angles-up"] = 0.1
    shape: dict[str, float] = {}
    for name in MIDDLE_SHAPES:
        value = rng.normal(0.0, spread * _CALMER.get(name, 1.0)) + bias.get(name, 0.0)
        shape[name] = float(np.clip(value, -0.65, 0.65))
    for name in FACE_SHAPES:
        value = rng.normal(0.0, spread * _CALMER.get(name, 1.0)) + bias.get(name, 0.0)
        for side in ("l", "r"):
            shape[f"{side}-{name}"] = float(np.clip(value + rng.normal(0.0, 0.02), -0.65, 0.65))
    return shape


def _both(name: str, value: float) -> dict[str, float]:
    return {f"{name}Left": value, f"{name}Right": value}


def _sample_action(words: Words, rng: np.random.Generator) -> dict[str, float]:
    strength = float(rng.uniform(0.75, 1.1))
    action: dict[str, float] = {}
    match words.expression:
        case "gentle smile":
            smile = 0.5 * strength
            action = _both("mouthSmile", smile) | _both("cheekSquint", 0.5 * smile) | _both("eyeSquint", 0.3 * smile)
        case "broad smile":
            smile = 0.92 * strength
            action = _both("mouthSmile", smile) | _both("cheekSquint", 0.6 * smile) | _both("eyeSquint", 0.35 * smile)
            action |= _both("mouthUpperUp", 0.4 * strength) | _both("mouthLowerDown", float(rng.uniform(0.0, 0.3)))
            action |= {"jawOpen": float(rng.uniform(0.04, 0.14))}
        case "serious expression":
            action = _both("browDown", 0.5 * strength) | _both("mouthPress", 0.3 * strength)
            action |= _both("mouthFrown", 0.14 * strength) | _both("eyeSquint", 0.15 * strength)
        case "surprised expression":
            action = {"browInnerUp": 0.65 * strength, "jawOpen": 0.2 * strength}
            action |= _both("browOuterUp", 0.6 * strength) | _both("eyeWide", 0.6 * strength)
        case _:
            action = _both("mouthSmile", float(rng.uniform(0.0, 0.15)))
    uneven = {name: value * float(rng.uniform(0.9, 1.1)) for name, value in action.items()}
    return {name: float(np.clip(value, 0.0, 1.0)) for name, value in uneven.items()}


_SKIN_COLORS: Mapping[str, Color] = {
    "pale": (0.60, 0.35, 0.26),
    "fair": (0.54, 0.29, 0.19),
    "olive": (0.50, 0.275, 0.155),
    "tan": (0.40, 0.195, 0.10),
    "brown": (0.235, 0.10, 0.048),
    "dark": (0.10, 0.042, 0.022),
}


def _sample_skin(words: Words, rng: np.random.Generator) -> dict[str, object]:
    base = np.array(_SKIN_COLORS[words.skin])
    # lightness moves all channels, hue moves red against blue
    tone = base * rng.uniform(0.86, 1.14) * np.array([1.0, 1.0 + rng.normal(0, 0.025), 1.0 + rng.normal(0, 0.06)])
    woman = words.gender == "woman"
    makeup = float(rng.uniform(0.0, 1.0) ** 1.5) if woman else 0.0
    lip = tone * np.array([0.92, 0.60, 0.62])
    stick = np.array(colorsys.hsv_to_rgb(rng.uniform(0.95, 1.02) % 1.0, rng.uniform(0.6, 0.85), rng.uniform(0.2, 0.5)))
    lip = lip * (1 - 0.6 * makeup) + stick * 0.6 * makeup
    pale = {"pale": 1.0, "fair": 0.85, "olive": 0.5, "tan": 0.45, "brown": 0.25, "dark": 0.1}[words.skin]
    old = {"young": 0.0, "middle-aged": 0.45, "old": 1.0}[words.age]
    return {
        "skin_color": tuple(float(c) for c in tone),
        "lip_color": tuple(float(c) for c in np.clip(lip, 0.01, 0.8)),
        "ruddiness": float(np.clip(rng.uniform(0.15, 1.0) * pale, 0.0, 1.0)),
        "eye_shadow": float(np.clip(rng.uniform(0.1, 0.6) + 0.3 * old, 0.0, 1.0)),
        "freckle_density": float(rng.uniform(0.5, 1.0)) if words.freckles != "none" else 0.0,
        "blotchiness": float(rng.uniform(0.2, 0.5) + 0.4 * old),
        "wrinkles": float(np.clip(old * rng.uniform(0.7, 1.1), 0.0, 1.0)),
        "pores": float(rng.uniform(0.2, 0.8)),
        "oiliness": float(rng.uniform(0.1, 0.8)),
        "makeup": makeup,
    }


def _sample_eyes(words: Words, rng: np.random.Generator) -> dict[str, object]:
    deep = words.skin in ("brown", "dark") or words.ancestry == "asian"
    hue, saturation, value = {
        "brown": (rng.uniform(0.04, 0.075), rng.uniform(0.7, 0.88), rng.uniform(0.02, 0.04 if deep else 0.085)),
        "green": (rng.uniform(0.2, 0.3), rng.uniform(0.4, 0.6), rng.uniform(0.14, 0.24)),
        "blue": (rng.uniform(0.56, 0.61), rng.uniform(0.5, 0.75), rng.uniform(0.24, 0.42)),
        "grey": (rng.uniform(0.52, 0.58), rng.uniform(0.1, 0.22), rng.uniform(0.2, 0.34)),
    }[words.eyes]
    return {
        "iris_color": colorsys.hsv_to_rgb(hue, saturation, value),
        "limbal_ring": float(rng.uniform(0.4, 0.9)),
        "pupil_radius": float(rng.uniform(0.3, 0.45)),
    }


def _sample_pose(rng: np.random.Generator) -> dict[str, object]:
    yaw = _clipped_normal(rng, 0.0, 0.14, -0.34, 0.34)
    pitch = _clipped_normal(rng, 0.0, 0.04, -0.1, 0.1)
    return {
        "yaw": yaw,
        "pitch": pitch,
        "roll": _clipped_normal(rng, 0.0, 0.025, -0.07, 0.07),
        "shoulder_turn": _clipped_normal(rng, 0.0, 0.16, -0.4, 0.4),
        # eyes look at the camera, or a little past it
        "gaze_x": _clipped_normal(rng, -yaw, 0.03, -0.4, 0.4),
        "gaze_y": _clipped_normal(rng, pitch, 0.02, -0.12, 0.12),
        "offset": (_clipped_normal(rng, 0.0, 0.006, -0.015, 0.015), _clipped_normal(rng, 0.0, 0.006, -0.015, 0.015)),
    }


def _sample_light(words: Words, rng: np.random.Generator) -> dict[str, object]:
    side = {"left": -1.0, "right": 1.0, "front": 0.0}[words.light_side]
    azimuth = side * rng.uniform(0.6, 1.15) if side else rng.normal(0.0, 0.12)
    soft = words.light_quality == "soft"
    tone = {"warm": (1.0, 0.80, 0.58), "white": (1.0, 0.97, 0.94), "cool": (0.84, 0.92, 1.0)}[words.light_tone]
    mixed = np.array(tone) * rng.uniform(0.97, 1.03, 3)
    return {
        "key_azimuth": float(azimuth),
        "key_elevation": float(rng.uniform(0.35, 0.75)),
        "key_size": float(rng.uniform(0.9, 1.4) if soft else rng.uniform(0.12, 0.25)),
        # dark skin is lit more
        "key_strength": float(rng.uniform(0.85, 1.15)) * {"brown": 1.15, "dark": 1.4}.get(words.skin, 1.0),
        "fill_strength": float(rng.uniform(0.35, 0.7) if soft else rng.uniform(0.12, 0.35)),
        "rim_strength": float(rng.uniform(0.0, 1.0)),
        "light_color": tuple(float(c) for c in mixed),
    }


_BACKDROP_COLORS: Mapping[str, tuple[float, float, float]] = {
    # hue, saturation, value in linear RGB
    "dark": (0.6, 0.2, 0.018),
    "grey": (0.58, 0.07, 0.20),
    "white": (0.1, 0.04, 1.15),
    "blue": (0.59, 0.72, 0.19),
    "green": (0.37, 0.55, 0.11),
    "beige": (0.085, 0.42, 0.50),
    "brown": (0.06, 0.6, 0.10),
    "red": (0.995, 0.75, 0.17),
}


def _sample_backdrop(words: Words, rng: np.random.Generator) -> dict[str, object]:
    hue, saturation, value = _BACKDROP_COLORS[words.background]
    saturation = float(np.clip(saturation * rng.uniform(0.75, 1.2), 0.0, 0.9))
    return {
        "backdrop_color": colorsys.hsv_to_rgb(
            (hue + rng.normal(0.0, 0.012)) % 1.0, saturation, value * rng.uniform(0.7, 1.3)
        ),
        "backdrop_gradient": (float(rng.normal(0.0, 0.3)), float(rng.normal(0.1, 0.25))),
        "backdrop_glow": float(rng.uniform(0.0, 0.9)),
    }
