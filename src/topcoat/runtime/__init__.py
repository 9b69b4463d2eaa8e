"""Runtimes: a head on pictures of any size with torch, or without it on ONNX Runtime or OpenVINO.

Imports numpy alone; torch is loaded only where a head is run by it.
"""

from topcoat.runtime.opening import RUNTIMES as RUNTIMES
from topcoat.runtime.opening import RuntimeName as RuntimeName
from topcoat.runtime.opening import open_runtime as open_runtime
from topcoat.runtime.record import HeadRecord as HeadRecord
from topcoat.runtime.runner import Runtime as Runtime
from topcoat.runtime.runner import Session as Session
