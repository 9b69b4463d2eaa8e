"""What all pages share: escaping, embedded pictures, the slider's subjects."""

from __future__ import annotations

import base64
import io
import re

import pytest
import torch
from PIL import Image
from torch import Tensor

from topcoat.page import Subject, card, data_uri, document, findings, gallery, settings, stage, table


def noise(size_px: int) -> Tensor:
    return torch.rand(3, size_px, size_px, generator=torch.Generator().manual_seed(0))


def opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


@pytest.mark.parametrize(("size_px", "kind", "shown_px"), [(128, "png", 128), (1024, "webp", 768)])
def test_images_are_lossless_where_small_and_light_where_large(size_px: int, kind: str, shown_px: int) -> None:
    uri = data_uri(noise(size_px))
    assert uri.startswith(f"data:image/{kind};base64,")
    with opened(uri) as picture:
        assert picture.size == (shown_px, shown_px)


def test_an_image_is_made_coarser_and_smaller_until_it_fits() -> None:
    sizes = [len(data_uri(noise(256), most_bytes=most)) for most in (300_000, 60_000, 8_000)]
    assert all(size <= most for size, most in zip(sizes, (300_000, 60_000, 8_000), strict=True))
    with opened(data_uri(noise(256), most_bytes=8_000)) as picture:
        assert picture.size[0] < 256
    assert data_uri(noise(64), most_bytes=1).startswith("data:image/webp")  # the smallest that there is


def test_texts_are_escaped() -> None:
    body = card("a <b>", "1 %", ["x & y"], "<i>") + table(["<th>"], [["<td>"]], "facts") + settings("s <", {"k": "<v>"})
    page = document("t </title>", body + findings(["<f>"], "good", ["<n>"]))
    for text in (
        "a &lt;b&gt;",
        "1&nbsp;%",
        "x &amp; y",
        "&lt;i&gt;",
        "&lt;th&gt;",
        "&lt;td&gt;",
        "&lt;v&gt;",
        "&lt;f&gt;",
    ):
        assert text in page
    assert "t &lt;/title&gt;" in page and "<script" not in page


def test_nothing_wrong_is_said() -> None:
    assert findings([], "all is well").count("<li") == 1 and "all is well" in findings([], "all is well")
    assert "all is well" not in findings(["a fault"], "all is well")


def subjects(count: int, names: tuple[str, ...]) -> list[Subject]:
    return [
        Subject([(name, f"data:,{name}{number}") for name in names], f"subject <{number}>", f"best {number}")
        for number in range(count)
    ]


def test_every_image_is_in_the_gallery_once_and_the_first_subject_on_the_stage() -> None:
    shown = subjects(3, ("distilled", "enhanced", "baseline"))
    page = stage(shown, "note") + gallery(shown)
    sources = re.findall(r'src="data:,([a-z]+\d)"', page)
    assert sorted(sources) == sorted(
        [f"{name}{number}" for name in ("distilled", "enhanced", "baseline") for number in (0, 0, 1, 2)]
    )
    assert "subject &lt;2&gt;" in page and "<b>best 2</b>" in page
    assert 'id="third"' in page and "alone" not in page


def test_two_images_have_no_third_beside_them() -> None:
    page = stage(subjects(1, ("enhanced", "baseline")), "note")
    assert 'id="third"' not in page and "alone" in page
    assert stage([], "note") == ""
