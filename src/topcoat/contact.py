"""Contact sheets: rows of images with a label at the left, drawn with Pillow alone."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.images import check_images, to_pil

_GAP_PX = 6
_INK = (32, 32, 32)
_PAPER = (255, 255, 255)


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


def _scaled(picture: Image.Image, scale: float) -> Image.Image:
    if scale == 1:
        return picture
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
