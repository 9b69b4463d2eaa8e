"""The numbers of a portrait: what its words leave open is drawn from its seed, each part from its own generator."""

from __future__ import annotations

import colorsys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from recipes.mini.portrait.face import clipped_normal, sample_action, sample_phenotype, sample_shape
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
        phenotype=sample_phenotype(words, part_rng(seed, "phenotype")),
        shape=sample_shape(words, part_rng(seed, "shape")),
        action=sample_action(words, part_rng(seed, "expression")),
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


_SKIN_COLORS: Mapping[str, Color] = {
    "pale": (0.60, 0.35, 0.26),
    "fair": (0.54, 0.29, 0.19),
    "olive": (0.50, 0.275, 0.155),
    "tan": (0.40, 0.195, 0.10),
    "brown": (0.235, 0.10, 0.048),
    "dark": (0.10, 0.042, 0.022),
}


def _sample_skin(words: Words, rng: np.random.Generator) -> dict[str, Any]:
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


def _sample_eyes(words: Words, rng: np.random.Generator) -> dict[str, Any]:
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


def _sample_pose(rng: np.random.Generator) -> dict[str, Any]:
    yaw = clipped_normal(rng, 0.0, 0.14, -0.34, 0.34)
    pitch = clipped_normal(rng, 0.0, 0.04, -0.1, 0.1)
    return {
        "yaw": yaw,
        "pitch": pitch,
        "roll": clipped_normal(rng, 0.0, 0.025, -0.07, 0.07),
        "shoulder_turn": clipped_normal(rng, 0.0, 0.16, -0.4, 0.4),
        # eyes look at the camera, or a little past it
        "gaze_x": clipped_normal(rng, -yaw, 0.03, -0.4, 0.4),
        "gaze_y": clipped_normal(rng, pitch, 0.02, -0.12, 0.12),
        "offset": (clipped_normal(rng, 0.0, 0.006, -0.015, 0.015), clipped_normal(rng, 0.0, 0.006, -0.015, 0.015)),
    }


def _sample_light(words: Words, rng: np.random.Generator) -> dict[str, Any]:
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


def _sample_backdrop(words: Words, rng: np.random.Generator) -> dict[str, Any]:
    hue, saturation, value = _BACKDROP_COLORS[words.background]
    saturation = float(np.clip(saturation * rng.uniform(0.75, 1.2), 0.0, 0.9))
    return {
        "backdrop_color": colorsys.hsv_to_rgb(
            (hue + rng.normal(0.0, 0.012)) % 1.0, saturation, value * rng.uniform(0.7, 1.3)
        ),
        "backdrop_gradient": (float(rng.normal(0.0, 0.3)), float(rng.normal(0.1, 0.25))),
        "backdrop_glow": float(rng.uniform(0.0, 0.9)),
    }
