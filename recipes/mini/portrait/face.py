"""The face as anny's numbers: who it is (phenotype), what sets it apart (local changes), and what it does (actions)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from recipes.mini.portrait.words import Words


def clipped_normal(rng: np.random.Generator, mean: float, spread: float, low: float, high: float) -> float:
    """A normal draw that is kept within [low, high]."""
    return float(np.clip(rng.normal(mean, spread), low, high))


_ANCESTRY_MEANS: Mapping[str, tuple[float, float, float]] = {
    "african": (0.94, 0.03, 0.03),
    "asian": (0.03, 0.94, 0.03),
    "european": (0.03, 0.03, 0.94),
    "latin": (0.15, 0.3, 0.55),
    "middle eastern": (0.15, 0.08, 0.77),
    "south asian": (0.3, 0.15, 0.55),
}


def sample_phenotype(words: Words, rng: np.random.Generator) -> dict[str, float]:
    """anny's phenotype: sex, age, build and ancestry."""
    low, high = {"young": (0.5, 0.58), "middle-aged": (0.68, 0.78), "old": (0.88, 0.99)}[words.age]
    man = words.gender == "man"
    concentration = 14.0 if words.ancestry in ("african", "asian", "european") else 10.0
    african, asian, caucasian = rng.dirichlet(np.array(_ANCESTRY_MEANS[words.ancestry]) * concentration + 0.2)
    weight = {"round": 0.66, "square": 0.55, "oval": 0.5, "heart-shaped": 0.46, "long": 0.42}[words.face_shape]
    return {
        "gender": float(rng.uniform(0.86, 1.0) if man else rng.uniform(0.0, 0.14)),
        "age": float(rng.uniform(low, high)),
        "muscle": float(rng.uniform(0.45, 0.65) if man else rng.uniform(0.4, 0.5)),
        "weight": clipped_normal(rng, weight, 0.08, 0.34, 0.85),
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


def sample_shape(words: Words, rng: np.random.Generator) -> dict[str, float]:
    """anny's local changes of the face, both sides named and nearly alike."""
    spread = 0.16
    bias = {**_SHAPE_OF_FACE[words.face_shape], **_OPENER}
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


def sample_action(words: Words, rng: np.random.Generator) -> dict[str, float]:
    """anny's facial actions of the expression."""
    strength = float(rng.uniform(0.75, 1.1))
    action: dict[str, float] = {}
    match words.expression:
        case "gentle smile":
            smile = 0.5 * strength
            action = _both("mouthSmile", smile) | _both("cheekSquint", 0.5 * smile) | _both("eyeSquint", 0.3 * smile)
        case "broad smile":
            smile = 0.92 * strength
            action = _both("mouthSmile", smile) | _both("cheekSquint", 0.6 * smile) | _both("eyeSquint", 0.35 * smile)
            action |= _both("mouthUpperUp", 0.8 * strength) | _both("mouthLowerDown", float(rng.uniform(0.15, 0.5)))
            action |= {"jawOpen": float(rng.uniform(0.05, 0.16))}
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
