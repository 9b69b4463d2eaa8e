"""PNG files chunk by chunk (https://www.w3.org/TR/png-3/), and 16-bit samples, which Pillow writes for grey alone."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
XMP_KEYWORD = b"XML:com.adobe.xmp"
TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
FAST, SMALL = 4, 6
"""Levels of compression; on portraits the first is twice as fast and as small."""
_START = SIGNATURE + struct.pack(">I4s", 13, b"IHDR")
_PLAIN = b"\x08\x02\x00\x00\x00"  # a header's end: 8 bits of red, green and blue, not interlaced
_KINDS = {1: 0, 2: 4, 3: 2, 4: 6}  # colour types by channels

Chunk = tuple[bytes, bytes]


def chunks_of(data: bytes) -> Iterator[Chunk]:
    """Type and content of each chunk up to the end, or up to where the file is cut off."""
    position = len(SIGNATURE)
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        content = data[position + 8 : position + 8 + length]
        if len(content) < length:
            return
        yield kind, content
        position += 12 + length


def kept_chunks(data: bytes) -> tuple[Chunk, ...]:
    """The chunks that stay true when the pixels change, as they are: texts, colour space, density, safe private ones.

    XMP, EXIF and the ICC profile are not among them.
    """
    known = (*TEXT_CHUNKS, b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"pHYs", b"tIME")
    handled = (b"eXIf", b"iCCP", b"bKGD", b"sBIT", b"sPLT", b"hIST", b"tRNS", b"acTL", b"fcTL", b"fdAT")
    kept: list[Chunk] = []
    for kind, content in chunks_of(data):
        safe = kind[0] & 32 and kind[3] & 32 and kind not in handled  # ancillary, and safe to copy
        is_profile = kind in TEXT_CHUNKS and content.startswith((XMP_KEYWORD, b"Raw profile type exif\0"))
        if (kind in known or safe) and not is_profile:
            kept.append((kind, content))
    return tuple(kept)


def text_chunk(key: str, value: str) -> Chunk:
    """An iTXt chunk, not compressed."""
    return b"iTXt", key.encode("latin-1", "replace")[:79] + b"\0\0\0\0\0" + value.encode()


def profile_chunk(icc: bytes) -> Chunk:
    """The chunk of a colour profile."""
    return b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc)


def encode(samples: np.ndarray, chunks: Iterable[Chunk] = (), level: int = FAST) -> bytes:
    """A PNG file of ``(H, W, C)`` uint8 or uint16 samples, C being 1 to 4, with ``chunks`` before the pixels."""
    head, pixels = (_deep if samples.dtype == np.uint16 else _by_pillow)(samples, level)
    parts = [SIGNATURE, _chunk(b"IHDR", head), *(_chunk(*chunk) for chunk in chunks)]
    return b"".join([*parts, *(_chunk(b"IDAT", part) for part in pixels), _chunk(b"IEND", b"")])


def grey_alpha_as_rgba(data: bytes) -> bytes:
    """A file of 16-bit grey with alpha, relabelled as 8-bit RGBA: both have 4 bytes a pixel, filtered alike."""
    first = 16 + 13 + 4
    header = bytearray(data[16:29])
    header[8:10] = 8, 6
    return data[:16] + bytes(header) + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + data[first:]


def plain_size(data: bytes) -> tuple[int, int] | None:
    """``(H, W)`` of a whole 8-bit RGB PNG that holds nothing but pixels and is not interlaced; None for all others."""
    if not data.startswith(_START) or data[24:29] != _PLAIN:
        return None
    place = 33
    while data[place + 4 : place + 8] == b"IDAT":
        place += 12 + int.from_bytes(data[place : place + 4], "big")
    if data[place + 4 : place + 8] != b"IEND":
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return (height, width) if width * height > 0 else None


def top_rows(data: bytes, rows: int) -> bytes:
    """A plain PNG with a header that says ``rows`` rows: rows are stored from the top, so it is one of these alone.

    Any other file comes back as it is.
    """
    size = plain_size(data)
    if size is None or rows >= size[0]:
        return data
    header = data[12:20] + struct.pack(">I", rows) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _by_pillow(samples: np.ndarray, level: int) -> tuple[bytes, list[bytes]]:
    buffer = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(samples[..., 0] if samples.shape[2] == 1 else samples))
    picture.save(buffer, "PNG", compress_level=level)
    found = list(chunks_of(buffer.getvalue()))
    return found[0][1], [content for kind, content in found if kind == b"IDAT"]


def _deep(samples: np.ndarray, level: int) -> tuple[bytes, list[bytes]]:
    """Header and pixels of 16-bit samples; each row takes the filter with the smallest sum, as the standard advises."""
    height, width, channels = samples.shape
    head = struct.pack(">IIBBBBB", width, height, 16, _KINDS[channels], 0, 0, 0)
    rows = np.ascontiguousarray(samples.astype(">u2")).view(np.uint8).reshape(height, -1)
    packer = zlib.compressobj(level)
    packed: list[bytes] = []
    band = max(1, (1 << 22) // rows.shape[1])  # rows at a time: the candidates need five times the memory
    for top in range(0, height, band):
        above = rows[top - 1] if top else np.zeros_like(rows[0])
        packed.append(packer.compress(_filtered(rows[top : top + band], above, 2 * channels).tobytes()))
    packed.append(packer.flush())
    return head, [b"".join(packed)]


def _filtered(rows: np.ndarray, above: np.ndarray, step: int) -> np.ndarray:
    up = np.vstack([above[None], rows[:-1]]).astype(np.int16)
    now = rows.astype(np.int16)
    left, corner = np.zeros_like(now), np.zeros_like(now)
    left[:, step:], corner[:, step:] = now[:, :-step], up[:, :-step]
    guess = left + up - corner
    to_left, to_up, to_corner = abs(guess - left), abs(guess - up), abs(guess - corner)
    nearest_up = np.where(to_up <= to_corner, up, corner)
    paeth = np.where((to_left <= to_up) & (to_left <= to_corner), left, nearest_up)
    predictions = (np.zeros_like(now), left, up, (left + up) >> 1, paeth)
    candidates = np.stack([(now - prediction).astype(np.uint8) for prediction in predictions])
    cost = np.abs(candidates.view(np.int8).astype(np.int16)).sum(axis=2, dtype=np.int64)
    chosen = cost.argmin(axis=0)
    best = candidates[chosen, np.arange(len(rows))]
    return np.hstack([chosen[:, None].astype(np.uint8), best])
