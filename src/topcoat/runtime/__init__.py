"""Runtimes: a head on pictures of any size, on ONNX Runtime or OpenVINO without torch, or on torch.

`topcoat.runtime.opening.open_runtime` gives a `topcoat.runtime.runner.Runtime`; `topcoat.runtime.export` writes the
file that the first two run.
"""

from typing import Literal

RuntimeName = Literal["auto", "torch", "onnx", "openvino"]
"""What ``--runtime`` takes."""
TorchPrecision = Literal["float32", "bfloat16", "float16"]
"""What a head computes in on torch."""
