"""What to lower when a training step does not fit in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from topcoat.errors import ModelError
from topcoat.training.config import TrainConfig

_CPU_WORDS = ("not enough memory", "can't allocate memory", "out of memory")
"""How torch's allocators say it in a plain RuntimeError."""


@contextmanager
def memory_advice(config: TrainConfig) -> Iterator[None]:
    """Turn running out of memory into a `ModelError` that names the settings to lower."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise ModelError(_advice(config)) from error
    except RuntimeError as error:
        if any(words in str(error).lower() for words in _CPU_WORDS):
            raise ModelError(_advice(config)) from error
        raise


def _advice(config: TrainConfig) -> str:
    crop = "crop_px (now whole images)" if config.crop_px is None else f"crop_px (now {config.crop_px})"
    if config.batch_size > config.accumulate:
        best = f"raise accumulate (now {config.accumulate}), which changes no result, or lower batch_size "
        return f"a training step needs more memory than there is; {best}(now {config.batch_size}) or {crop}"
    return f"a training step needs more memory than there is; lower {crop}, or take a smaller head"
