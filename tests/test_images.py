from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

from topcoat.errors import DataError, UsageError
from topcoat.images import (
    check_images,
    contact_sheet,
    crop_to,
    decode_image,
    decode_pixels,
    encode_png,
    encode_webp,
    from_pil,
    image_size,
    pad_to_multiple,
    read_image,
    to_pil,
    write_image,
)
from topcoat.pictures import reading


def kept_text(path: Path) -> dict[str, str]:
    """What a picture file says of itself: PNG text chunks, or JSON in the EXIF image description."""
    with Image.open(path) as picture:
        if isinstance(picture, PngImagePlugin.PngImageFile):
            return {key: str(value) for key, value in picture.text.items()}
        return json.loads(picture.getexif().get(0x010E, "{}"))


def eight_bit(*shape: int) -> Tensor:
    """Random values that a file can hold exactly."""
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).float() / 255


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (torch.zeros(3, 4, 4), r"add the batch axis with x\[None\]"),
        (torch.zeros(4, 4), r"give \(N, 3, H, W\)"),
        (torch.zeros(1, 4, 4, 4), "4 channels"),
        (torch.zeros(1, 4, 4, 3), "channels-last"),
        (torch.zeros(0, 3, 4, 4), "no pixels"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "divide by 255"),
        (torch.full((1, 3, 4, 4), 255.0), "divide by 255"),
        (torch.full((1, 3, 4, 4), -1.0), r"for \[-1, 1\]"),
        (torch.full((1, 3, 4, 4), 1.01), "clamp them"),
        (torch.full((1, 3, 4, 4), float("nan")), "NaN"),
        (torch.full((1, 3, 4, 4), float("inf")), "infinite"),
        (np.zeros((1, 3, 4, 4)), "not ndarray"),
    ],
)
def test_what_is_no_image_is_refused(bad: Tensor, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        check_images(bad, "x")
    assert str(caught.value).startswith("x ")


def test_good_images_pass_through() -> None:
    good = torch.rand(2, 3, 5, 7)
    assert check_images(good) is good
    check_images(good.to(torch.bfloat16))


@pytest.mark.parametrize("name", ["a.png", "a.webp", "b/c.PNG"])
def test_lossless_files_return_every_value(tmp_path: Path, name: str) -> None:
    image = eight_bit(3, 9, 13)
    write_image(tmp_path / name, image, {"prompt": "a face, ü", "seed": "7"})
    assert torch.equal(read_image(tmp_path / name), image)
    assert kept_text(tmp_path / name) == {"prompt": "a face, ü", "seed": "7"}


def test_jpeg_is_close_and_keeps_text(tmp_path: Path) -> None:
    image = torch.linspace(0, 1, 64).repeat(3, 64, 1)
    write_image(tmp_path / "a.jpg", image, {"seed": "7"})
    assert (read_image(tmp_path / "a.jpg") - image).abs().max() < 0.02
    assert kept_text(tmp_path / "a.jpg") == {"seed": "7"}
    write_image(tmp_path / "b.jpg", image)
    assert kept_text(tmp_path / "b.jpg") == {}


def test_png_bytes_are_stable_and_rounded() -> None:
    image = eight_bit(3, 8, 8)
    assert encode_png(image) == encode_png(image.clone())
    assert torch.equal(decode_image(encode_png((image + 0.4 / 255).clamp(0, 1))), image)


def test_writing_refuses_what_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"use one of: \.png"):
        write_image(tmp_path / "a.gif", eight_bit(3, 4, 4))
    with pytest.raises(UsageError, match="which is a batch"):
        write_image(tmp_path / "a.png", eight_bit(1, 3, 4, 4))
    with pytest.raises(UsageError, match="range from"):
        write_image(tmp_path / "a.png", eight_bit(3, 4, 4) * 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = to_pil(eight_bit(3, 4, 6))
    picture.save(tmp_path / "a.png", exif=exif)
    size = tuple(read_image(tmp_path / "a.png").shape[1:])
    assert size == ((4, 6) if orientation < 5 else (6, 4))
    if orientation == 3:
        assert torch.equal(read_image(tmp_path / "a.png"), from_pil(picture).flip(1, 2))


@pytest.mark.parametrize(
    ("picture", "value"),
    [
        (Image.new("RGBA", (2, 2), (0, 0, 0, 0)), 1.0),
        (Image.new("LA", (2, 2), (0, 0)), 1.0),
        (Image.new("L", (2, 2), 51), 0.2),
        (Image.new("1", (2, 2), 1), 1.0),
        (Image.new("CMYK", (2, 2), (0, 0, 0, 0)), 1.0),
        (Image.fromarray(np.full((2, 2), 65535 // 5, dtype=np.uint16)), 0.2),
    ],
)
def test_every_mode_becomes_rgb(picture: Image.Image, value: float) -> None:
    image = from_pil(picture)
    assert image.shape == (3, 2, 2) and image.dtype == torch.float32
    assert torch.allclose(image, torch.full((3, 2, 2), value), atol=1e-4)


def test_a_transparent_palette_is_laid_on_white() -> None:
    buffer = io.BytesIO()
    Image.new("P", (2, 2), 0).save(buffer, "PNG", transparency=0)
    assert float(decode_image(buffer.getvalue()).min()) == 1.0


def test_unreadable_files_are_one_sentence(tmp_path: Path) -> None:
    whole = encode_png(eight_bit(3, 32, 32))
    for name, data in {"text": b"hello", "cut": whole[: len(whole) // 2], "empty": b""}.items():
        (tmp_path / f"{name}.png").write_bytes(data)
        with pytest.raises(DataError, match="not a readable picture") as caught:
            read_image(tmp_path / f"{name}.png")
        assert f"{name}.png" in str(caught.value)
    with pytest.raises(DataError, match="does not exist"):
        read_image(tmp_path / "absent.png")


def _file(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # show it a quarter turn clockwise
    return exif


@pytest.mark.parametrize(
    "data",
    [
        encode_png(eight_bit(3, 20, 12)),
        encode_webp(eight_bit(3, 20, 12)),
        _file(to_pil(eight_bit(3, 20, 12)), "PNG", exif=_turned()),
        _file(to_pil(eight_bit(3, 20, 12)), "JPEG", exif=_turned()),
        _file(to_pil(eight_bit(3, 20, 12)), "WEBP", lossless=True, exif=_turned()),
        _file(to_pil(eight_bit(3, 20, 12)).convert("L"), "PNG"),
        _file(to_pil(eight_bit(3, 20, 12)).quantize(8), "PNG"),
        _file(to_pil(eight_bit(3, 20, 12)).convert("RGBA"), "PNG"),
        _file(Image.fromarray(np.arange(240, dtype=np.uint16).reshape(20, 12) * 273), "PNG"),
    ],
    ids=["png", "webp", "turned png", "turned jpeg", "turned webp", "grey", "palette", "alpha", "16 bits"],
)
def test_pixels_are_those_of_the_decoded_image(data: bytes) -> None:
    expected = np.asarray(to_pil(decode_image(data)))
    assert np.array_equal(decode_pixels(data), expected)
    assert image_size(data) == expected.shape[:2]
    for rows in (1, 7, 20, 99):
        top = decode_pixels(data, rows=rows)
        assert len(top) >= min(rows, len(expected)) and np.array_equal(top, expected[: len(top)])


def test_a_plain_png_is_decoded_no_further_than_asked() -> None:
    data = encode_png(eight_bit(3, 400, 300))
    assert decode_pixels(data, rows=33).shape == (33, 300, 3)
    half = data[: len(data) // 2]
    for read in (image_size, decode_pixels, lambda data: decode_pixels(data, "it", 5)):
        with pytest.raises(DataError, match="not a readable picture"):
            read(half)


def test_webp_files_are_lossless_and_repeat() -> None:
    image = eight_bit(3, 40, 24)
    assert torch.equal(decode_image(encode_webp(image)), image)
    assert encode_webp(image) == encode_webp(to_pil(image))


def test_huge_pictures_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode_png(eight_bit(3, 2, 8))
    monkeypatch.setattr(reading, "MAX_MEGAPIXELS", 0.000_015)
    with pytest.raises(DataError, match="megapixels"):
        decode_image(data)
    monkeypatch.setattr(reading, "MAX_MEGAPIXELS", 100)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow's own warning must not come through
    assert decode_image(data).shape == (3, 2, 8)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (16, 16), (17, 31), (9, 33)])
def test_padding_and_cropping_undo_each_other(size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size)
    padded, old = pad_to_multiple(images, 16)
    assert padded.shape[2] % 16 == 0 and padded.shape[3] % 16 == 0
    assert padded.shape[2] - size[0] < 16 and padded.shape[3] - size[1] < 16
    assert torch.equal(crop_to(padded, old), images)


def test_padding_mirrors_where_it_can() -> None:
    row = torch.arange(6.0).reshape(1, 1, 1, 6)
    assert pad_to_multiple(row, 8)[0][0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, 4, 3]
    assert pad_to_multiple(row[..., :2], 8)[0][0, 0, 0].tolist() == [0, 1, 1, 1, 1, 1, 1, 1]
    with pytest.raises(UsageError, match="multiple of 0"):
        pad_to_multiple(row, 0)


def test_every_image_is_on_the_sheet_at_full_size() -> None:
    red, blue = torch.zeros(3, 3, 20, 30), torch.zeros(2, 3, 20, 30)
    red[:, 0], blue[:, 2] = 1, 1
    sheet = from_pil(contact_sheet([("first", red), ("second", blue)]))
    is_red = (sheet == torch.tensor([1.0, 0, 0])[:, None, None]).all(0)
    is_blue = (sheet == torch.tensor([0.0, 0, 1])[:, None, None]).all(0)
    assert int(is_red.sum()) == 3 * 20 * 30 and int(is_blue.sum()) == 2 * 20 * 30
    assert is_red.nonzero()[:, 0].max() < is_blue.nonzero()[:, 0].min()
    assert (sheet[:, :, :20] < 0.5).any(), "the label is drawn at the left"


def test_scale_resizes_images() -> None:
    rows = [("x", torch.zeros(1, 3, 40, 40))]
    pixels = [int((from_pil(contact_sheet(rows, scale)) == 0).all(0).sum()) for scale in (0.5, 1, 2)]
    assert pixels == [20 * 20, 40 * 40, 80 * 80]


def test_rows_of_other_sizes_and_odd_labels_fit() -> None:
    sheet = contact_sheet([("", torch.zeros(1, 3, 8, 8)), ("long label ü " * 5, torch.ones(4, 3, 16, 24))])
    assert sheet.width > 4 * 24 and sheet.height > 8 + 16


@pytest.mark.parametrize(
    ("rows", "scale", "words"),
    [
        ([], 1, "at least one row"),
        ([("x", torch.zeros(1, 3, 8, 8))], 0, "cannot be scaled"),
        ([("x", torch.zeros(3, 8, 8))], 1, "row 'x' has shape"),
    ],
)
def test_a_sheet_of_nothing_is_refused(rows: list[tuple[str, torch.Tensor]], scale: float, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        contact_sheet(rows, scale)
