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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from topcoat.training.records import TrainRecord
from topcoat.training.settings import WandbMode

_STEP = "images seen"


class Tracker(Protocol):
    """Something that is shown a run's records."""

    def write(self, record: TrainRecord) -> None:
        """Add a record's numbers."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


def open_trackers(
    folder: Path, tensorboard: bool, wandb: WandbMode, name: str, about: Mapping[str, Any]
) -> Sequence[Tracker]:
    """The trackers of the run in ``folder`` that are wanted and installed.

    ``name`` and ``about`` (JSON values) are the run's name and settings in Weights & Biases.
    """
    trackers: list[Tracker] = []
    if tensorboard and _installed("tensorboard"):
        trackers.append(Board(folder / "tensorboard"))
    if wandb != "off" and _installed("wandb"):
        trackers.append(WandbRun(folder, wandb, name, about))
    return trackers


class Board:
    """Writes a run's records for TensorBoard into ``folder``, with images seen as the step."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder))

    def write(self, record: TrainRecord) -> None:
        """Add a record's numbers."""
        for name, value in numbers_of(record).items():
            self._writer.add_scalar(name, value, record.images_seen)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


class WandbRun:
    """Sends a run's records to Weights & Biases, or writes them into ``folder/wandb`` for later.

    ``WANDB_PROJECT`` names the project (``topcoat`` otherwise), and with ``online`` ``WANDB_MODE`` has the last word.
    Where ``online`` is not possible (no network, no login) the run is written offline and a warning says so. A run that
    goes on keeps its id, so both parts are one run.
    """

    def __init__(self, folder: Path, mode: WandbMode, name: str, about: Mapping[str, Any]) -> None:
        wandb: Any = importlib.import_module("wandb")
        path = str(folder.resolve())
        given: dict[str, Any] = {
            "project": os.environ.get("WANDB_PROJECT", "topcoat"),
            "name": name,
            # of this folder and these settings alone, so that no file is needed to find the run again
            "id": hashlib.sha256(json.dumps([path, about], sort_keys=True).encode()).hexdigest()[:16],
            "resume": "allow",
            "config": dict(about),
            "dir": path,
            "settings": wandb.Settings(silent=True, console="off"),
        }
        self._run: Any = None
        for attempt in dict.fromkeys((None if mode == "online" else "offline", "offline")):
            try:
                self._run = wandb.init(mode=attempt, **given)
                break
            except Exception as error:  # whatever a tracker's own trouble is, it must not end hours of training
                goes_on = (
                    "it goes on without" if attempt == "offline" else "it is kept offline, upload it by wandb sync"
                )
                reason = textwrap.shorten(str(error), 100, placeholder="...") or type(error).__name__
                warnings.warn(f"Weights & Biases cannot follow this run ({reason}); {goes_on}", stacklevel=3)
        if self._run is not None:
            self._run.define_metric(_STEP)
            self._run.define_metric("*", step_metric=_STEP)

    def write(self, record: TrainRecord) -> None:
        """Add a record's numbers."""
        if self._run is not None:
            self._run.log({_STEP: record.images_seen, **numbers_of(record)})

    def close(self) -> None:
        """Write what is left."""
        if self._run is not None:
            self._run.finish()


def numbers_of(record: TrainRecord) -> dict[str, float]:
    """The finite numbers of a record by the names that they are tracked under."""
    values = {f"loss/{name}": value for name, value in record.parts.items()}
    values |= {"loss": record.loss, "learning rate": record.learning_rate, "skipped steps": record.skipped_steps}
    values["images per second"] = record.images_per_second
    validation = record.validation
    if validation is not None:
        scores = {
            "psnr dB": validation.psnr_db,
            "perceptual": validation.perceptual,
            "gap closed": validation.gap_closed,
            "frechet": validation.frechet,
        }
        values |= {f"validation/{name}": value for name, value in scores.items() if value is not None}
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
