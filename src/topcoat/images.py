"""THE image convention, and the only way in and out of it.

An image is a float tensor ``(3, H, W)``, RGB, sRGB-encoded, [0, 1]; images are ``(N, 3, H, W)``. 8-bit values exist in
files only.
"""

from __future__ import annotations

import io
import json
import math
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps, PngImagePlugin, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional

from topcoat.errors import DataError, UsageError
from topcoat.files import atomic_path

MAX_MEGAPIXELS = 100
"""Largest image that is read: more is a mistake or an attack, and as floats it would need over 1 GB."""

FORMATS: Mapping[str, str] = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""File suffixes that are read and written, with Pillow's names for them."""

_GAP_PX = 6  # of a contact sheet
_INK = (32, 32, 32)
_PAPER = (255, 255, 255)
_TOLERANCE = 1e-3  # rounding of half-precision models; anything further out is another convention
_PNG_START = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4s", 13, b"IHDR")
_PLAIN = b"\x08\x02\x00\x00\x00"  # a PNG header's end: 8 bits of red, green and blue, not interlaced
_UNREADABLE = (OSError, SyntaxError, ValueError, struct.error, EOFError, UnidentifiedImageError)


def check_images(images: Tensor, name: str = "images") -> Tensor:
    """Return ``images`` unchanged if they are float ``(N, 3, H, W)`` in [0, 1], all finite, with N, H, W at least 1.

    Raises `UsageError` saying what ``name`` is instead.
    """
    if not isinstance(images, Tensor):
        raise UsageError(f"{name} must be a torch tensor (N, 3, H, W), not {type(images).__name__}")
    shape = tuple(images.shape)
    if len(shape) == 3:
        raise UsageError(f"{name} has shape {shape}, which is one image; add the batch axis with {name}[None]")
    if len(shape) != 4:
        raise UsageError(f"{name} has shape {shape}; give (N, 3, H, W)")
    if shape[1] != 3:
        hint = "; it looks channels-last, use .permute(0, 3, 1, 2)" if shape[3] == 3 else ""
        raise UsageError(f"{name} has {shape[1]} channels in shape {shape}; give RGB (N, 3, H, W){hint}")
    if 0 in shape:
        raise UsageError(f"{name} has shape {shape}, which holds no pixels; give at least one image")
    if not images.is_floating_point():
        raise UsageError(f"{name} has dtype {images.dtype}; give floats in [0, 1], for 8-bit values divide by 255")
    low, high = (float(value) for value in images.detach().aminmax())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UsageError(f"{name} holds NaN or infinite values; give finite values in [0, 1]")
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        hint = (
            "divide by 255" if high > 2 else "for [-1, 1] use (x + 1) / 2, else clamp" if low < -0.5 else "clamp them"
        )
        raise UsageError(f"{name} range from {low:.4g} to {high:.4g}; give values in [0, 1]: {hint}")
    return images


def from_pil(picture: Image.Image) -> Tensor:
    """``(3, H, W)`` from any Pillow picture; transparency is laid on white, 16-bit greys are scaled."""
    if picture.mode.startswith("I") or picture.mode == "F":
        grey = np.asarray(picture, dtype=np.float32)
        full = 1.0 if picture.mode == "F" else 65535.0
        return torch.from_numpy((grey / full).clip(0, 1))[None].repeat(3, 1, 1)
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    pixels = np.array(picture.convert("RGB"), dtype=np.uint8)
    return torch.from_numpy(pixels).permute(2, 0, 1).float().div(255).contiguous()


def _pixels(picture: Image.Image) -> np.ndarray:
    """uint8 ``(H, W, 3)``, the values that `to_pil` gives of `from_pil`."""
    return np.asarray(picture if picture.mode == "RGB" else to_pil(from_pil(picture)))


def to_pil(image: Tensor) -> Image.Image:
    """An 8-bit RGB Pillow picture from ``(3, H, W)``; raises `UsageError` for anything else."""
    if image.ndim == 4:
        raise UsageError(f"image has shape {tuple(image.shape)}, which is a batch; write one image (3, H, W) at a time")
    check_images(image[None], "image")
    pixels = image.detach().float().clamp(0, 1).mul(255).round().to(device="cpu", dtype=torch.uint8)
    return Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))


def read_image(path: str | Path) -> Tensor:
    """``(3, H, W)`` from a picture file, turned upright by its EXIF orientation.

    Raises `DataError` if the file is missing, not a picture, damaged or larger than `MAX_MEGAPIXELS`.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the path") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the path") from error
    return decode_image(data, name=str(path))


def decode_image(data: bytes, name: str = "image") -> Tensor:
    """``(3, H, W)`` from the bytes of a picture file; raises `DataError` like `read_image`, naming ``name``."""
    return _decoded(data, name, lambda picture: from_pil(ImageOps.exif_transpose(picture)))


def decode_pixels(data: bytes, name: str = "image", rows: int | None = None) -> np.ndarray:
    """uint8 ``(H, W, 3)`` of the same picture, without the way over floats; computes nothing with torch but for rare
    kinds of file. With ``rows`` at least so many rows from the top: a plain PNG is decoded no further.

    Raises `DataError` as `decode_image`; damage below ``rows`` may pass unseen.
    """
    return _decoded(_top_of_png(data, rows), name, lambda picture: _pixels(ImageOps.exif_transpose(picture)))


def image_size(data: bytes, name: str = "image") -> tuple[int, int]:
    """``(H, W)`` of the same picture; not decoded if it is a plain PNG, a JPEG or a WebP. Raises as `decode_image`."""
    size = _plain_png_size(data)
    if size is not None:
        return size
    upright = _decoded(data, name, lambda picture: ImageOps.exif_transpose(picture).size)
    return upright[1], upright[0]


_Decoded = TypeVar("_Decoded")
_OPENING = threading.Lock()  # the filters of warnings belong to the process, and a picture is opened in a moment


def _decoded(data: bytes, name: str, convert: Callable[[Image.Image], _Decoded]) -> _Decoded:
    try:
        with _OPENING, warnings.catch_warnings():
            # Pillow warns of large pictures before the size can be asked; the limit below says the same as an error.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data))
        if picture.width * picture.height > MAX_MEGAPIXELS * 1_000_000:
            raise Image.DecompressionBombError
        return convert(picture)
    except Image.DecompressionBombError:
        raise DataError(f"{name} has more than {MAX_MEGAPIXELS} megapixels; make it smaller") from None
    except _UNREADABLE as error:
        raise DataError(f"{name} is not a readable picture: it is damaged or of an unknown type") from error


def _plain_png_size(data: bytes) -> tuple[int, int] | None:
    """``(H, W)`` of a whole 8-bit RGB PNG that holds nothing but pixels and is not interlaced."""
    if not data.startswith(_PNG_START) or data[24:29] != _PLAIN:
        return None
    place = 33
    while data[place + 4 : place + 8] == b"IDAT":
        place += 12 + int.from_bytes(data[place : place + 4], "big")
    if data[place + 4 : place + 8] != b"IEND":
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return (height, width) if 0 < width * height <= MAX_MEGAPIXELS * 1_000_000 else None


def _top_of_png(data: bytes, rows: int | None) -> bytes:
    """A plain PNG with a header that says ``rows`` rows: rows are stored from the top, so it is one of these alone."""
    size = None if rows is None else _plain_png_size(data)
    if rows is None or size is None or rows >= size[0]:
        return data
    header = data[12:20] + struct.pack(">I", rows) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def write_image(path: str | Path, image: Tensor, text: Mapping[str, str] | None = None) -> None:
    """Write ``(3, H, W)`` as PNG, JPEG or WebP by the suffix of ``path``, atomically; PNG and WebP are lossless.

    ``text`` is kept in the file: as PNG text chunks, or as one JSON object in the EXIF image description.
    Raises `UsageError` for another suffix or a bad image, `DataError` if the file cannot be written.
    """
    path = Path(path)
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise UsageError(f"{path} has no picture type that is written here; use one of: {', '.join(FORMATS)}")
    data = _encode(image, kind, text)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def encode_png(image: Tensor | Image.Image, text: Mapping[str, str] | None = None) -> bytes:
    """The PNG file bytes of ``(3, H, W)``, or of a picture that `to_pil` made of it; equal images give equal bytes."""
    return _encode(image, "PNG", text)


def encode_webp(image: Tensor | Image.Image) -> bytes:
    """The bytes of a lossless WebP file, by the least effort: far faster to write and to read than PNG, and smaller."""
    buffer = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else to_pil(image)
    picture.save(buffer, "WEBP", lossless=True, quality=0, method=0)
    return buffer.getvalue()


def pad_to_multiple(images: Tensor, multiple: int) -> tuple[Tensor, tuple[int, int]]:
    """Pad ``(N, C, H, W)`` at the right and bottom to multiples of ``multiple``; returns the old ``(H, W)`` too.

    The border mirrors the image; that of a side shorter than its pad is repeated.
    """
    if multiple < 1:
        raise UsageError(f"cannot pad to a multiple of {multiple}; use 1 or more")
    height, width = images.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    if right:
        images = functional.pad(images, (0, right, 0, 0), mode="reflect" if right < width else "replicate")
    if bottom:
        images = functional.pad(images, (0, 0, 0, bottom), mode="reflect" if bottom < height else "replicate")
    return images, (height, width)


def crop_to(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Undo `pad_to_multiple`: the top left ``(H, W)`` of ``(N, C, H, W)``."""
    return images[..., : size[0], : size[1]]


def side_by_side(images: Sequence[Tensor], gap_px: int = 4) -> Tensor:
    """Images ``(3, H, W)`` of one height in a row, with white between them."""
    gap = torch.ones(3, images[0].shape[1], gap_px)
    return torch.cat([part for image in images for part in (image.cpu(), gap)][:-1], dim=2)


def gaussian_blur(images: Tensor, sigma_px: float) -> Tensor:
    """``(N, C, H, W)`` (also differences of images) blurred by a separable Gaussian cut at 3 sigma; borders repeat.

    Raises `UsageError` for a sigma that is not above 0.
    """
    if not sigma_px > 0 or not math.isfinite(sigma_px):
        raise UsageError(f"a blur of sigma {sigma_px} px is not possible; use a number above 0")
    radius = max(1, math.ceil(3 * sigma_px))
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    weights = torch.exp(-0.5 * (offsets / sigma_px).square())
    weights = weights / weights.sum()
    channels = images.shape[1]  # one convolution per channel, and channels last: the fastest there is on a CPU
    across = weights.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    padded = functional.pad(images, (radius, radius, radius, radius), mode="replicate")
    blurred = functional.conv2d(padded.contiguous(memory_format=torch.channels_last), across, groups=channels)
    return functional.conv2d(blurred, across.mT, groups=channels).contiguous()


def contact_sheet(rows: Sequence[tuple[str, Tensor]], scale: float = 1) -> Image.Image:
    """One picture from labelled rows of images ``(N, 3, H, W)``; N may differ, ``scale`` resizes every image.

    Images are enlarged without smoothing, so that what is seen is what was made. Raises `UsageError` for no rows, a
    bad image or a scale that is not above 0.
    """
    if not rows:
        raise UsageError("a contact sheet needs at least one row of images; give (label, images)")
    if not 0 < scale <= 16:
        raise UsageError(f"a contact sheet cannot be scaled by {scale}; use more than 0 and at most 16")
    pictures = [
        [_scaled(to_pil(image), scale) for image in check_images(images, f"row {label!r}")] for label, images in rows
    ]
    cell_width = max(picture.width for row in pictures for picture in row)
    cell_heights = [max(picture.height for picture in row) for row in pictures]
    font = ImageFont.load_default(max(11, min(28, cell_width // 8)))
    label_width = max(int(font.getbbox(label)[2]) for label, _ in rows) + 2 * _GAP_PX
    columns = max(len(row) for row in pictures)
    width = label_width + columns * (cell_width + _GAP_PX) + _GAP_PX
    height = sum(cell_heights) + (len(rows) + 1) * _GAP_PX
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    top = _GAP_PX
    for (label, _), row, cell_height in zip(rows, pictures, cell_heights, strict=True):
        draw.text((_GAP_PX, top + cell_height / 2), label, fill=_INK, font=font, anchor="lm")
        for column, picture in enumerate(row):
            sheet.paste(picture, (label_width + column * (cell_width + _GAP_PX), top))
        top += cell_height + _GAP_PX
    return sheet


def list_images(folder: str | Path) -> list[Path]:
    """The picture files directly in ``folder``, sorted by name; raises `DataError` if there are none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; give a folder of pictures")
    paths = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in FORMATS and not path.name.startswith(".") and path.is_file()
    )
    if not paths:
        raise DataError(f"{folder} holds no pictures; these are read: {', '.join(FORMATS)}")
    return paths


_IMAGE_DESCRIPTION = 0x010E


def _encode(image: Tensor | Image.Image, kind: str, text: Mapping[str, str] | None) -> bytes:
    picture = image if isinstance(image, Image.Image) else to_pil(image)
    chunks, exif = PngImagePlugin.PngInfo(), Image.Exif()
    if text and kind == "PNG":
        for key, value in text.items():
            chunks.add_itxt(key, value)
    elif text:
        exif[_IMAGE_DESCRIPTION] = json.dumps(dict(text))
    options: dict[str, dict[str, Any]] = {
        "PNG": {"pnginfo": chunks, "compress_level": 6},
        "JPEG": {"quality": 95, "subsampling": 0, "exif": exif},
        "WEBP": {"lossless": True, "exif": exif},
    }
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options[kind])
    return buffer.getvalue()


def _scaled(picture: Image.Image, scale: float) -> Image.Image:
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
