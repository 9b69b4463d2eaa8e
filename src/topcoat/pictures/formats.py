"""The formats of picture files that are read and written, and how to tell what else a file is."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from topcoat.errors import UsageError


@dataclass(frozen=True, slots=True)
class Format:
    """What a file of one format can hold."""

    name: str
    """As ``--format`` takes it."""
    title: str
    """As a person writes it."""
    pillow: tuple[str, ...]
    """Pillow's names, the one to write with first."""
    suffixes: tuple[str, ...]
    max_side_px: int
    sixteen_bit: bool = False
    alpha: bool = True
    metadata: bool = True
    """Whether EXIF and a colour profile have a place in it."""


FORMATS: Mapping[str, Format] = {
    each.name: each
    for each in (
        Format("png", "PNG", ("PNG",), (".png", ".apng"), 2**31 - 1, sixteen_bit=True),
        Format("jpeg", "JPEG", ("JPEG", "MPO"), (".jpg", ".jpeg", ".jpe", ".jfif"), 65_500, alpha=False),
        Format("webp", "WebP", ("WEBP",), (".webp",), 16_383),
        Format("avif", "AVIF", ("AVIF",), (".avif",), 65_536),
        Format("tiff", "TIFF", ("TIFF",), (".tif", ".tiff"), 2**31 - 1, sixteen_bit=True),
        Format("bmp", "BMP", ("BMP", "DIB"), (".bmp", ".dib"), 2**31 - 1, alpha=False, metadata=False),
        Format("heic", "HEIC", ("HEIF",), (".heic", ".heif", ".hif"), 16_384),
    )
}
"""By name. HEIC needs the package pillow-heif (extra ``heic``)."""

_OTHERS = """
    3fr ai arw bay cr2 cr3 dcm dds dng emf eps erf exr fits gif hdr icns ico j2k jp2 jpx jxl kdc mef mng mos mrw nef nrw
    orf pbm pcx pef pfm pgm pnm ppm psb psd qoi raf raw rw2 sgi sr2 srf srw svg svgz tga wmf x3f xbm xcf xpm
"""
OTHER_SUFFIXES = frozenset(f".{each}" for each in _OTHERS.split())
"""Suffixes of pictures that are not read: a file of this kind is named where it is left out."""

_SIGNATURES = (
    (b"GIF8", "a GIF"),
    (b"8BPS", "a Photoshop file"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"v/1\x01", "OpenEXR"),
    (b"%PDF", "a PDF"),
    (b"%!PS", "PostScript"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
)


def format_of(path: str | Path) -> Format | None:
    """The format that the suffix of ``path`` stands for, or None."""
    return _BY_SUFFIX.get(Path(path).suffix.lower())


def written_format(path: str | Path) -> Format:
    """`format_of`; raises `UsageError` where there is none."""
    kind = format_of(path)
    if kind is None:
        raise UsageError(f"{path} has no picture type that is written here; use one of: {usual_suffixes()}")
    return kind


def format_of_pillow(name: str | None) -> Format | None:
    """The format that Pillow calls ``name``, or None."""
    return next((each for each in FORMATS.values() if name in each.pillow), None)


@functools.cache
def readable() -> tuple[str, ...]:
    """Pillow's names of the formats that can be read here; HEIC is among them where pillow-heif is installed."""
    names = [each.pillow[0] for each in FORMATS.values() if each.name != "heic"]  # Pillow opens an MPO as a JPEG
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return tuple(names)
    register_heif_opener()
    return (*names, "HEIF")


def suffixes() -> tuple[str, ...]:
    """The suffixes of files that can be read here."""
    can_read = readable()
    return tuple(suffix for each in FORMATS.values() if each.pillow[0] in can_read for suffix in each.suffixes)


def usual_suffixes() -> str:
    """One suffix of each format that can be read here, for a message."""
    known = suffixes()
    return ", ".join(each.suffixes[0] for each in FORMATS.values() if each.suffixes[0] in known)


def what_it_is(data: bytes) -> str:
    """What a file is that is none of `FORMATS`, as the end of a sentence: ``is not a readable picture: ...``."""
    if not data:
        return "it is empty (0 bytes)"
    for signature, what in _SIGNATURES:
        if data.startswith(signature):
            return f"it is {what}, which is not read here; convert it to PNG or TIFF"
    if data[4:8] == b"ftyp" and data[8:11] in (b"hei", b"hev") and "HEIF" not in readable():
        return "it is HEIC, which needs the package pillow-heif; install topcoat[heic]"
    if data[:4] in (b"II*\0", b"MM\0*"):
        return "it is a TIFF that is cut off or has another layout than interleaved RGB or grey of 8 or 16 bits"
    start = data[:512]
    if start.lstrip()[:5] in (b"<?xml", b"<svg ", b"<html", b"<!DOC"):
        return "it is a text file (XML, SVG or HTML)"
    try:
        if start.decode().isprintable() or not any(byte < 9 for byte in start):
            return "it is a text file"
    except UnicodeDecodeError:
        pass
    return "it is damaged or of an unknown type"


_BY_SUFFIX = {suffix: each for each in FORMATS.values() for suffix in each.suffixes}
