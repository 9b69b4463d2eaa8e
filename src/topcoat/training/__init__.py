"""Training heads on pairs: losses, named runs and a resumable loop."""

from topcoat.training.config import LossWeights, TrainConfig
from topcoat.training.loop import train
from topcoat.training.records import TrainRecord, ValidationRecord
from topcoat.training.runs import RUNS, best_unet, debug, paper_unet, run_config

__all__ = [
    "RUNS",
    "LossWeights",
    "TrainConfig",
    "TrainRecord",
    "ValidationRecord",
    "best_unet",
    "debug",
    "paper_unet",
    "run_config",
    "train",
]
