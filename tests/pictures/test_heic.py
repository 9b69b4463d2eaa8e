"""HEIC, where pillow-heif is installed, and what is said where it is not."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pictures.conftest import samples
from topcoat.enhance.jobs import find
from topcoat.errors import DataError
from topcoat.pictures import decode_picture, formats, read_picture, write_picture

pillow_heif = pytest.importorskip("pillow_heif")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pillow_heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x8298] = "(c) Studio"
    y, x = np.mgrid[0:64, 0:80]
    smooth = np.stack([x * 3, y * 3, x + y], axis=2).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.heic", quality=95, exif=exif)
    return tmp_path / "a.heic"


def test_heic_is_read_and_written(photo: Path, tmp_path: Path) -> None:
    picture = read_picture(photo)
    assert picture.format.name == "heic" and picture.samples.shape == (64, 80, 3)
    for name in ("b.heic", "b.jpg"):
        write_picture(tmp_path / name, picture)
        again = read_picture(tmp_path / name)
        assert np.abs(again.samples.astype(int) - picture.samples).mean() < 3
        assert again.metadata.exif is not None and b"(c) Studio" in again.metadata.exif


def test_without_the_package_it_is_said(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = photo.read_bytes()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    formats.readable.cache_clear()
    try:
        with pytest.raises(DataError, match=r"topcoat\[heic\]"):
            decode_picture(data, "a.heic")
        (left_out,) = find([str(photo.parent)], recursive=False, output=Path("out")).left_out[:1]
        assert "topcoat[heic]" in str(left_out)
    finally:
        monkeypatch.undo()
        formats.readable.cache_clear()


def test_a_heic_of_several_pictures_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    first = pillow_heif.from_pillow(Image.fromarray(samples(3)))
    first.add_from_pillow(Image.fromarray(samples(3)))
    first.save(buffer)
    with pytest.raises(DataError, match="2 frames"):
        decode_picture(buffer.getvalue())
