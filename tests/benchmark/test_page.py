from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest
import torch

from topcoat.benchmark import scores
from topcoat.benchmark.arms import Arm, Subjects
from topcoat.benchmark.record import BenchmarkResult, Evidence
from topcoat.features import FeatureNet
from topcoat.generators.base import Licence
from topcoat.metrics.base import Score, SetMetric
from topcoat.metrics.embed import Embeddings
from topcoat.reports.benchmark import page
from topcoat.reports.benchmark_tables import headline, markdown, summary, table

FRECHET = {"distilled": 10.0, "unsharp": 8.0, "colour": 7.0, "enhanced": 4.0, "floor": 1.0, "baseline": 0.0}
GAPS = {"enhanced": 0.667, "unsharp": 0.22, "colour": 0.33}


def fake_result(
    *, n: int = 64, gaps: dict[str, float] | None = None, extrapolated: dict[str, float] | None = None, **more: Any
) -> BenchmarkResult:
    """A demo whose figures are made up; ``extrapolated`` are shares, given with distances where it is not None."""
    figures = [Score("frechet", arm, value, 0.9 * value, 1.1 * value) for arm, value in FRECHET.items()]
    for metric, shares in (("gap_closed", GAPS if gaps is None else gaps), ("gap_closed_extrapolated", extrapolated)):
        figures += [Score(metric, arm, value, value - 0.1, value + 0.1) for arm, value in (shares or {}).items()]
    if extrapolated is not None:
        far = {"distilled": 1.2, "enhanced": 0.3, "unsharp": 1.0, "colour": 0.9, "floor": 0.05}
        figures += [Score("frechet_extrapolated", arm, value) for arm, value in far.items()]
    figures += [Score("identity_mean", "enhanced", 0.98), Score("identity_p05", "enhanced", 0.95)]
    figures += [Score("identity_mean", "baseline", 0.9), Score("identity_mismatched_mean", "baseline", 0.3)]
    for metric, values in {
        "tflop": {"distilled": 0.003, "enhanced": 0.0034, "baseline": 0.03, "baseline_28_steps": 0.017},
        "seconds": {"distilled": 0.012, "enhanced": 0.014, "baseline": 0.11, "baseline_28_steps": 0.06},
        "head_seconds": {"enhanced": 0.002},
        "tflop_saving": {"enhanced": 0.887},
        "tflop_saving_at_28_steps": {"enhanced": 0.81},
        "seconds_saving": {"enhanced": 0.873},
        "seconds_saving_at_28_steps": {"enhanced": -0.12},
    }.items():
        figures += [Score(metric, arm, value) for arm, value in values.items()]
    arms = {
        "distilled": Arm("distilled", 4),
        "enhanced": Arm("distilled", 4, "head"),
        "baseline": Arm("baseline", 50),
        "unsharp": Arm("distilled", 4, "unsharp"),
        "colour": Arm("distilled", 4, "colour"),
        "floor": Arm("baseline", 50, other_seeds=True),
        "baseline_28_steps": Arm("baseline", 28),
    }
    settings = {
        "batch_size": 8,
        "models": {"distilled": {"steps": 4}, "baseline": {"steps": 50}},
        "features": {"net": "eval", "digest": "abc", "dimensions": 64},
        "hardware": {"cpu": "Toy CPU", "gpu": None, "cores": 2, "torch_threads": 2, "torch": "2"},
    }
    notes = ("Fitted in the controls' favour.",)
    heads = {"head": {"digest": "abc", "input": "image"}}
    return BenchmarkResult(
        "demo", "mini <b>", n, 128, 128, arms, heads, tuple(figures), notes, settings, evidence(**more)
    )


def evidence(count: int = 14, size_px: int = 16) -> Evidence:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, count, 3, size_px, size_px), generator=generator).to(torch.uint8)
    cosines = torch.rand(3, count, generator=generator)
    return Evidence(
        dict(zip(("distilled", "enhanced", "baseline"), images, strict=True)),
        Subjects(('a </script><b>prompt</b> & "more" $$5 {{ 5 }}',) * count, tuple(range(count))),
        (Licence(name="A", url="https://example.org/a", note="x < y"), Licence(name="B", url="javascript:x")),
        {"different": cosines[2] - 0.5, "same": cosines[1], "kept": cosines[0]},
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


def text_of(result: BenchmarkResult) -> str:
    return unescape(page(result)).replace("\xa0", " ")


def test_the_page_is_whole_self_contained_and_escaped() -> None:
    html = page(fake_result())
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    assert checker.tags.count("script") == 1 and checker.tags.count("svg") == 4
    outside = [link for link in checker.links if not link.startswith("data:")]
    assert outside == ["https://example.org/a"]
    assert "<b>" not in html and "url(" not in html and "@import" not in html
    assert len(html) < 15e6


def test_the_page_says_both_step_counts_and_what_is_counted() -> None:
    text = text_of(fake_result())
    assert "4 steps + head against 50 steps" in text
    assert "12.0 % more" in text  # a loss is called a loss
    for words in ("computed", "measured", "64 dimensions", "other seeds", "Toy CPU", "in the controls' favour"):
        assert words in text
    assert "The first 12 subjects" in text


def test_without_a_gap_the_page_says_so() -> None:
    result = fake_result(gaps={}, count=2)
    assert "no measurable gap" in summary(result)
    assert "too few subjects to tell the gap" in text_of(result)
    assert "no measurable gap to close" in text_of(dataclasses.replace(result, n=1000))
    assert "gap closed" not in table(result).columns


def test_few_subjects_are_led_by_the_extrapolated_gap() -> None:
    far = {"enhanced": 0.81, "unsharp": 0.02, "colour": 0.08}
    few = fake_result(gaps={"unsharp": 0.22, "colour": 0.33}, extrapolated=far)
    assert headline(few).startswith("distilled + head: 81 % of the gap closed")
    assert "81 % (95 % interval 71 % to 91 %) of the gap, extrapolated to endless subjects" in summary(few)
    text = text_of(few)
    assert "unsharp mask: 2 %" in text and "colour matrix: 8 %" in text  # as the head's share, not the plain 22 and 33
    assert "gap closed, extrapolated" in text and "1.2 before, 0.3 after, noise floor 0.05" in text
    unknown = summary(fake_result(extrapolated={}))
    assert "64 subjects are too few to tell the share of the gap, extrapolated" in unknown and "1.2 before" in unknown
    many = fake_result(n=1000, extrapolated=far)
    assert headline(many).startswith("distilled + head: 67 % of the gap closed")


def test_markdown_has_a_cell_for_every_column() -> None:
    lines = markdown(fake_result(), heading="## Mine").splitlines()
    assert lines[0] == "## Mine"
    cells = [line.count("|") for line in lines if line.startswith("|")]
    assert len(cells) == 2 + 7 and len(set(cells)) == 1


def test_charts_are_well_formed() -> None:
    html = page(fake_result())
    for part in html.split("<svg")[1:]:
        ET.fromstring("<svg" + part.split("</svg>")[0] + "</svg>")


def test_a_metric_from_outside_is_in_json_table_and_page(monkeypatch: pytest.MonkeyPatch) -> None:
    class Toy(SetMetric):
        """Distance of the means."""

        name, family, label, better = "toy", "distances", "toy distance", "low"

        def measure(self, images: torch.Tensor, reference: torch.Tensor) -> float:
            return float((images.mean(dim=0) - reference.mean(dim=0)).norm())

    monkeypatch.setattr(scores, "SET_METRICS", (Toy,))
    x, y, floor = (Embeddings(torch.full((4, 2), value), torch.ones(4, 2)) for value in (3.0, 1.0, 2.0))
    sets = {"distilled": x, "enhanced": x, "reference": y, "floor": floor}
    toys = scores.feature_scores(FeatureNet.tiny(0), "tiny", sets, {"enhanced": "enhanced"})
    result = dataclasses.replace(fake_result(), scores=(*fake_result().scores, *toys))
    assert result.value("toy", "enhanced") == pytest.approx(8**0.5)
    assert any(row["metric"] == "toy" for row in result.as_dict()["scores"])
    rows = table(result)
    place = list(rows.columns).index("toy distance ↓")
    assert [row[place] for row in rows.rows if row[0] == "distilled + head"] == ["2.828"]
    assert "toy distance" in text_of(result)
