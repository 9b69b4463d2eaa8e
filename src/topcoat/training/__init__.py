"""Training heads, on pairs or unpaired: losses, named runs and a resumable loop."""

from topcoat.training.config import CycleConfig, LatentConfig, LossWeights, TrainConfig
from topcoat.training.loop import train
from topcoat.training.records import TrainRecord, ValidationRecord
from topcoat.training.runs import (
    RUNS,
    best_unet,
    debug,
    decoder,
    paper_cyclegan,
    paper_esa,
    paper_unet,
    run_config,
    with_settings,
)

__all__ = [
    "RUNS",
    "CycleConfig",
    "LatentConfig",
    "LossWeights",
    "TrainConfig",
    "TrainRecord",
    "ValidationRecord",
    "best_unet",
    "debug",
    "decoder",
    "paper_cyclegan",
    "paper_esa",
    "paper_unet",
    "run_config",
    "train",
    "with_settings",
]
