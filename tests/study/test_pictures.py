"""Nothing in a file tells which arm it is of: one encoder, no metadata, equal sizes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from topcoat.errors import DataError
from topcoat.study.pictures import chunks_of, degraded, encode, read_rgb


def decoded(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.format == "WEBP" and picture.mode == "RGB"
        assert not picture.getexif() and set(picture.info) <= {"loop", "background", "timestamp", "duration"}
        return np.asarray(picture)


@pytest.fixture
def pictures() -> dict[str, np.ndarray]:
    """Three that compress very differently, of odd sides."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (33, 51, 3), dtype=np.uint8)
    return {"noise": noise, "smooth": degraded(noise), "flat": np.full_like(noise, 90)}


@pytest.mark.parametrize("quality", [None, 80])
def test_files_of_a_subject_have_one_size_and_one_structure(
    pictures: dict[str, np.ndarray], quality: int | None
) -> None:
    files = encode(pictures, quality)
    assert len({len(data) for data in files.values()}) == 1
    structures = {tuple(name for name, _ in chunks_of(data)) for data in files.values()}
    assert structures == {(b"VP8X", b"VP8L" if quality is None else b"VP8 ", b"JUNK")}
    assert len({dict(chunks_of(data))[b"VP8X"] for data in files.values()}) == 1
    assert all(int.from_bytes(data[4:8], "little") == len(data) - 8 for data in files.values())


def test_lossless_files_hold_the_pixels(pictures: dict[str, np.ndarray]) -> None:
    for name, data in encode(pictures).items():
        np.testing.assert_array_equal(decoded(data), pictures[name])


def test_filling_does_not_compress(pictures: dict[str, np.ndarray]) -> None:
    filling = dict(chunks_of(encode(pictures)["flat"]))[b"JUNK"]
    assert len(set(filling)) > 200  # of 256 values: random bytes


def test_metadata_of_the_source_is_left_behind(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "distilled, 4 steps")
    path = tmp_path / "x.png"
    Image.new("RGB", (16, 16), (10, 200, 30)).save(path, pnginfo=text, dpi=(72, 72))
    data = encode({"x": read_rgb(path)})["x"]
    assert b"distilled" not in data
    assert decoded(data).tolist() == read_rgb(path).tolist()


def test_deep_and_grey_pictures_are_read(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((8, 9), 65535, dtype=np.uint16)).save(path)
    assert read_rgb(path).tolist() == np.full((8, 9, 3), 255).tolist()


def test_transparency_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clear.png"
    Image.new("RGBA", (8, 8), (10, 20, 30, 128)).save(path)
    with pytest.raises(DataError, match="transparent in places"):
        read_rgb(path)
    Image.new("RGBA", (8, 8), (10, 20, 30, 255)).save(path)
    assert read_rgb(path)[0, 0].tolist() == [10, 20, 30]


def test_a_degraded_picture_has_lost_its_detail(pictures: dict[str, np.ndarray]) -> None:
    noise = pictures["noise"]
    assert degraded(noise).shape == noise.shape
    assert degraded(noise).std() < 0.5 * noise.std()
    wide = np.random.default_rng(1).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    assert degraded(wide).std() < degraded(wide[:64, :64]).std()  # as a share of the picture's size
