"""Heads see sRGB; files keep their profile. Profiles are made here, from the standards' numbers."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.pictures.conftest import samples
from topcoat.pictures import FORMATS, decode_picture, encode_picture, seen_by_head, with_result
from topcoat.pictures import colour as colours

# to XYZ at D50 (Bradford), from the primaries of Adobe RGB (1998), IEC 61966-2-5
ADOBE = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
ADOBE_GAMMA = 563 / 256
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])


def profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile of version 2 (ICC.1:2001-04): header, table of tags, tags."""
    white = b"XYZ \0\0\0\0" + struct.pack(">iii", *(round(each * 65536) for each in (0.9642, 1.0, 0.8249)))
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(8 + 3 + 67)
    tags = {b"desc": text, b"wtpt": white, **tags}
    table, body = b"", b""
    for name, content in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(content))
        body += content + b"\0" * (-len(content) % 4)
    header = struct.pack(">I4sI4s4s4s", 0, b"lcms", 0x02400000, b"mntr", space, b"XYZ ") + bytes(12) + b"acsp"
    header = header.ljust(68, b"\0") + struct.pack(">iii", 63190, 65536, 54061)
    whole = header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", len(whole)) + whole[4:]


def curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


def adobe_rgb() -> bytes:
    columns = {name: b"XYZ \0\0\0\0" + struct.pack(">iii", *(round(each * 65536) for each in ADOBE[:, number]))
               for number, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}  # fmt: skip
    return profile(b"RGB ", columns | {name: curve(ADOBE_GAMMA) for name in (b"rTRC", b"gTRC", b"bTRC")})


def grey_gamma(gamma: float) -> bytes:
    return profile(b"GRAY", {b"kTRC": curve(gamma)})


def srgb_of_adobe(values: np.ndarray) -> np.ndarray:
    """The textbook way: linear, through XYZ, sRGB's transfer curve."""
    linear = (values**ADOBE_GAMMA) @ (np.linalg.inv(SRGB) @ ADOBE).T
    linear = linear.clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def picture_with(icc: bytes, given: np.ndarray, kind: str = "PNG") -> bytes:
    if given.dtype == np.uint16:
        imagecodecs = pytest.importorskip("imagecodecs")
        picture = decode_picture(imagecodecs.png_encode(given))
        from dataclasses import replace

        return encode_picture(replace(picture, metadata=replace(picture.metadata, icc=icc)), FORMATS["png"])[0]
    buffer = io.BytesIO()
    Image.fromarray(given.squeeze()).save(buffer, kind, icc_profile=icc)
    return buffer.getvalue()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_head_sees_srgb(dtype: type) -> None:
    given = samples(3, dtype)
    seen = seen_by_head(decode_picture(picture_with(adobe_rgb(), given)))
    found = seen / 255 if seen.dtype == np.uint8 else seen
    expected = srgb_of_adobe(given / np.iinfo(dtype).max)
    difference = np.abs(found - expected)
    assert np.median(difference) < 0.6 / 255 and np.quantile(difference, 0.99) < 4 / 255
    assert np.abs(expected - given / np.iinfo(dtype).max).max() > 20 / 255, "the profile matters"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("format_name", ["png", "tiff"])
def test_no_change_is_no_change_even_outside_srgb(dtype: type, format_name: str) -> None:
    given = samples(3, dtype)
    icc = adobe_rgb()
    picture = decode_picture(picture_with(icc, given))
    seen = seen_by_head(picture)
    data, notes = encode_picture(with_result(picture, seen, seen.copy()), FORMATS[format_name])
    back = decode_picture(data)
    np.testing.assert_array_equal(back.samples, given)
    assert back.metadata.icc == icc and notes == ()


def test_a_change_is_carried_into_the_profile() -> None:
    given = np.full((8, 8, 3), (120, 130, 110), np.uint8)
    picture = decode_picture(picture_with(adobe_rgb(), given))
    seen = seen_by_head(picture)
    brighter = (seen + 20).astype(np.uint8)
    changed = with_result(picture, seen, brighter).samples / 255
    np.testing.assert_allclose(srgb_of_adobe(changed) * 255, brighter, atol=1.5)


def test_deep_samples_stay_smooth_through_a_profile() -> None:
    ramp = np.linspace(10_000, 50_000, 4096).astype(np.uint16)
    given = np.repeat(ramp[None, :, None], 3, axis=2)
    picture = decode_picture(picture_with(adobe_rgb(), given))
    seen = seen_by_head(picture)
    changed = with_result(picture, seen, seen * np.float32(0.9)).samples[0, :, 1].astype(int)
    assert len(np.unique(changed)) > 3500 and np.diff(changed).max() < 40 and np.diff(changed).min() >= -2


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_profiles(dtype: type) -> None:
    given = samples(1, dtype)
    picture = decode_picture(picture_with(grey_gamma(1.8), given))
    seen = seen_by_head(picture)
    linear = (given / np.iinfo(dtype).max) ** 1.8
    expected = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    found = seen / 255 if dtype == np.uint8 else seen
    assert np.abs(found - expected).max() <= 2 / 255  # Little CMS has 8 bits
    assert np.abs(expected - given / np.iinfo(dtype).max).max() > 15 / 255, "the profile matters"
    same = with_result(picture, seen, seen.copy())
    np.testing.assert_array_equal(same.samples, given)


def test_srgb_profiles_are_passed_through() -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    given = samples(3)
    picture = decode_picture(picture_with(icc, given))
    assert colours.is_srgb(icc) and not colours.is_srgb(adobe_rgb())
    np.testing.assert_array_equal(seen_by_head(picture), given)
    assert decode_picture(encode_picture(picture, FORMATS["jpeg"])[0]).metadata.icc == icc


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_srgb(kind: str) -> None:
    buffer = io.BytesIO()
    given = Image.fromarray(samples(3)).convert("CMYK")
    given.save(buffer, kind, **({"quality": 100} if kind == "JPEG" else {}))
    picture = decode_picture(buffer.getvalue())
    assert picture.samples.shape[2] == 3 and colours.is_srgb(picture.metadata.icc or b"")
    np.testing.assert_allclose(picture.samples.astype(int), samples(3), atol=20 if kind == "JPEG" else 1)


def test_a_cmyk_profile_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    """No free CMYK profile is at hand, so this looks at what Little CMS is asked for."""
    asked: list[str] = []
    monkeypatch.setattr(colours, "kind_of", lambda icc: "CMYK")

    class Transform:
        def apply(self, picture: Image.Image) -> Image.Image:
            asked.append(picture.mode)
            return Image.new("RGB", picture.size, (1, 2, 3))

    monkeypatch.setattr(colours, "_transform", lambda icc, mode, back: Transform())
    assert colours.picture_to_srgb(Image.new("CMYK", (2, 2)), b"icc").getpixel((0, 0)) == (1, 2, 3)
    assert asked == ["CMYK"]


def test_a_damaged_profile_is_said_and_kept() -> None:
    picture = decode_picture(picture_with(b"not a profile" * 20, samples(3)))
    assert "profile is damaged" in picture.notes[0]
    np.testing.assert_array_equal(seen_by_head(picture), samples(3))
    assert decode_picture(encode_picture(picture, FORMATS["png"])[0]).metadata.icc == b"not a profile" * 20


def test_names_of_profiles(tmp_path: Path) -> None:
    assert colours.name_of(adobe_rgb()) == "test" and colours.name_of(b"x") == "a damaged profile"
    assert colours.kind_of(grey_gamma(2.2)) == "GRAY" and colours.kind_of(None) is None
