"""TensorBoard and Weights & Biases, where they are installed. Neither can stop a run.

accelerate's trackers are not used: an error at their start would end the run, and with step numbers Weights & Biases
drops what a resumed run logs again.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import math
import os
import textwrap
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from topcoat.training.config import TrainConfig
from topcoat.training.records import TrainRecord

_STEP = "images seen"


class Trackers:
    """Writes the records of the run in ``folder`` for those that ``config`` asks for and that are installed.

    ``about`` (JSON values) is what a head's card says of the run; its ``run`` is the name in Weights & Biases.
    """

    def __init__(self, folder: Path, config: TrainConfig, about: Mapping[str, Any]) -> None:
        self._board: Any = None
        self._run: Any = None
        if config.tensorboard and _installed("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"))
        if config.wandb != "off" and _installed("wandb"):
            self._run = _wandb_run(folder, config.wandb == "online", about)

    def write(self, record: TrainRecord) -> None:
        """Add a record's finite numbers, with images seen as the step."""
        numbers = {
            name: value for name, value in _numbers(record).items() if value is not None and math.isfinite(value)
        }
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, record.images_seen)
        if self._run is not None:
            self._run.log({_STEP: record.images_seen, **numbers})

    def close(self) -> None:
        """Write what is left."""
        if self._board is not None:
            self._board.close()
        if self._run is not None:
            self._run.finish()


def _wandb_run(folder: Path, online: bool, about: Mapping[str, Any]) -> Any:
    """A run of Weights & Biases, uploaded meanwhile or written into ``folder/wandb`` for later; None if neither works.

    ``WANDB_PROJECT`` names the project (``topcoat`` otherwise), and where ``online`` ``WANDB_MODE`` has the last word.
    Where an upload is not possible (no network, no login) the run is written offline and a warning says so. A run that
    goes on keeps its id, so both parts are one run.
    """
    wandb: Any = importlib.import_module("wandb")
    path = str(folder.resolve())
    given: dict[str, Any] = {
        "project": os.environ.get("WANDB_PROJECT", "topcoat"),
        "name": about["run"],
        # of this folder and these settings alone, so that no file is needed to find the run again
        "id": hashlib.sha256(json.dumps([path, about], sort_keys=True).encode()).hexdigest()[:16],
        "resume": "allow",
        "config": dict(about),
        "dir": path,
        "settings": wandb.Settings(silent=True, console="off"),
    }
    for mode in (None, "offline") if online else ("offline",):
        try:
            run = wandb.init(mode=mode, **given)
        except Exception as error:  # whatever a tracker's own trouble is, it must not end hours of training
            then = "it is kept offline, upload it by wandb sync" if mode is None else "it goes on without"
            reason = textwrap.shorten(str(error), 100, placeholder="...") or type(error).__name__
            warnings.warn(f"Weights & Biases cannot follow this run ({reason}); {then}", stacklevel=4)
        else:
            run.define_metric(_STEP)
            run.define_metric("*", step_metric=_STEP)
            return run
    return None


def _numbers(record: TrainRecord) -> dict[str, float | None]:
    numbers: dict[str, float | None] = {f"loss/{name}": value for name, value in record.parts.items()}
    numbers |= {"loss": record.loss, "learning rate": record.learning_rate, "skipped steps": record.skipped_steps}
    numbers["images per second"] = record.images_per_second
    if (scores := record.validation) is not None:
        numbers |= {"validation/psnr dB": scores.psnr_db, "validation/perceptual": scores.perceptual}
        numbers |= {"validation/gap closed": scores.gap_closed, "validation/frechet": scores.frechet}
    return numbers


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
