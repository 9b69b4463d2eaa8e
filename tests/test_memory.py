from __future__ import annotations

import pytest
import torch

from topcoat.errors import ModelError
from topcoat.memory import (
    OutOfMemoryError,
    free_cached_memory,
    is_out_of_memory,
    memory_advice,
)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 4096 bytes."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_every_librarys_error_becomes_one_sentence(error: BaseException) -> None:
    assert is_out_of_memory(error)
    with pytest.raises(OutOfMemoryError, match=r"^lower the size$") as caught, memory_advice("lower the size"):
        raise error
    assert isinstance(caught.value, ModelError) and caught.value.__cause__ is error


def test_other_errors_and_an_inner_advice_pass() -> None:
    with pytest.raises(RuntimeError, match="size mismatch"), memory_advice("lower the size"):
        raise RuntimeError("size mismatch")
    with pytest.raises(OutOfMemoryError, match="inner"), memory_advice("outer"), memory_advice("inner"):
        raise MemoryError
    assert not is_out_of_memory(ValueError("the prompt says: out of memory"))


def test_memory_can_be_freed_on_any_machine() -> None:
    free_cached_memory()
