"""The kinds of diffusers pipeline that are run and counted: a family is one file here and one entry in `FAMILIES`."""

from __future__ import annotations

from collections.abc import Mapping

from topcoat.errors import ModelError
from topcoat.generators.families.base import Configs, Family, FlowFamily
from topcoat.generators.families.flux import Flux
from topcoat.generators.families.flux2 import Flux2, Flux2Klein
from topcoat.generators.families.pixart import PixArtSigma
from topcoat.generators.families.qwen_image import QwenImage
from topcoat.generators.families.sana import Sana, SanaSprint
from topcoat.generators.families.sd3 import StableDiffusion3
from topcoat.generators.families.sd15 import StableDiffusion
from topcoat.generators.families.sdxl import StableDiffusionXL
from topcoat.generators.families.z_image import ZImage

__all__ = ["FAMILIES", "Configs", "Family", "FlowFamily", "family_named", "family_of", "published_models"]

FAMILIES: dict[str, Family] = {
    family.pipeline: family
    for family in (
        Flux(),
        Flux2Klein(),
        Flux2(),
        StableDiffusionXL(),
        StableDiffusion(),
        StableDiffusion3(),
        QwenImage(),
        ZImage(),
        Sana(),
        SanaSprint(),
        PixArtSigma(),
    )
}
"""Name of the pipeline class in diffusers -> its family."""


def family_named(pipeline: str, model: str) -> Family:
    """The family of a pipeline class, which ``model`` is; raises `ModelError` if there is none."""
    if pipeline not in FAMILIES:
        raise ModelError(f"{model} is a {pipeline}, which is not supported; use one of: {', '.join(FAMILIES)}")
    return FAMILIES[pipeline]


def family_of(configs: Configs) -> Family:
    """The family of the pipeline that ``configs`` describe; raises `ModelError` if there is none."""
    return family_named(str(configs["model_index"].get("_class_name")), "the model")


def published_models() -> Mapping[str, Configs]:
    """The models that can be counted by their hub ids alone; any other one is counted from its local folder."""
    return {name: configs for family in FAMILIES.values() for name, configs in family.published.items()}
