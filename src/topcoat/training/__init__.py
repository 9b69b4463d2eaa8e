"""Training heads, on pairs, unpaired or on latents: named runs of stages, objectives, and a resumable loop.

Names are loaded when they are used, so that `RUN_NAMES` costs no import of torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from topcoat.training.config import RunConfig as RunConfig
    from topcoat.training.config import TrainConfig as TrainConfig
    from topcoat.training.config import with_settings as with_settings
    from topcoat.training.loop import train as train
    from topcoat.training.objectives import CycleObjective as CycleObjective
    from topcoat.training.objectives import LatentObjective as LatentObjective
    from topcoat.training.objectives import PairedObjective as PairedObjective
    from topcoat.training.objectives import UnpairedObjective as UnpairedObjective
    from topcoat.training.records import TrainRecord as TrainRecord
    from topcoat.training.records import ValidationRecord as ValidationRecord
    from topcoat.training.runs import RUNS as RUNS
    from topcoat.training.runs import run_config as run_config

RUN_NAMES = (
    "unet", "decoder", "refiner", "latent-unet", "unpaired", "paper-unet", "paper-cyclegan", "paper-esa", "real-unet",
    "debug",
)  # fmt: skip
"""The named runs, whose settings are in `topcoat.training.runs`; one comes after those that it goes on from."""
STUDY_RUNS = RUN_NAMES[:-2]
"""What the paper's study trains: its three heads, and ours."""

_MODULES = {
    "config": ("RunConfig", "TrainConfig", "with_settings"),
    "loop": ("train",),
    "objectives": ("CycleObjective", "LatentObjective", "PairedObjective", "UnpairedObjective"),
    "records": ("TrainRecord", "ValidationRecord"),
    "runs": ("RUNS", "run_config"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
