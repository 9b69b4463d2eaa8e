"""Memory: running out of it, as one sentence that says what to lower."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from topcoat.errors import ModelError

if TYPE_CHECKING:
    import torch

_PHRASES = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory", "alloc_failed")
"""What torch's allocators and the libraries of CUDA write into a plain RuntimeError."""


class OutOfMemoryError(ModelError):
    """There is not enough memory; the message says what to lower."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out, on any device and from any library."""
    if isinstance(error, (OutOfMemoryError, MemoryError)):
        return True
    torch = sys.modules.get("torch")  # an error of torch is none where it was not imported
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(phrase in text for phrase in _PHRASES)


@contextmanager
def memory_advice(advice: str) -> Iterator[None]:
    """Turn running out of memory into an `OutOfMemoryError` with the message ``advice``."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error) and not isinstance(error, OutOfMemoryError):
            raise OutOfMemoryError(advice) from error
        raise


def free_cached_memory() -> None:
    """Return what Python and torch still hold of a failed attempt, so that a smaller one can use it."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def free_bytes(device: torch.device) -> int | None:
    """Free memory of a CUDA device; None for others, which have no memory of their own or do not tell."""
    import torch

    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
