"""A head's ONNX file on ONNX Runtime: on the CPU, or on what the installed onnxruntime can use."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from topcoat.errors import DataError, ModelError
from topcoat.runtime.record import ENHANCED, HeadRecord, parse_record

PROVIDERS = {
    "CUDAExecutionProvider": "CUDA",
    "MIGraphXExecutionProvider": "MIGraphX",
    "ROCMExecutionProvider": "ROCm",
    "DmlExecutionProvider": "DirectML",
    "CoreMLExecutionProvider": "Core ML",
    "CPUExecutionProvider": "CPU",
}
"""ONNX Runtime's names of what it may run on, the one to be preferred first, and what a person calls them."""

_LOG_ERRORS = 3  # ONNX Runtime's level: its warnings are about providers that are not there


def available_providers() -> list[str]:
    """Those of `PROVIDERS` that the installed onnxruntime has; the package onnxruntime-gpu adds CUDA."""
    import onnxruntime

    return [name for name in PROVIDERS if name in onnxruntime.get_available_providers()]


class OnnxSession:
    """See `topcoat.runtime.runner.Session`. A provider that does not start (no driver, say) leaves the next one."""

    def __init__(self, path: Path, threads: int = 0, providers: list[str] | None = None) -> None:
        """``threads`` 0: one a core. Raises `DataError` for a file that is no head."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = _LOG_ERRORS
        options.enable_mem_pattern = False  # plans for one shape, and pictures have many
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leave the cores to the decoders
        try:
            self._session = onnxruntime.InferenceSession(
                path.read_bytes(), options, providers=providers or available_providers()
            )
        except FileNotFoundError:
            raise DataError(f"{path} does not exist; check the path") from None
        except Exception as error:  # each of ONNX Runtime's errors is a class of its own, without a base
            raise DataError(f"{path} is no ONNX model that can be run here; export the head again") from error
        self.record: HeadRecord = parse_record(self._session.get_modelmeta().custom_metadata_map, str(path))
        self.name = f"ONNX Runtime ({PROVIDERS[self._session.get_providers()[0]]})"

    def run(self, inputs: np.ndarray, strength: float) -> np.ndarray:
        """See `topcoat.runtime.runner.Session`."""
        try:
            return np.asarray(self._session.run([ENHANCED], self.record.feed(inputs, strength))[0])
        except RuntimeError as error:
            text = str(error).lower()
            if "alloc" in text or "memory" in text:
                raise MemoryError(str(error)) from error
            raise ModelError(f"ONNX Runtime failed: {' '.join(str(error).split())}") from error
