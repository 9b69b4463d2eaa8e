"""TensorBoard, where it is installed."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

from topcoat.training.records import TrainRecord


class Board:
    """Writes a run's records for TensorBoard into ``folder``, with images seen as the step; nothing without it."""

    def __init__(self, folder: Path, wanted: bool) -> None:
        self._writer: Any = None
        if wanted and importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder))

    def write(self, record: TrainRecord) -> None:
        """Add a record's numbers."""
        if self._writer is None:
            return
        values = {f"loss/{name}": value for name, value in record.parts.items()}
        values |= {"loss": record.loss, "learning rate": record.learning_rate, "skipped steps": record.skipped_steps}
        values["images per second"] = record.images_per_second
        validation = record.validation
        if validation is not None:
            values |= {"validation/psnr dB": validation.psnr_db, "validation/perceptual": validation.perceptual}
            if validation.gap_closed is not None:
                values["validation/gap closed"] = validation.gap_closed
        for name, value in values.items():
            if math.isfinite(value):
                self._writer.add_scalar(name, value, record.images_seen)

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()
