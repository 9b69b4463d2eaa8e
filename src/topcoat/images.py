"""THE image convention, and the only way in and out of it.

An image is a float tensor ``(3, H, W)``, RGB, sRGB-encoded, [0, 1]; images are ``(N, 3, H, W)``. 8-bit values exist in
files only.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from topcoat.errors import UsageError
from topcoat.files import atomic_path
from topcoat.pictures import Picture, decode_picture, encode_picture, seen_by_head
from topcoat.pictures import exif as exif_blocks
from topcoat.pictures import png as png_files
from topcoat.pictures.formats import Format, written_format
from topcoat.pictures.metadata import Metadata
from topcoat.pictures.provenance import Record, marked
from topcoat.pictures.reading import MAX_MEGAPIXELS, read_bytes, upright_size
from topcoat.pictures.signing import Signer

SHEET_GAP_PX = 6
"""Between the images of a contact sheet."""
_INK = (32, 32, 32)
_PAPER = (255, 255, 255)
_TOLERANCE = 1e-3  # rounding of half-precision models; anything further out is another convention


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
    """``(3, H, W)`` from a picture file of any format in `topcoat.pictures`, upright and in sRGB, laid on white.

    Raises `DataError` if the file is missing, or as `decode_picture` does.
    """
    return decode_image(read_bytes(path), name=str(path))


def decode_image(data: bytes, name: str = "image") -> Tensor:
    """``(3, H, W)`` from the bytes of a picture file; raises `DataError` like `read_image`, naming ``name``."""
    seen = torch.from_numpy(_on_white(decode_picture(data, name))).permute(2, 0, 1)
    return (seen.float().div(255) if seen.dtype == torch.uint8 else seen).contiguous()


def decode_pixels(data: bytes, name: str = "image", rows: int | None = None) -> np.ndarray:
    """uint8 ``(H, W, 3)`` of the same picture, without the way over floats for one of 8 bits; nothing is computed with
    torch. With ``rows`` at least so many rows from the top: a plain PNG is decoded no further.

    Raises `DataError` as `decode_image`; damage below ``rows`` may pass unseen.
    """
    seen = _on_white(decode_picture(data if rows is None else png_files.top_rows(data, rows), name))
    return seen if seen.dtype == np.uint8 else np.rint(seen.clip(0, 1) * np.float32(255)).astype(np.uint8)


def image_size(data: bytes, name: str = "image") -> tuple[int, int]:
    """``(H, W)`` of the same picture; not decoded if it is a plain PNG, a JPEG or a WebP. Raises as `decode_image`."""
    size = png_files.plain_size(data)
    if size is not None and size[0] * size[1] <= MAX_MEGAPIXELS * 1_000_000:
        return size
    width, height = upright_size(data, name)
    return height, width


def _on_white(picture: Picture) -> np.ndarray:
    """``(H, W, 3)``, uint8 or float32 in [0, 1], in sRGB; transparency is laid on white."""
    seen = seen_by_head(picture)
    if picture.alpha is None:
        return seen
    share = picture.alpha[..., None].astype(np.float32) / (255 if picture.bits == 8 else 65535)
    floats = seen.astype(np.float32) / 255 if seen.dtype == np.uint8 else seen
    return floats * share + (1 - share)


def write_image(
    path: str | Path,
    image: Tensor,
    text: Mapping[str, str] | None = None,
    record: Record | None = None,
    signer: Signer | None = None,
) -> None:
    """Write ``(3, H, W)`` in the format that the suffix of ``path`` says, atomically; only JPEG and AVIF lose anything.

    ``text`` is kept in the file: as PNG text chunks, or as one JSON object in the EXIF image description. ``record``
    marks it as made or changed by a model (`topcoat.pictures.provenance`); ``signer`` signs that.
    Raises `UsageError` for another suffix or a bad image, `DataError` if the file cannot be written.
    """
    path = Path(path)
    kind = written_format(path)
    metadata = _metadata(text or {}, kind)
    if record is not None:
        metadata = marked(metadata, record) or metadata
    data, _ = encode_picture(Picture(np.asarray(to_pil(image)), None, kind, metadata), kind)
    if signer is not None and record is not None:
        data = signer.sign(data, kind, record)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def encode_png(image: Tensor | Image.Image, text: Mapping[str, str] | None = None) -> bytes:
    """The PNG file bytes of ``(3, H, W)``, or of a picture that `to_pil` made of it; equal images give equal bytes."""
    picture = image if isinstance(image, Image.Image) else to_pil(image)
    chunks = [png_files.text_chunk(*each) for each in (text or {}).items()]
    return png_files.encode(np.asarray(picture), chunks, png_files.SMALL)  # bytes of datasets must not change


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
    label_width = max(int(font.getbbox(label)[2]) for label, _ in rows) + 2 * SHEET_GAP_PX
    columns = max(len(row) for row in pictures)
    width = label_width + columns * (cell_width + SHEET_GAP_PX) + SHEET_GAP_PX
    height = sum(cell_heights) + (len(rows) + 1) * SHEET_GAP_PX
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    top = SHEET_GAP_PX
    for (label, _), row, cell_height in zip(rows, pictures, cell_heights, strict=True):
        draw.text((SHEET_GAP_PX, top + cell_height / 2), label, fill=_INK, font=font, anchor="lm")
        for column, picture in enumerate(row):
            sheet.paste(picture, (label_width + column * (cell_width + SHEET_GAP_PX), top))
        top += cell_height + SHEET_GAP_PX
    return sheet


def _metadata(text: Mapping[str, str], kind: Format) -> Metadata:
    if kind.name == "png" or not text:
        return Metadata(texts=text)
    return Metadata(exif=exif_blocks.with_tags(None, {exif_blocks.IMAGE_DESCRIPTION: json.dumps(dict(text))}))


def _scaled(picture: Image.Image, scale: float) -> Image.Image:
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
