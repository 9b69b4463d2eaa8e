"""Training heads, on pairs, unpaired or on latents: named runs of stages, objectives, and a resumable loop.

Names are loaded when they are used, so that `RUN_NAMES` costs no import of torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from topcoat.training.config import RunConfig, TrainConfig, with_settings
    from topcoat.training.loop import train
    from topcoat.training.objectives import CycleObjective, LatentObjective, PairedObjective
    from topcoat.training.records import TrainRecord, ValidationRecord
    from topcoat.training.runs import RUNS, run_config

RUN_NAMES = ("unet", "decoder", "refiner", "latent-unet", "paper-unet", "paper-cyclegan", "paper-esa", "debug")
"""The named runs, whose settings are in `topcoat.training.runs`; one comes after those that it goes on from."""
STUDY_RUNS = RUN_NAMES[:-1]
"""What the paper's study trains: its three heads, and ours."""

_MODULES = {
    "RUNS": "runs",
    "CycleObjective": "objectives",
    "LatentObjective": "objectives",
    "PairedObjective": "objectives",
    "RunConfig": "config",
    "TrainConfig": "config",
    "TrainRecord": "records",
    "ValidationRecord": "records",
    "run_config": "runs",
    "train": "loop",
    "with_settings": "config",
}

__all__ = [
    "RUNS",
    "RUN_NAMES",
    "STUDY_RUNS",
    "CycleObjective",
    "LatentObjective",
    "PairedObjective",
    "RunConfig",
    "TrainConfig",
    "TrainRecord",
    "ValidationRecord",
    "run_config",
    "train",
    "with_settings",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
