"""Reading picture files: every sample, upright, with what the file carries; anything else is one sentence."""

from __future__ import annotations

import ctypes
import functools
import io
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from topcoat.errors import DataError
from topcoat.pictures import colour, png
from topcoat.pictures.formats import format_of, format_of_pillow, readable, what_it_is
from topcoat.pictures.metadata import metadata_of
from topcoat.pictures.picture import Picture

MAX_MEGAPIXELS = 100
"""Largest picture that is read: more is a mistake or an attack."""
_DAMAGED = (
    OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, ArithmeticError,
    EOFError, AssertionError, RuntimeError, NotImplementedError, struct.error, zlib.error,
)  # fmt: skip
"""What Pillow's readers raise on damaged files of one format or another."""
_OPENING = threading.Lock()
"""The filters of warnings belong to the process, and a picture is opened in a moment."""
_OTHER_HALF = {"L": "B", "B": "L", "N": "B"}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


def read_bytes(path: str | Path) -> bytes:
    """A file's bytes; raises `DataError` if it is missing or cannot be read."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the path") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the path") from error


def read_picture(path: str | Path) -> Picture:
    """The picture in a file; raises `DataError` as `decode_picture` does, or if the file cannot be read."""
    return decode_picture(read_bytes(path), str(path))


def decode_picture(data: bytes, name: str = "the picture") -> Picture:
    """The picture in a file's bytes; the format follows from the content.

    Raises `DataError`, naming ``name``, for what is no picture, is damaged, has several frames or pages, more than
    `MAX_MEGAPIXELS`, samples that no format here can give back, or values outside [0, 1] in a file of floats.
    """
    with open_picture(data, name) as picture:
        frames = int(getattr(picture, "n_frames", 1))
        notes: list[str] = []
        if picture.format == "MPO":
            notes.append(f"only the first of its {frames} pictures is there; the others are previews or maps")
        elif frames > 1:
            what = "pages" if picture.format == "TIFF" else "frames"
            raise DataError(f"{name} has {frames} {what}, and only one can be enhanced; save each as a file")
        kind = format_of_pillow(picture.format)
        assert kind is not None, "only these formats are opened"
        metadata = metadata_of(picture, data)
        if metadata.has_manifest:
            notes.append("its C2PA manifest is not there, because it signs the old pixels; --c2pa-cert signs anew")
        samples, alpha = _samples(picture, data, name)
        if picture.mode in ("CMYK", "LAB"):
            metadata = replace(metadata, icc=colour.srgb_profile())
        elif metadata.icc is not None and colour.kind_of(metadata.icc) is None:
            notes.append("its colour profile is damaged or one-way, so its colours were taken for sRGB")
        bits = _bits_of_boxes(data) if kind.name in ("avif", "heic") else 8
        if bits > 8:
            notes.append(f"it has 8 bits instead of {bits}, because no more are read from {kind.title}")
        return Picture(samples, alpha, kind, metadata, tuple(notes))


def upright_size(data: bytes, name: str) -> tuple[int, int]:
    """Width and height of the picture in a file's bytes; its pixels are decoded only where its format needs it.

    Raises `DataError` as `decode_picture` does.
    """
    with open_picture(data, name) as picture:
        turned = picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        return (picture.height, picture.width) if turned else (picture.width, picture.height)


def named_otherwise(path: Path, picture: Picture) -> str | None:
    """What is wrong with a file's suffix, as a note; None where it fits."""
    says = format_of(path)
    return (
        None if says is None or says is picture.format else f"the file is {picture.format.title} in spite of its name"
    )


@contextmanager
def open_picture(data: bytes, name: str) -> Iterator[Image.Image]:
    """Pillow's picture, its pixels not yet decoded; what goes wrong in the body is a `DataError` too."""
    try:
        with _OPENING, warnings.catch_warnings():
            # Pillow warns of large pictures, for which the limit below is an error, and of odd tags
            warnings.simplefilter("ignore")
            _silence_libtiff()
            opened = Image.open(io.BytesIO(data), formats=readable())
        with opened as picture:
            if picture.width * picture.height > MAX_MEGAPIXELS * 1_000_000:
                raise Image.DecompressionBombError
            yield picture
    except Image.DecompressionBombError:
        raise DataError(f"{name} has more than {MAX_MEGAPIXELS} megapixels; make it smaller") from None
    except UnidentifiedImageError:
        raise DataError(f"{name} is not a readable picture: {what_it_is(data)}") from None
    except _DAMAGED as error:
        cut = "truncated" in str(error) or "cut" in str(error) or isinstance(error, EOFError)
        reason = "the file is cut off" if cut else "it is damaged or of an unknown type"
        raise DataError(f"{name} is not a readable picture: {reason}") from error


@functools.cache
def _silence_libtiff() -> None:
    """Let libtiff keep its messages to itself: it writes them to stderr, with names that mean nothing to a user.

    Pillow gives no way to say so. The library is found by what the process has loaded, where the system tells (Linux).
    """
    try:
        loaded = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libtiff" in line}
        for path in loaded:
            library = ctypes.CDLL(path)
            library.TIFFSetErrorHandler(None)
            library.TIFFSetWarningHandler(None)
    except (OSError, AttributeError):
        pass


def _samples(picture: Image.Image, data: bytes, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Upright samples ``(H, W, C)`` and alpha."""
    turn = _TURNS.get(picture.getexif().get(0x0112, 1))
    deep = _deep_samples(picture, data, name)
    if deep is None:
        return _shallow_samples(ImageOps.exif_transpose(picture))
    return _split(_turned(deep, turn))


def _shallow_samples(picture: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Samples of 8 bits."""
    if picture.mode in ("CMYK", "LAB"):
        picture = colour.picture_to_srgb(picture, picture.info.get("icc_profile"))
    has_alpha = picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info
    is_grey = picture.mode in ("1", "L", "LA", "La")
    mode = ("LA" if is_grey else "RGBA") if has_alpha else ("L" if is_grey else "RGB")
    if picture.mode != mode:
        picture = (
            picture.convert("RGBA").convert(mode) if picture.mode in ("La", "RGBa", "PA") else picture.convert(mode)
        )
    samples = np.array(picture)
    return _split(samples[..., None] if samples.ndim == 2 else samples)


def _deep_samples(picture: Image.Image, data: bytes, name: str) -> np.ndarray | None:
    """``(H, W, C)``, 1 to 4 channels, of uint16 or float32; None for a picture of 8 bits or less."""
    zero_is_white = isinstance(picture, TiffImagePlugin.TiffImageFile) and picture.tag_v2.get(262) == 0
    if picture.mode.startswith("I;16"):
        key = picture.info.get("transparency")
        grey = np.asarray(picture).astype(np.uint16)
        grey = 65535 - grey if zero_is_white else grey  # which Pillow knows for 8 bits alone
        return grey[..., None] if key is None else _keyed(grey[..., None], (key,))
    if picture.mode == "F":
        floats = _checked_floats(np.asarray(picture, dtype=np.float32)[..., None], name)
        return 1 - floats if zero_is_white else floats
    if picture.mode == "I":
        raise DataError(f"{name} has samples of 32-bit integers; save it with 8 or 16 bits")
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        bits = max(picture.tag_v2.get(258, (1,)))
        if bits <= 8:
            return None
        if picture.tag_v2.get(284, 1) != 1 or bits != 16 or picture.mode not in ("RGB", "RGBA"):
            raise DataError(f"{name} keeps {bits}-bit samples in a way that is not read; save it as interleaved RGB")
        return _both_halves(picture, data)
    if picture.format != "PNG" or data[24] != 16:
        return None
    if data[25] == 4:
        with Image.open(io.BytesIO(png.grey_alpha_as_rgba(data))) as relabelled:
            return np.ascontiguousarray(np.asarray(relabelled)).view(">u2").astype(np.uint16)
    key = picture.info.get("transparency")
    samples = _both_halves(picture, data)
    return samples if key is None else _keyed(samples, key)


def _both_halves(picture: Any, data: bytes) -> np.ndarray:
    """uint16 samples of a file that Pillow reads as the upper halves of them.

    The lower ones come by reading once more, with the byte order the other way round.
    """
    channels = len(picture.getbands())
    premultiplied = any("RGBa" in str(tile.args) for tile in picture.tile)
    halves: list[np.ndarray] = []
    for swap in (False, True):
        with Image.open(io.BytesIO(data), formats=readable()) as again:
            again.tile = [tile._replace(args=_raw_mode(tile.args, swap)) for tile in again.tile]
            halves.append(np.asarray(again).astype(np.uint16))
    samples = (halves[0] << 8) | halves[1]
    if not premultiplied or channels != 4:
        return samples
    alpha = samples[..., 3:].astype(np.float64)
    colours = np.divide(samples[..., :3] * 65535.0, alpha, out=np.zeros(samples[..., :3].shape), where=alpha > 0)
    return np.dstack([np.rint(colours.clip(0, 65535)).astype(np.uint16), samples[..., 3]])


def _raw_mode(args: Any, swap: bool) -> Any:
    mode, rest = (args, None) if isinstance(args, str) else (args[0], args[1:])
    mode = mode.replace("RGBa", "RGBA")
    mode = mode[:-1] + _OTHER_HALF[mode[-1]] if swap else mode
    return mode if rest is None else (mode, *rest)


def _keyed(samples: np.ndarray, key: tuple[int, ...]) -> np.ndarray:
    """Samples with an alpha channel that is 0 where the colour is ``key``."""
    clear = (samples == np.array(key)).all(axis=2)
    return np.dstack([samples, np.where(clear, 0, 65535).astype(np.uint16)])


def _checked_floats(samples: np.ndarray, name: str) -> np.ndarray:
    if not np.isfinite(samples).all():
        raise DataError(f"{name} holds NaN or infinite values; give finite ones from 0 to 1")
    low, high = float(samples.min()), float(samples.max())
    if low < 0 or high > 1:
        raise DataError(f"{name} holds values from {low:.4g} to {high:.4g}; scale them to 0 to 1, or save 16 bits")
    return samples


def _turned(samples: np.ndarray, turn: Image.Transpose | None) -> np.ndarray:
    way = Image.Transpose
    if turn in (way.TRANSPOSE, way.TRANSVERSE, way.ROTATE_90, way.ROTATE_270):
        samples = samples.transpose(1, 0, 2)
    if turn in (way.FLIP_LEFT_RIGHT, way.ROTATE_180, way.ROTATE_270, way.TRANSVERSE):
        samples = samples[:, ::-1]
    if turn in (way.FLIP_TOP_BOTTOM, way.ROTATE_180, way.ROTATE_90, way.TRANSVERSE):
        samples = samples[::-1]
    return samples


def _split(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    if samples.shape[2] in (1, 3):
        return np.ascontiguousarray(samples), None
    return np.ascontiguousarray(samples[..., :-1]), np.ascontiguousarray(samples[..., -1])


def _bits_of_boxes(data: bytes) -> int:
    """Bits of a sample in AVIF (``av1C``) or HEIC (``pixi``); 8 where it is not said."""
    at = data.find(b"av1C")
    if at >= 0 and at + 7 <= len(data):
        flags = data[at + 6]
        return (12 if flags & 0x20 else 10) if flags & 0x40 else 8
    at = data.find(b"pixi")
    return data[at + 9] if 0 <= at < len(data) - 10 and data[at + 8] else 8
