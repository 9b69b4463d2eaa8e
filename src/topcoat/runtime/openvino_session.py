"""A head's ONNX file on OpenVINO, Intel's runtime (extra ``openvino``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from topcoat.errors import DataError
from topcoat.runtime.record import ENHANCED, METADATA_KEY, HeadRecord, parse_record


class OpenVinoSession:
    """See `topcoat.runtime.runner.Session`."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        """``threads`` 0: OpenVINO chooses. Raises `DataError` for a file that is no head."""
        import openvino

        core = openvino.Core()
        settings = {"INFERENCE_PRECISION_HINT": "f32"} | ({"INFERENCE_NUM_THREADS": threads} if threads else {})
        if not path.is_file():
            raise DataError(f"{path} does not exist; check the path")
        try:
            model = core.read_model(path)
        except RuntimeError as error:
            raise DataError(f"{path} is no ONNX model that can be run here; export the head again") from error
        place = ["framework", METADATA_KEY]  # where OpenVINO puts an ONNX file's metadata
        metadata = {METADATA_KEY: str(model.get_rt_info(place).value)} if model.has_rt_info(place) else {}
        self.record: HeadRecord = parse_record(metadata, str(path))
        self._compiled = core.compile_model(model, "CPU", settings)
        self.name = "OpenVINO (CPU)"

    def run(self, inputs: np.ndarray, strength: float) -> np.ndarray:
        """See `topcoat.runtime.runner.Session`."""
        return np.array(self._compiled(self.record.feed(inputs, strength))[ENHANCED])
