"""The person and the picture: every continuous parameter of a portrait, and how a prompt's words bound them.

A prompt's words fix a bin for each attribute; all that they leave open is drawn from a seed. Each parameter has its
own place in the draw, so that changing one word changes that attribute alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recipes.mini.portrait import bins
from topcoat.prompts import PortraitWords


def _part(role: str, low: float, high: float, meaning: str) -> Any:
    """A parameter of ``role`` ("identity" or "scene") that lies in about [low, high]."""
    return field(metadata={"role": role, "range": (low, high), "meaning": meaning})


def _identity(low: float, high: float, meaning: str) -> Any:
    return _part("identity", low, high, meaning)


def _scene(low: float, high: float, meaning: str) -> Any:
    return _part("scene", low, high, meaning)


@dataclass(frozen=True)
class Subject:
    """One portrait's continuous parameters. Colours are linear RGB reflectances, angles radians."""

    # Identity: what makes the person.
    melanin: float = _identity(0, 1, "skin pigment: 0 very pale, 1 very dark")
    undertone: float = _identity(-1, 1, "skin undertone: -1 rosy, 1 golden or olive")
    ruddiness: float = _identity(0, 1, "redness of cheeks, nose and ears")
    age: float = _identity(0, 1, "0 about twenty, 1 about eighty years")
    femininity: float = _identity(0, 1, "0 a masculine, 1 a feminine bone structure")
    weight: float = _identity(-1, 1, "-1 gaunt, 1 full face and neck")
    face_length: float = _identity(-1, 1, "length of the face below the eyes")
    face_width: float = _identity(-1, 1, "breadth of the whole head")
    jaw_width: float = _identity(-1, 1, "breadth of the jaw")
    chin_length: float = _identity(-1, 1, "how far the chin reaches down and forward")
    chin_width: float = _identity(-1, 1, "-1 pointed, 1 square chin")
    cheekbones: float = _identity(-1, 1, "prominence of the cheekbones")
    nose_length: float = _identity(-1, 1, "length of the nose")
    nose_width: float = _identity(-1, 1, "width of nose tip and wings")
    nose_projection: float = _identity(-1, 1, "how far the nose stands out")
    nose_bridge: float = _identity(-1, 1, "-1 low and broad, 1 high and narrow bridge")
    lip_fullness: float = _identity(-1, 1, "thickness of the lips")
    mouth_width: float = _identity(-1, 1, "width of the mouth at rest")
    brow_height: float = _identity(-1, 1, "height of the eyebrows over the eyes")
    brow_thickness: float = _identity(-1, 1, "thickness of the eyebrows")
    brow_arch: float = _identity(-1, 1, "-1 straight, 1 arched eyebrows")
    eye_size: float = _identity(-1, 1, "size of the eye openings")
    eye_spacing: float = _identity(-1, 1, "distance between the eyes")
    eye_tilt: float = _identity(-1, 1, "height of the outer over the inner eye corners")
    lid_weight: float = _identity(-1, 1, "-1 wide open, 1 heavy upper eyelids")
    ear_size: float = _identity(-1, 1, "size of the ears")
    baldness: float = _identity(0, 1, "1 where the head is shaved or bald")
    hair_length: float = _identity(0, 1, "0.1 cropped, 0.3 short, 0.6 to the shoulders, 1 below the picture")
    hair_wave: float = _identity(0, 1, "0 straight, 1 strongly wavy")
    hair_curl: float = _identity(0, 1, "0 none, 1 tight curls")
    hair_volume: float = _identity(-1, 1, "-1 flat, 1 full hair")
    hairline: float = _identity(-1, 1, "height of the hairline")
    recession: float = _identity(0, 1, "how far the hairline has receded at the temples")
    parting: float = _identity(-1, 1, "where the hair parts, from its left to its right side")
    drape: float = _identity(0, 1, "0 a round hairline, 1 hair falling from the parting like a curtain")
    fringe: float = _identity(0, 1, "1 where a fringe covers the forehead")
    hair_red: float = _identity(0, 0.6, "hair reflectance, red")
    hair_green: float = _identity(0, 0.6, "hair reflectance, green")
    hair_blue: float = _identity(0, 0.6, "hair reflectance, blue")
    iris_red: float = _identity(0, 0.4, "iris reflectance, red")
    iris_green: float = _identity(0, 0.4, "iris reflectance, green")
    iris_blue: float = _identity(0, 0.6, "iris reflectance, blue")
    stubble: float = _identity(0, 1, "density of shaved or growing stubble")
    beard: float = _identity(0, 1, "0 none, 1 a long full beard")
    freckles: float = _identity(0, 1, "density of freckles")

    # Scene: what another photograph of the same person would change.
    yaw: float = _scene(-0.16, 0.16, "head turn about the vertical, positive to the right of the picture")
    pitch: float = _scene(-0.06, 0.06, "head nod, positive looks down")
    roll: float = _scene(-0.035, 0.035, "head tilt in the picture plane")
    gaze_x: float = _scene(-0.12, 0.12, "gaze off the camera, sideways")
    gaze_y: float = _scene(-0.05, 0.05, "gaze off the camera, upwards")
    smile: float = _scene(-0.2, 1, "lift of the mouth corners")
    mouth_open: float = _scene(0, 1, "how far the lips part and show teeth")
    lipstick: float = _scene(0, 1, "strength of lip colour and eye make-up")
    light_azimuth: float = _scene(-1.2, 1.2, "key light, from the picture's left (negative) to its right")
    light_elevation: float = _scene(0.2, 0.9, "key light's height")
    light_warmth: float = _scene(-1, 1, "key light's colour: -1 cool, 1 warm")
    key_strength: float = _scene(0.85, 1.15, "strength of the key light")
    fill_strength: float = _scene(0.4, 1, "strength of the fill light")
    rim_strength: float = _scene(0, 1, "strength of the rim light")
    background_red: float = _scene(0, 1, "background, red")
    background_green: float = _scene(0, 1, "background, green")
    background_blue: float = _scene(0, 1, "background, blue")
    background_tilt_x: float = _scene(-1, 1, "background gradient, sideways")
    background_tilt_y: float = _scene(-1, 1, "background gradient, upwards")
    background_glow: float = _scene(-1, 1, "background brighter (positive) or darker behind the head")
    bokeh: float = _scene(0, 1, "strength of blurred lights in the background")
    clothing_red: float = _scene(0, 1, "cloth reflectance, red")
    clothing_green: float = _scene(0, 1, "cloth reflectance, green")
    clothing_blue: float = _scene(0, 1, "cloth reflectance, blue")
    sweater: float = _scene(0, 1, "0 a shirt, 1 a sweater")
    collar_opening: float = _scene(0, 1, "how wide the collar opens")
    glasses: float = _scene(0, 1, "1 where glasses are worn")
    frame_size: float = _scene(-1, 1, "size of the lenses")
    frame_squareness: float = _scene(0, 1, "0 round, 1 nearly square lenses")
    frame_gold: float = _scene(0, 1, "0 black plastic, 1 golden wire")

    def vector(self, fields: Sequence[str]) -> np.ndarray:
        """The named fields as float32, each mapped from its range to [-1, 1] (a rare draw may lie a bit outside)."""
        values = []
        for name in fields:
            low, high = _RANGES[name]
            values.append((getattr(self, name) - low) / (high - low) * 2.0 - 1.0)
        return np.asarray(values, dtype=np.float32)

    def colour(self, name: str) -> tuple[float, float, float]:
        """Linear RGB of ``hair``, ``iris``, ``background`` or ``clothing``."""
        return getattr(self, f"{name}_red"), getattr(self, f"{name}_green"), getattr(self, f"{name}_blue")


_RANGES: Mapping[str, tuple[float, float]] = {f.name: f.metadata["range"] for f in dataclasses.fields(Subject)}

IDENTITY_FIELDS: tuple[str, ...] = tuple(
    f.name for f in dataclasses.fields(Subject) if f.metadata["role"] == "identity"
)
"""Fields that another photograph of the same person would share."""

SCENE_FIELDS: tuple[str, ...] = tuple(f.name for f in dataclasses.fields(Subject) if f.metadata["role"] == "scene")
"""Fields of the occasion: pose, expression, light, background, clothing, glasses."""


def sample_subject(words: PortraitWords, seed: int, scene_seed: int | None = None) -> Subject:
    """The subject that ``words`` and ``seed`` determine; ``scene_seed`` redraws pose, light and attire alone."""
    identity = bins.identity_values(words, bins.Draws(_generator(f"portrait identity/{seed}")))
    scene_key = seed if scene_seed is None else scene_seed
    scene = bins.scene_values(words, bins.Draws(_generator(f"portrait scene/{scene_key}")))
    return Subject(**identity, **scene)


def _generator(key: str) -> np.random.Generator:
    """A generator keyed by text, the same on every machine."""
    return np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(key.encode()).digest()[:16], "big")))
