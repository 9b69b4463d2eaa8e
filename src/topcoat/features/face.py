"""Face recognition by an ArcFace network in ONNX format (Deng et al. 2019, arXiv 1801.07698), run by ONNX Runtime.

Published ones read an aligned face of 112 x 112 px, RGB, as 2 x - 1. topcoat finds and aligns no faces: it gives the
network the whole picture, which must be a portrait. Both images of a pair, and both sides of a head, show the face at
the same place, so their cosine compares the same crop.
"""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from topcoat import hub
from topcoat.errors import ModelError
from topcoat.features.net import Features

ONNX_NAME = "glintr100.onnx"
"""What InsightFace calls its recognition network, and AuraFace after it; other files there detect faces."""
_SIDE_PX = 112


def find_onnx(source: str) -> Path | None:
    """The recognition network of an ``.onnx`` file, a folder or a hub id; None for one in the format of transformers.

    Raises `ModelError` where there is neither, or more than one.
    """
    path = Path(source)
    if path.suffix == ".onnx":
        if not path.is_file():
            raise ModelError(f"there is no file {source}; give a face recognition network in ONNX format")
        return path
    local = path.is_dir()
    folder = path if local else hub.download(source, ["config.json", ONNX_NAME], what="the face recognition network")
    if (folder / ONNX_NAME).is_file():
        return folder / ONNX_NAME
    if (folder / "config.json").is_file():
        return None
    files = sorted(folder.glob("*.onnx"))
    if len(files) != 1:
        raise ModelError(
            f"{source} holds {len(files)} ONNX files and no config.json; name one, as in face:FOLDER/network.onnx"
        )
    return files[0]


class OnnxFaceNet:
    """A face recognition network as a feature net, without feature maps; it runs on the CPU.

    The identity vector is its embedding at unit length.
    """

    def __init__(self, path: Path) -> None:
        """Raises `ModelError` where ONNX Runtime is not installed or the file is not such a network."""
        try:
            runtime: Any = importlib.import_module("onnxruntime")
        except ImportError:
            raise ModelError(
                "a face recognition network in ONNX format needs onnxruntime, which is not installed; run pip install "
                "onnxruntime, or give one in the format of transformers"
            ) from None
        try:
            self._session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise ModelError(f"{path} is no ONNX network ({hub.first_line(error)}); fetch it again") from error
        self._input = self._session.get_inputs()[0]
        shape = list(self._input.shape)
        if len(shape) != 4 or shape[1] != 3:
            raise ModelError(f"{path} reads {shape}, not images (N, 3, H, W); give a face recognition network")
        sides = [side if isinstance(side, int) else _SIDE_PX for side in shape[2:]]
        self._size = (sides[0], sides[1])
        self._one_by_one = isinstance(shape[0], int)
        self.digest = hashlib.sha256(b"antialiased bicubic, 1" + path.read_bytes()).hexdigest()[:16]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        """Features of images ``(N, 3, H, W)`` in [0, 1]."""
        pixels = images.to("cpu", torch.float32)
        if tuple(pixels.shape[-2:]) != self._size:
            pixels = functional.interpolate(pixels, size=self._size, mode="bicubic", antialias=True).clamp(0, 1)
        parts = (pixels * 2 - 1).split(1 if self._one_by_one else max(1, len(pixels)))
        rows = [torch.from_numpy(self._session.run(None, {self._input.name: part.numpy()})[0]) for part in parts]
        embedding = torch.cat(rows).float().flatten(1)
        return Features((), embedding, functional.normalize(embedding, dim=1))
