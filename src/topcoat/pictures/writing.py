"""Writing pictures as files that carry what their source carried, as far as the format has a place for it."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from topcoat.errors import DataError
from topcoat.files import atomic_path
from topcoat.pictures import exif, iptc, metadata, png, tiff
from topcoat.pictures.formats import Format, written_format
from topcoat.pictures.picture import Picture

QUALITY = 95
"""Of JPEG, AVIF and HEIC where none is given; WebP is lossless then."""
_SEGMENT_BYTES = 65_533
_XMP_BYTES = _SEGMENT_BYTES - len(b"http://ns.adobe.com/xap/1.0/\0")


def encode_picture(picture: Picture, kind: Format, quality: int | None = None) -> tuple[bytes, tuple[str, ...]]:
    """The bytes of a file, and what it could not hold: each the end of the sentence "in the result ...".

    PNG, TIFF and BMP are lossless, WebP is too unless ``quality`` (1 to 100) is given. Raises `DataError` for a picture
    that is larger than the format allows, or if the format's writer fails.
    """
    size = f"{picture.size[0]} x {picture.size[1]}"
    if max(picture.size) > kind.max_side_px:
        limit = f"{kind.title} ends at {kind.max_side_px} px"
        raise DataError(f"a picture of {size} px is too large, because {limit}; choose another format")
    notes: list[str] = []
    fitted = _fitted(picture, kind, notes)
    try:
        return _ENCODERS[kind.name](fitted, quality, notes), tuple(notes)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise DataError(f"a picture of {size} px cannot be written as {kind.title}; choose another format") from error


def write_picture(path: str | Path, picture: Picture, quality: int | None = None) -> tuple[str, ...]:
    """Write a file of the format that the suffix of ``path`` says, atomically; returns what it could not hold.

    Raises `UsageError` for another suffix, else like `encode_picture` and `atomic_path`.
    """
    path = Path(path)
    kind = written_format(path)
    data, notes = encode_picture(picture, kind, quality)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return notes


def _fitted(picture: Picture, kind: Format, notes: list[str]) -> Picture:
    """The picture in a depth that the format has, without alpha where it has none."""
    samples, alpha = picture.samples, picture.alpha
    if samples.dtype == np.float32 and (kind.name != "tiff" or alpha is not None):
        samples = np.rint(samples.astype(np.float64) * 65535).astype(np.uint16)
        bits = 16 if kind.sixteen_bit else 8
        notes.append(f"its 32-bit floats are integers of {bits} bits, because {kind.title} has no floats")
    elif samples.dtype == np.uint16 and not kind.sixteen_bit:
        notes.append(f"its 16 bits are 8 bits (8-bit), because {kind.title} has no more")
    if samples.dtype == np.uint16 and not kind.sixteen_bit:
        samples, alpha = (None if each is None else _eight_bit(each) for each in (samples, alpha))
        assert samples is not None
    if alpha is not None and not kind.alpha:
        share = alpha[..., None].astype(np.float32) / 255
        samples = np.rint(samples * share + 255 * (1 - share)).astype(np.uint8)
        alpha = None
        notes.append(f"its transparency is laid on white, because {kind.title} has none (alpha)")
    if not kind.metadata and (picture.metadata.icc or picture.metadata.exif):
        notes.append(f"its colour profile and EXIF are not there, because {kind.title} has no place for them")
    return replace(picture, samples=samples, alpha=alpha)


def _eight_bit(samples: np.ndarray) -> np.ndarray:
    return ((samples.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _joined(picture: Picture) -> np.ndarray:
    """``(H, W, C)`` with alpha as the last channel."""
    return picture.samples if picture.alpha is None else np.dstack([picture.samples, picture.alpha])


def _pillow(picture: Picture) -> Image.Image:
    samples = np.ascontiguousarray(_joined(picture))
    return Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)


def _saved(picture: Picture, name: str, options: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    given = {key: value for key, value in options.items() if value is not None}
    _pillow(picture).save(buffer, name, **given)
    return buffer.getvalue()


def _png(picture: Picture, quality: int | None, notes: list[str]) -> bytes:
    return png.encode(_joined(picture), metadata.png_chunks(picture.metadata))


def _tiff(picture: Picture, quality: int | None, notes: list[str]) -> bytes:
    carried = metadata.with_texts_in_xmp(picture.metadata)
    return tiff.encode(_joined(picture), picture.is_grey, carried)


def _jpeg(picture: Picture, quality: int | None, notes: list[str]) -> bytes:
    carried = metadata.with_texts_in_xmp(picture.metadata)
    block, packet = carried.exif, carried.xmp
    if block is not None and len(block) + 6 > _SEGMENT_BYTES:
        block = notes.append(f"its EXIF of {len(block)} bytes is not there, because JPEG holds {_SEGMENT_BYTES}")
    if packet is not None and len(packet) > _XMP_BYTES:
        packet = notes.append(f"its XMP of {len(packet)} bytes is not there, because JPEG holds {_XMP_BYTES}")
    segments = [(0xED, each) for each in iptc.app13(carried.photoshop or b"")]
    segments += [(0xE1, each) for each in carried.xmp_extensions]
    extra = b"".join(bytes((0xFF, mark)) + (len(each) + 2).to_bytes(2, "big") + each for mark, each in segments)
    options = {
        "quality": quality or QUALITY, "subsampling": 0, "exif": block and exif.framed(block), "xmp": packet,
        "icc_profile": carried.icc, "dpi": _whole(carried.dpi), "comment": carried.comment, "extra": extra or None,
    }  # fmt: skip
    return _saved(picture, "JPEG", options)


def _whole(dpi: tuple[float, float] | None) -> tuple[int, int] | None:
    return None if dpi is None else (round(dpi[0]), round(dpi[1]))


def _boxed(name: str, **options: Any) -> Callable[[Picture, int | None, list[str]], bytes]:
    """An encoder for formats that hold EXIF, XMP and a profile, and nothing else."""

    def encode(picture: Picture, quality: int | None, notes: list[str]) -> bytes:
        carried = metadata.with_texts_in_xmp(picture.metadata)
        carried = metadata.with_records_in_exif(metadata.with_density_in_exif(carried))
        given = {**options, "exif": carried.exif and exif.framed(carried.exif), "icc_profile": carried.icc}
        lossless = name == "WEBP" and quality is None
        given |= {"lossless": True, "exact": True} if lossless else {"quality": quality or QUALITY}
        return _saved(picture, name, {**given, "xmp": carried.xmp})

    return encode


def _bmp(picture: Picture, quality: int | None, notes: list[str]) -> bytes:
    """The XMP packet goes between header and pixels, where the format leaves room and no reader looks."""
    data = _saved(picture, "BMP", {"dpi": picture.metadata.dpi})
    packet = metadata.with_texts_in_xmp(picture.metadata).xmp or b""
    packet += b" " * (-len(packet) % 4)
    size, _, start = struct.unpack_from("<III", data, 2)
    header = struct.pack("<III", size + len(packet), 0, start + len(packet))
    return data[:2] + header + data[14:start] + packet + data[start:]


_ENCODERS: Mapping[str, Callable[[Picture, int | None, list[str]], bytes]] = {
    "png": _png,
    "jpeg": _jpeg,
    "webp": _boxed("WEBP"),
    "avif": _boxed("AVIF", subsampling="4:4:4", speed=8),
    "tiff": _tiff,
    "bmp": _bmp,
    "heic": _boxed("HEIF"),
}
