"""What all pages share: escaping, embedded pictures, the slider's subjects."""

from __future__ import annotations

import base64
import io
import re
from typing import Any

import pytest
import torch
from jinja2 import UndefinedError
from PIL import Image
from torch import Tensor

from topcoat.metrics.table import Table
from topcoat.reports.page import Card, Subject, data_uri, environment


def noise(size_px: int) -> Tensor:
    return torch.rand(3, size_px, size_px, generator=torch.Generator().manual_seed(0))


def opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def page(body: str, **values: Any) -> str:
    """A page with ``body`` as its main part, from macros called ``parts``."""
    source = '{% extends "layout.html.j2" %}{% import "parts.html.j2" as parts %}{% block main %}' + body
    return environment().from_string(source + "{% endblock %}").render(**({"title": "t </title>"} | values))


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
    text = page(
        '{{ parts.cards([card]) }}{{ parts.table(table, "facts") }}{{ parts.settings("s <", values) }}'
        '{{ parts.findings(["<f>"], "good", ["<n>"]) }}',
        card=Card("a <b>", "1 %", ["x & y"], "<i>"),
        table=Table(["<th>"], [["<td>"]], ["front"]),
        values={"k": "<v>"},
    )
    for part in (
        "a &lt;b&gt;",
        "1&nbsp;%",
        "x &amp; y",
        "&lt;i&gt;",
        "&lt;th&gt;",
        "&lt;td&gt;",
        "&lt;v&gt;",
        "&lt;f&gt;",
    ):
        assert part in text, part
    assert "t &lt;/title&gt;" in text and "<script" not in text and '<tr class="front">' in text
    assert "--paper: #faf8f5;" in text  # the style sheet is inside


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="nothing"):
        page("{{ nothing }}")


def test_nothing_wrong_is_said() -> None:
    good = page('{{ parts.findings([], "all is well") }}')
    assert good.count("<li ") == 1 and "all is well" in good
    assert "all is well" not in page('{{ parts.findings(["a fault"], "all is well") }}')


def subjects(count: int, names: tuple[str, ...]) -> list[Subject]:
    return [
        Subject([(name, f"data:,{name}{number}") for name in names], f"subject <{number}>", f"best {number}")
        for number in range(count)
    ]


BOTH = '{{ parts.stage(subjects, "note") }}{{ parts.gallery(subjects) }}'


def test_every_image_is_in_the_gallery_once_and_the_first_subject_on_the_stage() -> None:
    text = page(BOTH, subjects=subjects(3, ("distilled", "enhanced", "baseline")))
    sources = re.findall(r'src="data:,([a-z]+\d)"', text)
    assert sorted(sources) == sorted(
        [f"{name}{number}" for name in ("distilled", "enhanced", "baseline") for number in (0, 0, 1, 2)]
    )
    assert "subject &lt;2&gt;" in text and "<b>best 2</b>" in text
    assert 'id="third"' in text and "stage alone" not in text and "<script>" in text


def test_two_images_have_no_third_beside_them() -> None:
    text = page(BOTH, subjects=subjects(1, ("enhanced", "baseline")))
    assert 'id="third"' not in text and "stage alone" in text
    assert 'id="compare"' not in page(BOTH, subjects=[])
