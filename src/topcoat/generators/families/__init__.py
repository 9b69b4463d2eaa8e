"""The kinds of diffusers pipeline that are run and counted: a family is one file here and one entry in `FAMILIES`."""

from __future__ import annotations

from collections.abc import Mapping

from topcoat.errors import ModelError
from topcoat.generators.families.base import Configs, Family, FlowFamily
from topcoat.generators.families.flux import Flux
from topcoat.generators.families.flux2 import Flux2Klein
from topcoat.generators.families.sdxl import StableDiffusionXL
from topcoat.generators.families.z_image import ZImage

__all__ = ["FAMILIES", "Configs", "Family", "FlowFamily", "family_of", "published_models"]

FAMILIES: dict[str, Family] = {
    family.pipeline: family for family in (Flux(), Flux2Klein(), StableDiffusionXL(), ZImage())
}
"""Name of the pipeline class in diffusers -> its family."""


def family_of(configs: Configs) -> Family:
    """The family whose denoiser ``configs`` describe; raises `ModelError` if there is none."""
    folder = "unet" if "unet" in configs else "transformer"
    name = str(configs[folder].get("_class_name"))
    for family in FAMILIES.values():
        if family.denoiser_class == name:
            return family
    known = ", ".join(family.denoiser_class for family in FAMILIES.values())
    raise ModelError(f"the {folder} is a {name}, which cannot be counted yet; these can: {known}")


def published_models() -> Mapping[str, Configs]:
    """The models that can be counted by their hub ids alone; any other one is counted from its local folder."""
    return {name: configs for family in FAMILIES.values() for name, configs in family.published.items()}
