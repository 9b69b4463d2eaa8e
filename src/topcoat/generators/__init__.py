"""Generators: an image from a prompt and a seed, and the model pairs that are known by name.

Importing this package loads neither torch nor diffusers; `load_generator` does, when it is called.
"""

from __future__ import annotations

from topcoat.generators.base import (
    Generator,
    GeneratorSpec,
    Img2ImgGenerator,
    LatentGenerator,
    Licence,
    LoraSpec,
    ModelPair,
    SchedulerSpec,
    check_request,
    check_steps,
    check_strength,
)
from topcoat.generators.presets import PRESETS, model_pair

__all__ = [
    "PRESETS",
    "Generator",
    "GeneratorSpec",
    "Img2ImgGenerator",
    "LatentGenerator",
    "Licence",
    "LoraSpec",
    "ModelPair",
    "SchedulerSpec",
    "check_request",
    "check_steps",
    "check_strength",
    "model_pair",
]
