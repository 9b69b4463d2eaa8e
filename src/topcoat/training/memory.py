"""What to lower when a training step does not fit in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from topcoat.errors import ModelError
from topcoat.training.config import TrainConfig

_CPU_WORDS = ("not enough memory", "can't allocate memory", "out of memory")
"""How torch's allocators say it in a plain RuntimeError."""


VALIDATING = "validation needs more memory than there is; take a smaller head, or pairs of smaller images"


@contextmanager
def memory_advice(advice: str) -> Iterator[None]:
    """Turn running out of memory into a `ModelError` that says ``advice``."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise ModelError(advice) from error
    except RuntimeError as error:
        if any(words in str(error).lower() for words in _CPU_WORDS):
            raise ModelError(advice) from error
        raise


def step_advice(config: TrainConfig) -> str:
    """What to lower so that a step fits."""
    crop = "crop_px (now whole images)" if config.crop_px is None else f"crop_px (now {config.crop_px})"
    if config.batch_size > config.accumulate:
        best = f"raise accumulate (now {config.accumulate}), which changes no result, or lower batch_size "
        return f"a training step needs more memory than there is; {best}(now {config.batch_size}) or {crop}"
    return f"a training step needs more memory than there is; lower {crop}, or take a smaller head"
