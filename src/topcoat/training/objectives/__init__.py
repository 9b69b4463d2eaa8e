"""What a stage of training minimises: one file for each objective, with its settings, its checks and its trainer."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from topcoat.training.objectives.cycle import CycleObjective
from topcoat.training.objectives.images import PairedObjective, UnpairedObjective
from topcoat.training.objectives.latent import LatentObjective

AnyObjective = Annotated[
    PairedObjective | UnpairedObjective | CycleObjective | LatentObjective, Field(discriminator="kind")
]
"""The objectives that a training config may hold, told apart by ``kind``."""

__all__ = ["AnyObjective", "CycleObjective", "LatentObjective", "PairedObjective", "UnpairedObjective"]
