"""The folder of a training run.

``train.json``                  settings of every stage and digests of the data and the feature net; written once
``stats.jsonl``                 one record a line
``checkpoints/last.safetensors``  all state; the counters are in its header, so that both change in one rename
``checkpoints/crops-*.u8``      cached crops of the stage under way, where ``cached_crops`` asks for them
``checkpoints/best/``           the head with the best validation of the stage so far
``stages/<name>/``              the heads of stages that have ended; the last stage's is that of the run
``validation.png``              distilled, enhanced and baseline images of the first validation pairs
``tensorboard/`` ``wandb/``     what TensorBoard and Weights & Biases read, where they are installed
``config.json`` ``model.safetensors`` ``README.md``  the averaged head as of the last checkpoint
"""

from __future__ import annotations

import hashlib
import json
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from topcoat.errors import DataError, TopcoatError
from topcoat.files import atomic_path, first_difference, read_json, write_json, write_text
from topcoat.heads.head import Head
from topcoat.training.config import RunConfig
from topcoat.training.records import TrainRecord
from topcoat.training.trainer import Trainer

FORMAT = "topcoat-training"
FORMAT_VERSION = 2


@dataclass(slots=True)
class Progress:
    """The counters of a run; but for the first two, of the stage under way."""

    stage: int = 0
    """Its number."""
    images_before: int = 0
    """Images seen by the stages before."""
    images_seen: int = 0
    step: int = 0
    skipped_steps: int = 0
    bad_in_a_row: int = 0
    best_score: float | None = None
    figures: dict[str, float | None] = field(default_factory=dict[str, float | None])
    """The last validation."""

    @property
    def total(self) -> int:
        """Images seen by the run."""
        return self.images_before + self.images_seen

    def next_stage(self) -> Progress:
        """The counters at the start of the next stage."""
        return Progress(stage=self.stage + 1, images_before=self.total)


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
        if self.path.is_file():
            raise DataError(f"{self.path} is a file; name a folder for the run")
        begun = self._about.exists()
        if begun and self._last.exists():  # a run without a checkpoint may be begun anew
            saved = read_json(self._about)
            if isinstance(saved, dict) and saved.get("format_version") != FORMAT_VERSION:
                raise DataError(
                    f"{self.path} holds a training run of format version {saved.get('format_version')}, this topcoat "
                    f"goes on with {FORMAT_VERSION}; use another output folder, or the topcoat that began it"
                )
            difference = first_difference(saved, self._identity)
            if difference is not None:
                raise DataError(
                    f"{self.path} holds another training run ({difference}); nothing was changed: "
                    "use another output folder, or the settings and pairs of that run; to train on from its head, give "
                    f"another output folder and --init-from {self.path} (init_from in Python)"
                )
        elif not begun and self.path.is_dir() and any(not path.name.startswith(".") for path in self.path.iterdir()):
            raise DataError(f"{self.path} holds files but no training run; nothing was changed: use an empty folder")

    def crops(self, stage: str) -> Path:
        """The file of a stage's cached crops; another one for other settings or pairs."""
        digest = hashlib.sha256(json.dumps(self._identity, sort_keys=True).encode()).hexdigest()
        return self._last.with_name(f"crops-{stage}-{digest[:12]}.u8")

    def progress(self) -> Progress:
        """The counters of the last checkpoint; those of a run that begins where there is none."""
        if not self._last.exists():
            return Progress()
        try:
            with safe_open(self._last, framework="pt") as file:
                state = json.loads((file.metadata() or {})[FORMAT])
            return Progress(**state["progress"])
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise self._damaged(error) from error

    def begin(self, progress: Progress) -> None:
        """Write the run's identity where it begins; drop the records past ``progress``."""
        if not self._last.exists():
            write_json(self._about, self._identity)
        if self._stats.exists():
            lines = self._stats.read_text(encoding="utf-8").splitlines()
            valid = [line for line in lines if _images_seen(line) <= progress.total]
            if valid != lines:
                write_text(self._stats, "".join(line + "\n" for line in valid))

    def restore(self, trainer: Trainer) -> None:
        """Bring ``trainer`` to the last checkpoint, which is of its stage."""
        try:
            trainer.load_tensors(load_file(self._last))
        except (SafetensorError, OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> DataError:
        reason = textwrap.shorten(str(error), 100, placeholder="...")
        return DataError(
            f"{self._last} is damaged, of another head or of another number of processes ({reason}); go on as it was "
            "begun, or delete it to start this run from the beginning"
        )

    def save(self, head: Head, tensors: Mapping[str, Tensor], progress: Progress, ended: str | None = None) -> None:
        """Write the averaged head, then the state ``tensors``; each file is replaced as a whole.

        In this order, because a stop in between makes a resumed run write the head again. ``ended`` names a stage that
        is not the last and ends here: its head is written first, for the next one.
        """
        if ended is not None:
            head.save_pretrained(self._stage(ended))
        head.save_pretrained(self.path)
        state = json.dumps({"format_version": FORMAT_VERSION, "progress": asdict(progress)}, allow_nan=False)
        with atomic_path(self._last) as temporary:
            save_file(dict(tensors), temporary, metadata={FORMAT: state})

    def stage_head(self, name: str) -> Head:
        """The head of a stage that has ended; raises `DataError` if it is not there."""
        folder = self._stage(name)
        if not folder.is_dir():
            raise DataError(f"{folder} is missing, which the next stage needs; start the run again in another folder")
        return Head.from_pretrained(folder)

    def _stage(self, name: str) -> Path:
        return self.path / "stages" / name

    def log(self, record: TrainRecord) -> None:
        """Add a line to ``stats.jsonl``."""
        try:
            with open(self._stats, "a", encoding="utf-8") as file:
                file.write(json.dumps(record.as_dict(), allow_nan=False) + "\n")
        except OSError as error:
            raise DataError(f"cannot write {self._stats} ({error.strerror}); free some space") from error


def finished_head(path: Path, run: RunConfig) -> Head | None:
    """The head in a run's folder, if the run was one of exactly ``run`` and has seen all its images."""
    try:
        about, head = read_json(path / "train.json"), Head.from_pretrained(path)
    except TopcoatError:
        return None
    same = about.get("stages") == json.loads(json.dumps(run.identity()))
    return head if same and head.facts.get("images_seen", 0) >= run.images else None


def _images_seen(line: str) -> float:
    try:
        return int(json.loads(line)["images_seen"])
    except (ValueError, KeyError, TypeError):  # half a line, after a crash
        return float("inf")
