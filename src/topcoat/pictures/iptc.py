"""IPTC-IIM records, in the Photoshop resource blocks that carry them: APP13 of JPEG, tags of TIFF, a text of PNG."""

from __future__ import annotations

import binascii
import struct
import zlib
from collections.abc import Iterator

RECORDS = 0x0404
APP13 = b"Photoshop 3.0\0"
PNG_KEYWORD = "Raw profile type iptc"
_SEGMENT_BYTES = 65_533


def block_of(records: bytes) -> bytes:
    """IIM records as a resource block."""
    return b"8BIM" + struct.pack(">HHI", RECORDS, 0, len(records)) + records + b"\0" * (len(records) % 2)


def blocks_in(resources: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of each resource block, up to the first that is damaged."""
    position = 0
    while resources[position : position + 4] == b"8BIM" and position + 12 <= len(resources):
        (number,) = struct.unpack_from(">H", resources, position + 4)
        name_bytes = resources[position + 6] + 1
        position += 6 + name_bytes + name_bytes % 2
        if position + 4 > len(resources):
            return
        (length,) = struct.unpack_from(">I", resources, position)
        yield number, resources[position + 4 : position + 4 + length]
        position += 4 + length + length % 2


def records_in(resources: bytes | None) -> bytes | None:
    """The IIM records among resource blocks, or None."""
    return next((content for number, content in blocks_in(resources or b"") if number == RECORDS), None)


def app13(resources: bytes) -> list[bytes]:
    """Contents of the JPEG segments that hold the resource blocks."""
    room = _SEGMENT_BYTES - len(APP13)
    return [APP13 + resources[start : start + room] for start in range(0, len(resources), room)]


def png_text(resources: bytes) -> tuple[bytes, bytes]:
    """The zTXt chunk that ImageMagick and ExifTool keep resource blocks in."""
    digits = binascii.hexlify(resources).decode()
    lines = "\n".join(digits[start : start + 72] for start in range(0, len(digits), 72))
    text = f"\niptc\n{len(resources):8d}\n{lines}\n"
    return b"zTXt", PNG_KEYWORD.encode() + b"\0\0" + zlib.compress(text.encode())


def from_png_text(text: str) -> bytes | None:
    """The resource blocks of such a chunk's text, None where it is damaged; bare IIM records become a block."""
    try:
        found = binascii.unhexlify("".join(text.strip().split("\n")[2:]))  # after a title and the length
    except (binascii.Error, ValueError):
        return None
    return block_of(found) if found[:1] == b"\x1c" else found
