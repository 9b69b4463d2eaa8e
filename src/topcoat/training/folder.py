"""The folder of a training run.

``train.json``                  settings and digests of the data and the feature net; written once
``stats.jsonl``                 one record a line
``checkpoints/last.safetensors``  all state; the counters are in its header, so that both change in one rename
``checkpoints/best/``           the head with the best validation so far
``validation.png``              distilled, enhanced and baseline images of the first validation pairs
``tensorboard/`` ``wandb/``     what TensorBoard and Weights & Biases read, where they are installed
``config.json`` ``model.safetensors`` ``README.md``  the averaged head as of the last checkpoint
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from topcoat.errors import DataError, TopcoatError
from topcoat.files import atomic_path, read_json, write_json, write_text
from topcoat.heads.head import Head
from topcoat.training.config import TrainConfig
from topcoat.training.records import TrainRecord
from topcoat.training.trainer import Trainer

FORMAT = "topcoat-training"
FORMAT_VERSION = 1


@dataclass(slots=True)
class Progress:
    """The counters of a run."""

    images_seen: int = 0
    step: int = 0
    skipped_steps: int = 0
    bad_in_a_row: int = 0
    best_score: float | None = None
    figures: dict[str, float | None] = field(default_factory=dict[str, float | None])
    """The last validation."""


class RunFolder:
    """Reads and writes a run's folder. ``identity`` (JSON values) is what makes a run this run and no other.

    Raises `DataError`, before anything is written, if ``path`` holds another run or other files.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        self.best = path / "checkpoints" / "best"
        self.picture = path / "validation.png"
        self._last = path / "checkpoints" / "last.safetensors"
        self._stats = path / "stats.jsonl"
        self._about = path / "train.json"
        self._identity = json.loads(json.dumps({"format": FORMAT, "format_version": FORMAT_VERSION, **identity}))
        self._check()

    def _check(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise DataError(f"{self.path} is a file; name a folder for the run")
        if self._about.exists() and self._last.exists():  # one that ended before that holds nobody to its settings
            difference = first_difference(read_json(self._about), self._identity)
            if difference is not None:
                raise DataError(
                    f"{self.path} holds another training run ({difference}); nothing was changed: "
                    "use another output folder, or the settings and pairs of that run"
                )
        elif (
            not self._about.exists()
            and self.path.is_dir()
            and any(not path.name.endswith(".tmp") for path in self.path.iterdir())
        ):
            raise DataError(f"{self.path} holds files but no training run; nothing was changed: use an empty folder")

    def resume(self, trainer: Trainer, *, writes: bool = True) -> Progress:
        """Begin the run, or bring ``trainer`` to where it stopped; records past that point are dropped.

        One of several processes ``writes``; the others only read.
        """
        progress = self._load(trainer) if self._last.exists() else Progress()
        if not writes:
            return progress
        if not self._last.exists():
            write_json(self._about, self._identity)
        if self._stats.exists():
            lines = self._stats.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if _images_seen(line) <= progress.images_seen]
            if kept != lines:
                write_text(self._stats, "".join(line + "\n" for line in kept))
        return progress

    def _load(self, trainer: Trainer) -> Progress:
        try:
            with safe_open(self._last, framework="pt") as file:
                header = file.metadata() or {}
            state = json.loads(header[FORMAT])
            if state["format_version"] != FORMAT_VERSION:
                raise DataError(f"{self._last} is no checkpoint that this topcoat reads; use another output folder")
            progress = Progress(**state["progress"])
            trainer.load_tensors(load_file(self._last))
        except (SafetensorError, OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{self._last} is damaged, of another head or of another number of processes ({_short(error)}); go on "
                "as it was begun, or delete it to start this run from the beginning"
            ) from error
        return progress

    def save(
        self, trainer: Trainer, tensors: Mapping[str, Tensor], progress: Progress, facts: Mapping[str, Any]
    ) -> None:
        """Write the averaged head, then the state ``tensors``; each file is replaced as a whole.

        In this order, because a stop in between makes a resumed run write the head again.
        """
        trainer.head().save_pretrained(self.path, facts)
        state = json.dumps({"format_version": FORMAT_VERSION, "progress": asdict(progress)}, allow_nan=False)
        with atomic_path(self._last) as temporary:
            save_file(dict(tensors), temporary, metadata={FORMAT: state})

    def log(self, record: TrainRecord) -> None:
        """Add a line to ``stats.jsonl``."""
        try:
            with open(self._stats, "a", encoding="utf-8") as file:
                file.write(json.dumps(record.as_dict(), allow_nan=False) + "\n")
        except OSError as error:
            raise DataError(f"cannot write {self._stats} ({error.strerror}); free some space") from error


def finished_head(path: Path, config: TrainConfig) -> Head | None:
    """The head in a run's folder, if the run was one of exactly ``config`` and has seen all its images."""
    try:
        about, head = read_json(path / "train.json"), Head.from_pretrained(path)
    except TopcoatError:
        return None
    same = about.get("config") == json.loads(json.dumps(config.identity()))
    return head if same and head.facts.get("images_seen", 0) >= config.images else None


def _images_seen(line: str) -> float:
    try:
        return int(json.loads(line)["images_seen"])
    except (ValueError, KeyError, TypeError):  # half a line, after a crash
        return float("inf")


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 100 else text[:97] + "..."


def first_difference(there: Any, here: Any, name: str = "") -> str | None:
    """Where two JSON values first differ, in words, or None."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in [*here, *(key for key in there if key not in here)]:
            found = first_difference(there.get(key), here.get(key), f"{name}.{key}" if name else str(key))
            if found is not None:
                return found
        return None
    return None if there == here else f"{name} is {_brief(there)} there and {_brief(here)} here"


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
