"""Pictures embedded in a page."""

from __future__ import annotations

import base64
import io

from PIL import Image
from torch import Tensor

from topcoat.images import encode_png, to_pil

_LOSSLESS_PX = 256
"""Images up to this side are embedded as PNG, where that is small enough; others as WebP."""
_QUALITIES = (90, 75, 50)
_SMALLEST_PX = 32


def data_uri(image: Tensor, *, largest_px: int = 768, most_bytes: int | None = None) -> str:
    """A data URI of one image ``(3, H, W)`` in [0, 1], at most ``largest_px`` a side.

    Under ``most_bytes`` (of the URI) it is made coarser, then smaller, until it fits or is 32 px.
    """
    most = float("inf") if most_bytes is None else most_bytes
    picture = to_pil(image)
    uri = ""
    if max(picture.size) <= _LOSSLESS_PX:
        uri = _data_uri("png", encode_png(image))
    picture.thumbnail((largest_px, largest_px), Image.Resampling.LANCZOS)
    qualities = iter(_QUALITIES)
    while not uri or len(uri) > most:
        quality = next(qualities, None)
        if quality is None:
            if max(picture.size) <= _SMALLEST_PX:
                break
            picture = picture.resize([max(1, side // 2) for side in picture.size], Image.Resampling.LANCZOS)
            quality = _QUALITIES[-1]
        buffer = io.BytesIO()
        picture.save(buffer, "WEBP", quality=quality)
        uri = _data_uri("webp", buffer.getvalue())
    return uri


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
