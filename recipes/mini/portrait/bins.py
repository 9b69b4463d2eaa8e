"""What each word of a prompt means in numbers: the bins from which `Subject` parameters are drawn."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from topcoat.prompts import PortraitWords

Range = tuple[float, float]
Colour = tuple[float, float, float]

AGE: Mapping[str, Range] = {"young": (0.02, 0.22), "middle-aged": (0.42, 0.6), "old": (0.8, 1.0)}
MELANIN: Mapping[str, Range] = {
    "pale": (0.0, 0.07),
    "fair": (0.15, 0.25),
    "olive": (0.32, 0.42),
    "tan": (0.48, 0.58),
    "brown": (0.68, 0.78),
    "dark": (0.88, 1.0),
}
HAIR_LENGTH: Mapping[str, Range] = {
    "bald": (0.0, 0.0),
    "short": (0.1, 0.35),
    "shoulder-length": (0.55, 0.64),
    "long": (0.85, 1.0),
}
HAIR_WAVE: Mapping[str, Range] = {"straight": (0.0, 0.12), "wavy": (0.6, 1.0), "curly": (0.3, 0.6)}
HAIR_CURL: Mapping[str, Range] = {"straight": (0.0, 0.0), "wavy": (0.0, 0.1), "curly": (0.7, 1.0)}
LIGHT_WARMTH: Mapping[str, Range] = {"warm": (0.65, 1.0), "white": (-0.12, 0.12), "cool": (-1.0, -0.65)}
LIGHT_AZIMUTH: Mapping[str, Range] = {"left": (-1.05, -0.65), "right": (0.65, 1.05), "front": (-0.22, 0.22)}
SMILE: Mapping[str, Range] = {
    "neutral expression": (-0.15, 0.1),
    "gentle smile": (0.4, 0.6),
    "broad smile": (0.8, 1.0),
}

# Display colours (sRGB, 0 to 1) at the two ends of each named colour; a draw lies between them.
HAIR_COLOUR: Mapping[str, tuple[Colour, Colour]] = {
    "black": ((0.06, 0.055, 0.06), (0.12, 0.10, 0.09)),
    "brown": ((0.22, 0.14, 0.095), (0.36, 0.245, 0.165)),
    "blond": ((0.58, 0.45, 0.27), (0.76, 0.64, 0.43)),
    "red": ((0.29, 0.125, 0.075), (0.43, 0.2, 0.115)),
    "grey": ((0.40, 0.40, 0.40), (0.56, 0.55, 0.54)),
    "white": ((0.70, 0.69, 0.68), (0.80, 0.79, 0.77)),
}
IRIS_COLOUR: Mapping[str, tuple[Colour, Colour]] = {
    "brown": ((0.22, 0.12, 0.06), (0.42, 0.25, 0.12)),
    "green": ((0.26, 0.40, 0.22), (0.40, 0.50, 0.28)),
    "blue": ((0.20, 0.38, 0.60), (0.38, 0.55, 0.74)),
    "grey": ((0.44, 0.48, 0.52), (0.60, 0.63, 0.66)),
}
CLOTHING_COLOUR: Mapping[str, tuple[Colour, Colour]] = {
    "white": ((0.86, 0.86, 0.85), (0.93, 0.93, 0.94)),
    "black": ((0.08, 0.08, 0.09), (0.14, 0.14, 0.15)),
    "grey": ((0.42, 0.42, 0.44), (0.56, 0.56, 0.57)),
    "red": ((0.58, 0.08, 0.09), (0.78, 0.15, 0.14)),
    "blue": ((0.10, 0.20, 0.52), (0.22, 0.40, 0.74)),
    "green": ((0.10, 0.36, 0.18), (0.25, 0.54, 0.28)),
    "yellow": ((0.80, 0.62, 0.12), (0.90, 0.75, 0.28)),
}
BACKGROUND_COLOUR: Mapping[str, tuple[Colour, Colour]] = {
    "dark": ((0.07, 0.07, 0.08), (0.15, 0.14, 0.14)),
    "grey": ((0.44, 0.45, 0.46), (0.60, 0.60, 0.60)),
    "white": ((0.90, 0.90, 0.90), (0.96, 0.96, 0.95)),
    "blue": ((0.22, 0.38, 0.62), (0.45, 0.62, 0.82)),
    "green": ((0.20, 0.38, 0.27), (0.48, 0.62, 0.48)),
    "beige": ((0.76, 0.68, 0.55), (0.86, 0.79, 0.67)),
}


class Draws:
    """A stream of draws from one generator, with the few distributions that the bins need."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator

    def within(self, bounds: Range) -> float:
        """Uniform within ``bounds``."""
        return bounds[0] + (bounds[1] - bounds[0]) * float(self._generator.random())

    def normal(self, spread: float, limit: float) -> float:
        """Normal about 0, clipped to ``limit`` either side."""
        return float(np.clip(self._generator.normal(0.0, spread), -limit, limit))

    def trait(self) -> float:
        """A facial trait: centred, with enough spread that faces differ at a glance."""
        return self.normal(0.5, 1.0)

    def yes(self, chance: float) -> bool:
        """True with probability ``chance``."""
        return float(self._generator.random()) < chance

    def colour(self, ends: tuple[Colour, Colour]) -> Colour:
        """Linear RGB of a colour between two display colours, with a little jitter of its own in each channel."""
        position = float(self._generator.random())
        jitter = self._generator.normal(0.0, 0.012, 3)
        display = np.array(ends[0]) * (1 - position) + np.array(ends[1]) * position
        linear = np.clip(display + jitter * display, 0.0, 1.0) ** 2.2
        return float(linear[0]), float(linear[1]), float(linear[2])


def identity_values(words: PortraitWords, draws: Draws) -> dict[str, float]:
    """Every identity field of `Subject`. The draws are the same in number and order whatever the words say."""
    woman = words.gender == "woman"
    age = draws.within(AGE[words.age])
    values = {
        "melanin": draws.within(MELANIN[words.skin]),
        "undertone": draws.normal(0.35, 0.8) + (0.6 if words.skin == "olive" else 0.0),
        "ruddiness": draws.within((0.1, 0.9)),
        "age": age,
        "femininity": draws.within((0.85, 1.0)) if woman else draws.within((0.0, 0.15)),
    }
    traits = (
        "weight face_length face_width jaw_width chin_length chin_width cheekbones nose_length nose_width "
        "nose_projection nose_bridge lip_fullness mouth_width brow_height brow_thickness brow_arch eye_size "
        "eye_spacing eye_tilt lid_weight ear_size"
    )
    values |= {name: draws.trait() for name in traits.split()}
    bald = words.hair_length == "bald"
    long_hair = words.hair_length in ("shoulder-length", "long")
    side_part = draws.within((0.35, 0.8)) * (1.0 if draws.yes(0.5) else -1.0)
    centre_part = draws.normal(0.08, 0.2)
    recession = draws.within((0.0, 1.0))
    drape = draws.within((0.4, 1.0))
    has_fringe = draws.yes(0.3 if woman else 0.12)
    length = draws.within(HAIR_LENGTH[words.hair_length])
    if woman and not long_hair:
        length = 0.22 + 0.6 * length  # a woman's short hair is a crop with some length, seldom a buzz cut
    values |= {
        "baldness": float(bald),
        "hair_length": length,
        "hair_wave": draws.within(HAIR_WAVE[words.hair_texture]),
        "hair_curl": draws.within(HAIR_CURL[words.hair_texture]),
        "hair_volume": draws.trait(),
        "hairline": draws.trait() + (0.0 if woman else 0.3 * age),
        "recession": 0.0 if woman else recession * (0.15 + 0.85 * age),
        "parting": side_part if draws.yes(0.6) else centre_part,
        "drape": drape if woman else 0.35 * drape,
        "fringe": float(has_fringe),
    }
    hair = draws.colour(HAIR_COLOUR[words.hair_color])
    iris = draws.colour(IRIS_COLOUR[words.eyes])
    values |= {"hair_red": hair[0], "hair_green": hair[1], "hair_blue": hair[2]}
    values |= {"iris_red": iris[0], "iris_green": iris[1], "iris_blue": iris[2]}
    shadow, stubble, beard, freckles = (draws.within(r) for r in ((0.0, 0.22), (0.65, 1.0), (0.3, 1.0), (0.6, 1.0)))
    values |= {
        "stubble": 0.0 if woman else stubble if words.facial_hair == "stubble" else shadow,
        "beard": beard if words.facial_hair == "beard" else 0.0,
        "freckles": freckles if words.freckles == "freckles" else 0.0,
    }
    return values


def scene_values(words: PortraitWords, draws: Draws) -> dict[str, float]:
    """Every scene field of `Subject`."""
    background = draws.colour(BACKGROUND_COLOUR[words.background])
    clothing = draws.colour(CLOTHING_COLOUR[words.clothing_color])
    lips_apart = draws.within((0.55, 1.0))
    lipstick = draws.within((0.1, 1.0))
    bokeh = draws.within((0.3, 1.0))
    values = {
        "yaw": draws.normal(0.07, 0.16),
        "pitch": draws.normal(0.025, 0.06),
        "roll": draws.normal(0.015, 0.035),
        "gaze_x": draws.normal(0.05, 0.12),
        "gaze_y": draws.normal(0.02, 0.05),
        "smile": draws.within(SMILE[words.expression]),
        "mouth_open": lips_apart if words.expression == "broad smile" else 0.0,
        "lipstick": lipstick if words.gender == "woman" else 0.0,
        "light_azimuth": draws.within(LIGHT_AZIMUTH[words.light_side]),
        "light_elevation": draws.within((0.3, 0.75)),
        "light_warmth": draws.within(LIGHT_WARMTH[words.light_tone]),
        "key_strength": draws.within((0.9, 1.1)),
        "fill_strength": draws.within((0.5, 1.0)),
        "rim_strength": draws.within((0.1, 1.0)),
        "background_tilt_x": draws.within((-1.0, 1.0)),
        "background_tilt_y": draws.within((-1.0, 1.0)),
        "background_glow": draws.within((-0.6, 1.0)),
        "bokeh": bokeh if draws.yes(0.25) else 0.0,
        "sweater": float(words.garment == "sweater"),
        "collar_opening": draws.within((0.2, 1.0)),
        "glasses": float(words.glasses == "glasses"),
        "frame_size": draws.trait(),
        "frame_squareness": draws.within((0.0, 1.0)),
        "frame_gold": float(draws.yes(0.35)),
    }
    values |= {f"background_{name}": value for name, value in zip(("red", "green", "blue"), background, strict=True)}
    values |= {f"clothing_{name}": value for name, value in zip(("red", "green", "blue"), clothing, strict=True)}
    return values
