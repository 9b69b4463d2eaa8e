"""Every sample of every kind of file comes back, as an independent reader sees it, where the head changes nothing."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pictures.conftest import samples
from topcoat.errors import DataError
from topcoat.pictures import FORMATS, decode_picture, encode_picture, read_picture, seen_by_head, with_result
from topcoat.pictures import write_picture as write
from topcoat.pictures.metadata import Metadata

imagecodecs = pytest.importorskip("imagecodecs")
tifffile = pytest.importorskip("tifffile")
DEPTHS = [np.uint8, np.uint16]


def unchanged(source: Path, target: Path) -> None:
    """Read, run a head that changes nothing, write."""
    picture = read_picture(source)
    seen = seen_by_head(picture)
    assert seen.shape == (*picture.samples.shape[:2], 3)
    assert seen.dtype == (np.uint8 if picture.bits == 8 else np.float32)
    assert write(target, with_result(picture, seen, seen.copy())) == ()


@pytest.mark.parametrize("dtype", DEPTHS)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png(channels: int, dtype: type, tmp_path: Path) -> None:
    given = samples(channels, dtype)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(given.squeeze()))
    unchanged(tmp_path / "a.png", tmp_path / "b.png")
    np.testing.assert_array_equal(imagecodecs.png_decode((tmp_path / "b.png").read_bytes()), given.squeeze())


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("dtype", DEPTHS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_tiff(channels: int, dtype: type, compression: str | None, byteorder: str, tmp_path: Path) -> None:
    given = samples(channels, dtype)
    extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    tifffile.imwrite(
        tmp_path / "a.tif", given.squeeze(), photometric="minisblack" if channels == 1 else "rgb", rowsperstrip=7,
        compression=compression, predictor=compression is not None, byteorder=byteorder, **extra,
    )  # fmt: skip
    unchanged(tmp_path / "a.tif", tmp_path / "b.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), given.squeeze())


def test_a_large_tiff_has_many_strips(tmp_path: Path) -> None:
    given = samples(3, np.uint16, 700, 600)
    tifffile.imwrite(tmp_path / "a.tif", given, photometric="rgb")
    unchanged(tmp_path / "a.tif", tmp_path / "b.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), given)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert len(file.pages[0].dataoffsets) > 1


def test_grey_floats_stay_floats(tmp_path: Path) -> None:
    given = np.random.default_rng(0).random((20, 30), dtype=np.float32)
    tifffile.imwrite(tmp_path / "a.tif", given)
    unchanged(tmp_path / "a.tif", tmp_path / "b.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), given)
    picture = read_picture(tmp_path / "a.tif")
    data, notes = encode_picture(picture, FORMATS["png"])
    assert "floats" in notes[0]
    np.testing.assert_allclose(imagecodecs.png_decode(data) / 65535, given, atol=0.51 / 65535)


@pytest.mark.parametrize("channels", [3, 4])
def test_lossless_webp_keeps_colours_under_transparency(channels: int, tmp_path: Path) -> None:
    given = samples(channels)
    Image.fromarray(given).save(tmp_path / "a.webp", lossless=True, exact=True)
    unchanged(tmp_path / "a.webp", tmp_path / "b.webp")
    np.testing.assert_array_equal(imagecodecs.webp_decode((tmp_path / "b.webp").read_bytes()), given)


@pytest.mark.parametrize("format_name", ["jpeg", "avif", "webp"])
def test_lossy_formats_are_close_and_grey_stays_grey(format_name: str, tmp_path: Path) -> None:
    y, x = np.mgrid[0:64, 0:64]
    smooth = np.stack([x * 4, y * 4, (x + y) * 2], axis=2).astype(np.uint8)
    for given in (smooth, smooth[..., :1]):
        Image.fromarray(given.squeeze()).save(tmp_path / "a.png")
        data, _ = encode_picture(read_picture(tmp_path / "a.png"), FORMATS[format_name], quality=95)
        back = decode_picture(data)
        seen = seen_by_head(back)
        assert np.abs(seen.astype(int) - given.astype(int)).mean() < 3
        if format_name == "jpeg":
            assert back.is_grey == (given.shape[2] == 1)


def test_jpeg_of_grey_has_one_channel(tmp_path: Path) -> None:
    Image.fromarray(samples(1)[..., 0]).save(tmp_path / "a.jpg", quality=95)
    unchanged(tmp_path / "a.jpg", tmp_path / "b.jpg")
    with Image.open(tmp_path / "b.jpg") as picture:
        assert picture.mode == "L"


def test_bmp(tmp_path: Path) -> None:
    Image.fromarray(samples(3)).save(tmp_path / "a.bmp", dpi=(300, 300))
    unchanged(tmp_path / "a.bmp", tmp_path / "b.bmp")
    marked_picture = replace(
        read_picture(tmp_path / "a.bmp"), metadata=Metadata(xmp=b"<?xpacket begin=''?>x", dpi=(300, 300))
    )
    write(tmp_path / "b.bmp", marked_picture)
    assert read_picture(tmp_path / "b.bmp").metadata.xmp == b"<?xpacket begin=''?>x"
    np.testing.assert_array_equal(imagecodecs.bmp_decode((tmp_path / "b.bmp").read_bytes()), samples(3))
    with Image.open(tmp_path / "b.bmp") as picture:
        np.testing.assert_array_equal(np.asarray(picture), samples(3))
        assert round(picture.info["dpi"][0]) == 300


@pytest.mark.parametrize("transparency", [None, 3])
def test_a_palette_becomes_its_colours(transparency: int | None, tmp_path: Path) -> None:
    indexed = Image.fromarray(samples(3)).quantize(16)
    if transparency is not None:
        indexed.info["transparency"] = transparency
    indexed.save(tmp_path / "a.png")
    unchanged(tmp_path / "a.png", tmp_path / "b.png")
    with Image.open(tmp_path / "a.png") as before, Image.open(tmp_path / "b.png") as after:
        assert after.mode == ("RGB" if transparency is None else "RGBA")
        np.testing.assert_array_equal(np.asarray(before.convert(after.mode)), np.asarray(after))


@pytest.mark.parametrize(("mode", "key", "bits"), [("L", 7, 8), ("RGB", (1, 2, 3), 8), ("I;16", 700, 16)])
def test_a_transparent_colour_becomes_alpha(mode: str, key: int, bits: int, tmp_path: Path) -> None:
    channels = 3 if mode == "RGB" else 1
    given = samples(channels, np.uint16 if bits == 16 else np.uint8)
    given[:5] = key
    Image.fromarray(given.squeeze()).save(tmp_path / "a.png", transparency=key)
    picture = read_picture(tmp_path / "a.png")
    assert picture.alpha is not None and picture.bits == bits
    np.testing.assert_array_equal(picture.alpha == 0, (given == key).all(axis=2))
    unchanged(tmp_path / "a.png", tmp_path / "b.png")
    back = read_picture(tmp_path / "b.png")
    np.testing.assert_array_equal(back.samples, given)
    np.testing.assert_array_equal(back.alpha, picture.alpha)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png16", "tiff16", "jpeg", "webp"])
def test_orientation_is_applied_once(kind: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    given = samples(3, np.uint16 if "16" in kind else np.uint8, 6, 9)
    path = tmp_path / "a"
    if kind == "png16":
        Image.fromarray(samples(3)).save(path, "PNG", exif=exif)
        data = imagecodecs.png_encode(given)
        block = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
        chunk = (len(block) - 4).to_bytes(4, "big") + block + imagecodecs.zlib_crc32(block).to_bytes(4, "big")
        path.write_bytes(data[:33] + chunk + data[33:])
    elif kind == "tiff16":
        tifffile.imwrite(path, given, photometric="rgb", extratags=[(0x0112, 3, 1, orientation, True)])
    else:
        Image.fromarray(given).save(path, kind.upper(), exif=exif, **({"lossless": True} if kind == "webp" else {}))
        with Image.open(path) as opened:
            given = np.asarray(opened)
    # how each orientation is undone: TIFF 6.0, tag 274
    upright = {
        1: given, 2: given[:, ::-1], 3: given[::-1, ::-1], 4: given[::-1], 5: given.transpose(1, 0, 2),
        6: np.rot90(given, -1), 7: np.rot90(given, 2).transpose(1, 0, 2), 8: np.rot90(given),
    }[orientation]  # fmt: skip
    picture = read_picture(path)
    np.testing.assert_array_equal(picture.samples, upright)
    again = decode_picture(encode_picture(picture, FORMATS["png"])[0])
    np.testing.assert_array_equal(again.samples, upright)


def test_what_a_format_cannot_hold_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(samples(4, np.uint16)))
    picture = read_picture(tmp_path / "a.png")
    _, notes = encode_picture(picture, FORMATS["jpeg"])
    assert "16 bits" in notes[0] and "transparency is laid on white" in notes[1]
    data, notes = encode_picture(picture, FORMATS["webp"])
    assert len(notes) == 1 and decode_picture(data).alpha is not None
    eight = ((samples(4, np.uint16).astype(float) / 65535) * 255).round().astype(np.uint8)
    np.testing.assert_array_equal(imagecodecs.webp_decode(data), eight)
    too_wide = decode_picture(imagecodecs.png_encode(np.zeros((1, 20_000, 3), np.uint8)))
    with pytest.raises(DataError, match="WebP ends at 16383 px"):
        encode_picture(too_wide, FORMATS["webp"])


def test_alpha_keeps_the_colours_apart(tmp_path: Path) -> None:
    given = samples(4)
    given[..., 3] = np.linspace(0, 255, given.shape[1]).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(given).save(buffer, "PNG")
    picture = decode_picture(buffer.getvalue())
    seen = seen_by_head(picture)
    clear = given[..., 3] == 0
    assert (seen[clear] == 128).all()
    np.testing.assert_array_equal(seen[~clear], given[..., :3][~clear])
    result = with_result(picture, seen, 255 - seen)
    np.testing.assert_array_equal(result.alpha, given[..., 3])
    np.testing.assert_array_equal(result.samples[clear], given[..., :3][clear])
    np.testing.assert_array_equal(result.samples[~clear], 255 - given[..., :3][~clear])


def test_associated_alpha_is_divided_out(tmp_path: Path) -> None:
    straight = samples(4, np.uint16)
    straight[..., 3] = np.maximum(straight[..., 3], 20_000)
    multiplied = straight.copy()
    multiplied[..., :3] = np.rint(straight[..., :3] * (straight[..., 3:] / 65535))
    tifffile.imwrite(tmp_path / "a.tif", multiplied, photometric="rgb", extrasamples=["assocalpha"])
    picture = read_picture(tmp_path / "a.tif")
    np.testing.assert_allclose(picture.samples.astype(int), straight[..., :3].astype(int), atol=2)
    np.testing.assert_array_equal(picture.alpha, straight[..., 3])


INTERLACED = (
    "iVBORw0KGgoAAAANSUhEUgAAAAsAAAAJEAIAAAFMka2vAAABu0lEQVR42gXBgUYgAAAFwZX0kqwkSZIkSZKcJEmSJEmSJElOkiRJkiRJkiRJ"
    "kiRJTpIkSZIk6cNuBiBYRlnK5JnnPPvNd76lmOIUyzvveZdJJjPpX/7mrwssZEEKKUyhpZSm1AoqUiHTTGfaOeYy5xJLWZJXXvPqJ5/59Jff"
    "/EoLLWmxjba02U572u2kM512051ue+lNr+yxlz0POMiBRxzlyBNOcuIZZznzgotcSAEFKbCIohRZQklKFKPllKdcWmlNq3/4kz920JEOu+hK"
    "lz30pEemmMqUM8xkxllmM+s885l3kcUsyj772feQwxx6zHGOPeU0p55znnN54SUvvvGWNz/4yIdffOXLH37yI5VUptIqqlJlNdWptoaa1FhL"
    "bWqtoy511lOfehtoSIONNKbRJprSZDPNaZY++tJnP/3pd4CBDDjIYAYdYihDDjOcYUcYyYijjGbUMcYy5jjjGXeCiUzIMstZdoWVrLjKalZd"
    "Yy1rrrOedTfYyIabbGbTLbay5Tbb2XaHney4y2525ZLLXHrFVa685jrX3nCTG2+5za3/+Jd/3nGXO++5z70PPOTBRx7z6BNPefI/kmV50izh"
    "EOUAAAAASUVORK5CYII="
)
"""An interlaced PNG of 16 bits, by pypng: sample c of pixel number n is 512 n + 7 c."""


def test_interlaced_png() -> None:
    expected = 512 * np.arange(99).reshape(9, 11, 1) + 7 * np.arange(3)
    np.testing.assert_array_equal(decode_picture(base64.b64decode(INTERLACED)).samples, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_tiff_whose_zero_is_white(dtype: type, tmp_path: Path) -> None:
    given = np.random.default_rng(0).random((9, 11))
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    given = (given * top).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", given, photometric="miniswhite")
    unchanged(tmp_path / "a.tif", tmp_path / "b.tif")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.tif").samples[..., 0], top - given)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), top - given)  # now with a black zero
