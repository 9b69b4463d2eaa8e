"""Damaged files of every format: a picture or one sentence, never another error."""

from __future__ import annotations

import functools
import io
import json
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from tests.pictures.conftest import samples
from topcoat.errors import DataError
from topcoat.pictures import decode_picture, encode_picture, seen_by_head, with_result
from topcoat.pictures.inspection import inspect_bytes
from topcoat.pictures.metadata import Metadata
from topcoat.pictures.provenance import Record, marked

imagecodecs = pytest.importorskip("imagecodecs")
tifffile = pytest.importorskip("tifffile")
NAME = "shoot/a file.png"
SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)


@functools.cache
def files() -> tuple[bytes, ...]:
    """One small file of each kind, with metadata of each kind."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    exif.get_ifd(0x8769)[0x9003] = "2026:01:01 00:00:00"
    picture = Image.fromarray(samples(4, height=9, width=12))
    marks = marked(Metadata(), Record("enhance", head="a head", strength="1"))
    assert marks is not None
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    common = {"exif": exif, "xmp": marks.xmp, "icc_profile": profile}
    texts = PngImagePlugin.PngInfo()
    texts.add_text("parameters", "a prompt", zip=True)
    texts.add_itxt("XML:com.adobe.xmp", (marks.xmp or b"").decode())
    made: list[bytes] = []
    for kind, mode, options in (
        ("PNG", "RGBA", {"pnginfo": texts, "exif": exif, "icc_profile": profile}), ("PNG", "P", {}),
        ("JPEG", "RGB", {**common, "comment": b"hello", "dpi": (300, 300)}), ("JPEG", "CMYK", {}), ("BMP", "RGB", {}),
        ("WEBP", "RGBA", {**common, "lossless": True}), ("WEBP", "RGB", {}), ("AVIF", "RGB", common),
        ("TIFF", "RGBA", {"icc_profile": profile, "compression": "tiff_lzw"}), ("TIFF", "L", {"dpi": (300, 300)}),
    ):  # fmt: skip
        buffer = io.BytesIO()
        picture.convert(mode).save(buffer, kind, **options)
        made.append(buffer.getvalue())
    deep = samples(3, np.uint16, 9, 12)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, deep, photometric="rgb", extratags=[(700, 1, len(marks.xmp or b""), marks.xmp, True)])
    return (
        *made,
        imagecodecs.png_encode(deep),
        imagecodecs.png_encode(samples(2, np.uint16, 9, 12)),
        buffer.getvalue(),
    )


Change = tuple[str, float, bytes]
changes = st.lists(
    st.tuples(
        st.sampled_from(["overwrite", "insert", "delete", "cut", "number"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=4,
)


def mutated(data: bytes, edits: list[Change]) -> bytes:
    for kind, where, content in edits:
        at = int(where * len(data))
        if kind == "cut":
            data = data[:at]
        elif kind == "delete":
            data = data[:at] + data[at + len(content) :]
        elif kind == "insert":
            data = data[:at] + content + data[at:]
        elif kind == "number":  # lengths and offsets that are far off
            data = data[:at] + struct.pack(">I", content[0] << (content[-1] % 25)) + data[at + 4 :]
        else:
            data = data[:at] + content + data[at + len(content) :]
    return data


def one_sentence(error: DataError) -> None:
    text = str(error)
    assert NAME in text and "\n" not in text and ".tmp" not in text and "Traceback" not in text


def survive(data: bytes) -> None:
    """Every way that a file's bytes take through this room."""
    try:
        json.dumps(inspect_bytes(data, NAME))
    except DataError as error:
        one_sentence(error)
    try:
        picture = decode_picture(data, NAME)
    except DataError as error:
        one_sentence(error)
        return
    if picture.samples.size > 1e7:  # a damaged size that is still allowed takes seconds and shows nothing
        return
    seen = seen_by_head(picture)
    assert seen.shape == (*picture.samples.shape[:2], 3) and np.isfinite(seen).all()
    same = with_result(picture, seen, seen.copy())
    np.testing.assert_array_equal(same.samples, picture.samples)
    written, _ = encode_picture(same, picture.format)
    again = decode_picture(written, NAME)
    assert again.size == picture.size


@given(number=st.integers(0, 12), edits=changes)
@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=SLOW)
def test_some_damaged_files(number: int, edits: list[Change]) -> None:
    survive(mutated(files()[number], edits))


@pytest.mark.slow
@given(number=st.integers(0, 12), edits=changes)
@settings(max_examples=2000, deadline=None, suppress_health_check=SLOW)
def test_many_damaged_files(number: int, edits: list[Change]) -> None:
    survive(mutated(files()[number], edits))


@pytest.mark.parametrize("number", range(13))
def test_whole_files_are_read(number: int) -> None:
    data = files()[number]
    survive(data)
    assert decode_picture(data).size in ((12, 9), (9, 12))
