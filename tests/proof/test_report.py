from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ET
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest
import torch

from topcoat.charts import Bar, bars, histogram
from topcoat.generators.base import Licence
from topcoat.metrics.identity import Identity, IdentityPairs
from topcoat.metrics.record import FeatureRecord
from topcoat.proof import Distances, ExtrapolatedGap, PerImage, Proof, Saving, Share, Steps
from topcoat.proof.report import Evidence, render


def fake_proof(**changes: Any) -> Proof:
    ends = {"low": 0.9, "high": 1.1}
    proof = Proof(
        pair="mini <b>",
        n=64,
        steps=Steps(4, 50),
        frechet=Distances(10.0, 4.0, 8.0, 7.0, 1.0),
        gap_closed=Share(0.667, 0.6, 0.72),
        gap_extrapolated=None,
        identity=Identity(0.98, 0.95),
        identity_pairs=IdentityPairs(0.9, 0.8, 0.3, 0.6),
        seconds_per_image=PerImage(0.012, 0.002, 0.11, 0.014),
        tflop_per_image=PerImage(0.003, 0.0004, 0.03, 0.0034),
        saving=Saving(0.887, 0.873),
        saving_at_28_steps=Saving(0.81, -0.12),
        hardware={"cpu": "Toy CPU", "gpu": None, "cores": 2, "torch_threads": 2},
        features=FeatureRecord("eval", "abc", 64),
        versions={"topcoat": "0"},
        settings={
            "width_px": 128,
            "height_px": 128,
            "batch_size": 8,
            "control": {"amount": 1.5, "sigma_px": 0.8, "calibration_images": 32},
            "gap_closed_by_unsharp": {"value": 0.22, "low": 0.2, "high": 0.25},
            "gap_closed_by_colour": {"value": 0.33, "low": 0.3, "high": 0.35},
            "gap_extrapolated_by": {
                "unsharp": {"value": 0.02, "low": 0.01, "high": 0.03},
                "colour": {"value": 0.08, "low": 0.05, "high": 0.1},
            },
            "gap_in_floors": 10.0,
            "frechet_intervals": dict.fromkeys(("distilled", "enhanced", "unsharp", "colour", "baseline_floor"), ends),
            "gradient_energy": dict.fromkeys(("distilled", "unsharp", "colour", "enhanced", "baseline"), 0.03),
            "seconds_spread": {name: ends | {"batches": 8} for name in ("distilled", "head", "baseline")},
            "baseline_at_28_steps": {"seconds": 0.06, "tflop": 0.017},
        },
    )
    return dataclasses.replace(proof, **changes)


def evidence(count: int = 14, size_px: int = 16) -> Evidence:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, count, 3, size_px, size_px), generator=generator).to(torch.uint8)
    cosines = torch.rand(3, count, generator=generator)
    return Evidence(
        images[0],
        images[1],
        images[2],
        prompts=['a </script><b>prompt</b> & "more" $$5'] * count,
        seeds=list(range(count)),
        kept=cosines[0],
        same=cosines[1],
        different=cosines[2] - 0.5,
        licences=(Licence(name="A", url="https://example.org/a", note="x < y"), Licence(name="B", url="javascript:x")),
    )


class Checker(HTMLParser):
    """Collects what a page links to, and checks that every tag is closed."""

    VOID = ("meta", "link", "img", "input", "br")

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.open: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_self_contained_and_escaped() -> None:
    page = render(fake_proof(), evidence())
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert checker.tags.count("script") == 1 and checker.tags.count("svg") == 4
    outside = [link for link in checker.links if not link.startswith("data:")]
    assert outside == ["https://example.org/a"]
    assert "<b>" not in page and "url(" not in page and "@import" not in page
    assert len(page) < 15e6


def test_the_page_says_both_step_counts_and_what_is_counted() -> None:
    page = unescape(render(fake_proof(), evidence())).replace("\xa0", " ")
    assert "4 steps + head against 50 steps" in page
    assert "12.0 % more" in page  # a loss is called a loss
    for words in ("computed", "measured", "64 dimensions", "at other seeds", "Toy CPU", "in the control's favour"):
        assert words in page
    assert "The first 12 subjects" in page


def test_without_a_gap_the_page_says_so() -> None:
    settings = fake_proof().settings | {
        f"gap_closed_by_{name}": dict.fromkeys(("value", "low", "high")) for name in ("unsharp", "colour")
    }
    proof = fake_proof(gap_closed=Share(None, None, None), settings=settings)
    assert "no measurable gap" in proof.summary()
    page = render(proof, evidence(count=2))
    assert "Too few subjects to tell the gap" in page and "not measurable" in page
    many = dataclasses.replace(proof, n=1000)
    assert "No measurable gap to close" in render(many, evidence(count=2))


def test_few_subjects_are_led_by_the_extrapolated_gap() -> None:
    endless = ExtrapolatedGap(Share(0.81, 0.7, 0.9), 1.2, 0.3, 0.05)
    few = fake_proof(gap_closed=Share(None, None, None), gap_extrapolated=endless)
    assert few.headline.startswith("81 % of the gap closed")
    assert "81 % (95 % interval 70 % to 90 %) of the gap, extrapolated to endless subjects" in few.summary()
    page = unescape(render(few, evidence())).replace("\xa0", " ")
    assert "unsharp mask: 2 %" in page and "colour matrix: 8 %" in page  # as the head's share, not the plain 22 and 33
    assert "Share of the gap closed, extrapolated" in page and "1.2 / 0.3 / 0.05" in page
    unknown = ExtrapolatedGap(Share(None, None, None), 1.2, 0.3, 0.05)
    words = fake_proof(gap_extrapolated=unknown).summary()
    assert "64 subjects are too few to tell the share of the gap, extrapolated" in words and "1.2 before" in words
    many = fake_proof(n=1000, gap_extrapolated=endless)
    assert many.headline.startswith("67 % of the gap closed")


def test_charts_are_well_formed_and_to_scale() -> None:
    chart = bars(
        [Bar("a & b", 10, "10", "enhanced", 8, 12), Bar("c", 5, "5", "baseline")], title="t <", marker=(2.0, "floor")
    )
    root = ET.fromstring(chart)
    widths = [float(rect.get("width", "0")) for rect in root.iter("rect")]
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.2)
    assert len(re.findall("stroke-dasharray", chart)) == 1
    assert ET.fromstring(bars([Bar("none", 0, "0", "baseline")], title="zero")) is not None
    ET.fromstring(histogram([("same", torch.tensor([0.9, 1.0]), "enhanced")], title="h"))
