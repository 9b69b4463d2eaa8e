"""The pictures that raters see: one encoder for all arms, no metadata, and files of equal size within a subject.

A file of WebP is RIFF: chunks with a name and a length. Every file here has the same three: ``VP8X`` with the size in
px, the picture, and a chunk ``JUNK`` of random bytes, which readers skip. (WebP Container Specification, "Extended File
Format" and "Unknown Chunks".)
"""

from __future__ import annotations

import io
import secrets
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageFilter

from topcoat.errors import DataError
from topcoat.pictures import read_picture, seen_by_head

SUFFIX, MEDIA_TYPE = ".webp", "image/webp"
_PICTURE_CHUNKS = (b"VP8L", b"VP8 ")
_CHUNK_HEADER_BYTES = 8
_BLUR = 1 / 24
"""Radius of an attention check's blur, as a share of the shorter side: nobody who looks takes it for the better one."""

Name = TypeVar("Name", bound=str)


def read_rgb(path: Path) -> np.ndarray:
    """The picture in a file as uint8 ``(H, W, 3)`` in sRGB, upright.

    Raises `DataError` for a file that is no picture, and for one that is transparent anywhere.
    """
    picture = read_picture(path)
    if picture.alpha is not None and bool((picture.alpha != np.iinfo(picture.alpha.dtype).max).any()):
        raise DataError(
            f"{path} is transparent in places, and raters would see the page through it; lay it on a colour"
        )
    seen = seen_by_head(picture)
    return seen if seen.dtype == np.uint8 else np.rint(seen.astype(np.float64) * 255).astype(np.uint8)


def degraded(rgb: np.ndarray) -> np.ndarray:
    """The picture of an attention check: ``rgb`` out of focus, of the same shape and type."""
    radius = max(2.0, min(rgb.shape[:2]) * _BLUR)
    return np.asarray(Image.fromarray(rgb).filter(ImageFilter.GaussianBlur(radius)))


def encode(pictures: Mapping[Name, np.ndarray], quality: int | None = None) -> dict[Name, bytes]:
    """WebP files of pictures of one shape, uint8 ``(H, W, 3)``, all of the same number of bytes.

    Lossless, or lossy at ``quality`` 1 to 100. Raises `DataError` where a picture is too large for the format.
    """
    chunks = {name: _picture_chunk(rgb, quality) for name, rgb in pictures.items()}
    largest = max(len(chunk) for chunk in chunks.values())
    return {
        name: _file(chunk, rgb.shape, largest)
        for (name, chunk), rgb in zip(chunks.items(), pictures.values(), strict=True)
    }


def _picture_chunk(rgb: np.ndarray, quality: int | None) -> bytes:
    """The chunk that holds the pixels, with its header and an even length."""
    buffer = io.BytesIO()
    options = {"lossless": True, "exact": True} if quality is None else {"quality": quality}
    try:
        Image.fromarray(rgb).save(buffer, "WEBP", method=4, **options)
    except (OSError, ValueError) as error:
        raise DataError(
            f"a picture of {rgb.shape[1]} x {rgb.shape[0]} px cannot be written as WebP ({error})"
        ) from error
    return next(_chunk(name, body) for name, body in chunks_of(buffer.getvalue()) if name in _PICTURE_CHUNKS)


def chunks_of(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a RIFF file as ``(name, content)``."""
    at = 12  # "RIFF", the size and "WEBP"
    while at < len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        yield name, data[at + _CHUNK_HEADER_BYTES : at + _CHUNK_HEADER_BYTES + size]
        at += _CHUNK_HEADER_BYTES + size + size % 2


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack("<4sI", name, len(body)) + body + b"\0" * (len(body) % 2)


def _file(picture: bytes, shape: tuple[int, ...], largest: int) -> bytes:
    """The picture's chunk between its size in px and as much filling as the ``largest`` chunk does without."""
    height, width = shape[:2]
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    # random, so that no compression on the way tells filling from picture
    filling = secrets.token_bytes(largest - len(picture))
    body = b"WEBP" + _chunk(b"VP8X", bytes(4) + size) + picture + _chunk(b"JUNK", filling)
    return struct.pack("<4sI", b"RIFF", len(body)) + body
