"""What a head's ONNX file says of itself, in its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from topcoat.config import StrictModel
from topcoat.errors import DataError

METADATA_KEY = "topcoat"
"""The key of the file's metadata that holds a `HeadRecord` as JSON."""

IMAGES, LATENTS, STRENGTH, ENHANCED = "images", "latents", "strength", "enhanced"
"""Names of the graph's inputs (the first or the second, and the third where the head has a strength) and its output."""

Precision = Literal["float32", "float16", "bfloat16", "int8"]


class HeadRecord(StrictModel):
    """What a program must know to run a head: inputs ``(N, C, H, W)`` float32, output ``(N, 3, H, W)`` in [0, 1]."""

    format: Literal["topcoat-onnx"] = "topcoat-onnx"
    format_version: Literal[1] = 1
    name: str
    """What the head was called where it was exported, such as its folder."""
    kind: str
    """As in `topcoat.heads.KINDS`."""
    input: Literal["image", "latent"] = "image"
    digest: str
    """`topcoat.Head.digest` of the head."""
    weights_sha256: str | None = None
    """Of the ``model.safetensors`` that it was made from."""
    licence: str
    """Of the generators whose images it learned from."""
    precision: Precision = "float32"
    channels: int = Field(default=3, ge=1)
    """C of the inputs."""
    scale: int = Field(default=1, ge=1)
    """Pixels per input position along a side: 1 for images."""
    size_multiple: int = Field(ge=1)
    """Height and width of the inputs are multiples of this, in positions; mirror the border to get there."""
    smallest: int = Field(ge=1)
    """Least height and width of the inputs, in positions."""
    value_range: tuple[float, float] | None = (0.0, 1.0)
    """Of the inputs; None for latents."""
    has_strength: bool = True
    """Whether there is an input ``strength``, from 0 (no change) to 2; 1 is the trained amount."""
    halo_px: int | None = None
    """What a tile needs around it so that the result is that of the whole picture; None: tiles are impossible."""
    largest_tile_difference: float | None = None
    """Between tiles and the whole picture, as it was measured at the export; of the value range."""
    largest_difference: float | None = None
    """To torch, over the images of the export's check; of the value range."""
    gates: Mapping[str, Any] | None = None
    """The calibrated gates, see `topcoat.gates`."""
    software: str
    """topcoat and torch that wrote it."""

    @property
    def inputs(self) -> list[str]:
        """Names of the graph's inputs."""
        return [LATENTS if self.input == "latent" else IMAGES, *([STRENGTH] if self.has_strength else [])]

    def feed(self, inputs: np.ndarray, strength: float) -> dict[str, np.ndarray]:
        """What the graph's inputs are given."""
        return dict(zip(self.inputs, (inputs, np.array(strength, dtype=np.float32)), strict=False))


def parse_record(metadata: Mapping[str, str], path: str) -> HeadRecord:
    """The record in an ONNX file's metadata; raises `DataError` for a file that is no head, or of a later version."""
    text = metadata.get(METADATA_KEY)
    if text is None:
        raise DataError(f"{path} is an ONNX model, but no topcoat head; give a file that topcoat export wrote")
    try:
        return HeadRecord.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(
            f"{path} is a topcoat head of another version ({where}: {first['msg']}); export it again with this topcoat"
        ) from None
