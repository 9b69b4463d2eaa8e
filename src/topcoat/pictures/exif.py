"""EXIF blocks: TIFF structures of tags (Exif 3.0, CIPA DC-008), patched in place so that maker notes stay valid."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from PIL import Image, TiffImagePlugin

ORIENTATION = 0x0112
IMAGE_DESCRIPTION = 0x010E
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
USER_COMMENT = 0x9286
IPTC, PHOTOSHOP, XMP, ICC, C2PA = 0x83BB, 0x8649, 0x02BC, 0x8773, 0xCD41
EXIF_IFD, GPS_IFD, INTEROP_IFD = 0x8769, 0x8825, 0xA005
_WIDTH, _HEIGHT = 0xA002, 0xA003
_HEADER = b"Exif\0\0"
_STRUCTURE = frozenset(
    {0x00FE, 0x00FF, 0x0100, 0x0101, 0x0102, 0x0103, 0x0106, 0x010A, 0x0111, 0x0115, 0x0116, 0x0117, 0x0118, 0x0119}
    | {0x011C, 0x0120, 0x0121, 0x013D, 0x0140, 0x0142, 0x0143, 0x0144, 0x0145, 0x014A, 0x0152, 0x0153, 0x0154, 0x0155}
    | {0x015B, 0x0200, 0x0201, 0x0202, 0x0207, 0x0208, 0x0209, 0x0211, 0x0212, 0x0213, 0x0214, 0x0122, 0x0123, 0x012D}
)
"""Tags of a TIFF that describe its own pixels."""


def bare(block: bytes | None) -> bytes | None:
    """The block without ``Exif\\0\\0`` before it; None if nothing, or no TIFF structure, is left."""
    if block is None:
        return None
    block = block.removeprefix(_HEADER)
    return block if block[:2] in (b"II", b"MM") and len(block) > 8 else None


def framed(block: bytes) -> bytes:
    """The block as JPEG keeps it, behind ``Exif\\0\\0``."""
    return _HEADER + block


def upright(block: bytes, size: tuple[int, int] | None = None) -> bytes:
    """The block with orientation 1 and without its thumbnail (which shows the old pixels); all else stays in place.

    ``size`` (width, height) replaces the recorded one. A block that is damaged comes back as it was, orientation
    included where that can be reached.
    """
    patched = bytearray(block)
    order = "<" if block[:2] == b"II" else ">"
    try:
        (first,) = struct.unpack_from(order + "I", block, 4)
        for tag, position in _entries(block, order, first):
            if tag == ORIENTATION:
                struct.pack_into(order + "HI", patched, position + 2, 3, 1)
                patched[position + 8 : position + 12] = struct.pack(order + "HH", 1, 0)
            elif tag == EXIF_IFD and size is not None:
                (inner,) = struct.unpack_from(order + "I", block, position + 8)
                for each, place in _entries(block, order, inner):
                    if each in (_WIDTH, _HEIGHT):
                        side = size[0] if each == _WIDTH else size[1]
                        struct.pack_into(order + "HII", patched, place + 2, 4, 1, side)
        (count,) = struct.unpack_from(order + "H", block, first)
        struct.pack_into(order + "I", patched, first + 2 + 12 * count, 0)
    except struct.error:
        pass
    return bytes(patched)


def with_tags(block: bytes | None, tags: Mapping[int, Any]) -> bytes:
    """The block with those of ``tags`` that it does not have; `USER_COMMENT` goes into the Exif directory."""
    exif = Image.Exif()
    if block is not None:
        exif.load(framed(block))
    before = len(exif)
    inner = exif.get_ifd(EXIF_IFD)
    missing = {tag: value for tag, value in tags.items() if tag not in (inner if tag == USER_COMMENT else exif)}
    if block is not None and not missing and before:
        return block
    for tag, value in missing.items():
        if tag == USER_COMMENT:
            inner[tag] = value
            exif[EXIF_IFD] = dict(inner)
        else:
            exif[tag] = value
    return bare(exif.tobytes()) or b""


def user_comment(text: str) -> bytes:
    """A text as the tag `USER_COMMENT` holds it."""
    return b"UNICODE\0" + text.encode("utf-16-be")


def from_tiff(picture: TiffImagePlugin.TiffImageFile) -> bytes | None:
    """The tags of a TIFF that describe the picture and not its file, as a block; None if it has none."""
    exif = picture.getexif()
    for tag in (*_STRUCTURE, IPTC, PHOTOSHOP, XMP, ICC, C2PA, ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT):
        if tag in exif:
            del exif[tag]
    return bare(exif.tobytes()) if len(exif) else None


def directory(block: bytes | None) -> TiffImagePlugin.ImageFileDirectory_v2:
    """The tags of a block as a directory that a TIFF can be written with; a damaged one gives those that are whole."""
    made = TiffImagePlugin.ImageFileDirectory_v2()
    if block is None:
        return made
    file = io.BytesIO(block)
    outer = _directory_at(file, None)
    for tag, value in outer.items():
        if tag in (EXIF_IFD, GPS_IFD, INTEROP_IFD):
            inner = _directory_at(file, int(value), tag)
            made[tag] = {each: inner[each] for each in inner if each != INTEROP_IFD}
        elif tag not in _STRUCTURE:
            made.tagtype[tag] = outer.tagtype[tag]
            made[tag] = value
    return made


def _directory_at(file: io.BytesIO, offset: int | None, group: int | None = None) -> Any:
    file.seek(0)
    found = TiffImagePlugin.ImageFileDirectory_v2(file.read(8), group=group)
    file.seek(found.next if offset is None else offset)
    found.load(file)
    return found


def _entries(block: bytes, order: str, offset: int) -> Iterator[tuple[int, int]]:
    """Tag and place of each entry of the directory at ``offset``."""
    (count,) = struct.unpack_from(order + "H", block, offset)
    for number in range(count):
        position = offset + 2 + 12 * number
        (tag,) = struct.unpack_from(order + "H", block, position)
        struct.unpack_from(order + "HII", block, position + 2)
        yield tag, position
