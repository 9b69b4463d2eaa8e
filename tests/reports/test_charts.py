from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
import torch

from topcoat.reports.charts import Bar, Point, bars, curves, histogram, intervals, round_ticks, scatter


def _paths(svg: str) -> list[str]:
    return [node.attrib["d"] for node in ET.fromstring(svg).iter("path")]


def _texts(svg: str) -> list[str]:
    return [node.text or "" for node in ET.fromstring(svg).iter("text")]


def test_a_curve_spans_the_picture_and_keeps_its_points_in_order() -> None:
    svg = curves([("a & b", [(0.0, 1.0), (1.0, 3.0), (2.0, 2.0)], "baseline")], title="t <", x_ticks=[(1.0, "one")])
    line = _paths(svg)[-1]
    points = [tuple(map(float, pair.split())) for pair in line[1:].split("L")]
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    heights = [y for _, y in points]
    assert heights[0] == max(heights) and heights[1] == min(heights)  # y grows downwards
    assert heights[2] == pytest.approx((heights[0] + heights[1]) / 2, abs=0.1)
    assert "one" in _texts(svg) and "a & b" in _texts(svg)


def test_a_logarithmic_axis_marks_decades_and_leaves_out_what_has_no_logarithm() -> None:
    points = [(0.0, 0.05), (1.0, 50.0), (2.0, 0.0), (3.0, float("nan")), (4.0, 5.0)]
    svg = curves([("p", points, "baseline")], title="t", x_ticks=[(9.0, "outside")], log_y=True)
    assert {"0.1", "1", "10"} <= set(_texts(svg)) and "outside" not in _texts(svg)
    assert _paths(svg)[-1].count("L") == 2


def test_a_level_is_always_in_the_picture() -> None:
    svg = curves([("r", [(0.0, 0.4), (1.0, 0.6)], "baseline")], title="t", x_ticks=[], level=1.0)
    assert {"0.4", "0.6", "0.8", "1"} <= set(_texts(svg))  # round values, both ends among them


@pytest.mark.parametrize(
    ("low", "high", "names"),
    [
        (0.0, 1.0, ["0", "0.5", "1"]),
        (-2.46, 5.43, ["-2", "0", "2", "4"]),
        (0.955, 0.984, ["0.96", "0.97", "0.98"]),
        (3.0, 3.0, ["3"]),
    ],
)
def test_ticks_are_round(low: float, high: float, names: list[str]) -> None:
    assert [name for _, name in round_ticks(low, high)] == names


def test_intervals_lie_on_one_axis_that_may_go_below_zero() -> None:
    rows = ["group", Bar("a & b", 0.5, "50 %", "enhanced", -0.5, 1.5), Bar("c", 0.0, "0 %", "baseline")]
    svg = intervals(rows, title="t", ticks=[(-0.5, "-50 %"), (1.5, "150 %")])
    dots = [float(node.attrib["cx"]) for node in ET.fromstring(svg).iter("circle")]
    ticks = [float(path[1:].split()[0]) for path in _paths(svg)[:2]]
    assert dots[0] == pytest.approx(sum(ticks) / 2, abs=0.1) and ticks[0] < dots[1] < dots[0]
    line = next(path for path in _paths(svg) if "v10" in path)
    assert float(line[1:].split()[0]) == pytest.approx(ticks[0], abs=0.1)
    assert {"group", "a & b", "50 %"} <= set(_texts(svg))
    ET.fromstring(intervals([], title="none", ticks=[]))


def test_a_legend_takes_as_many_lines_as_it_needs() -> None:
    names = ["a rather long name", "another rather long name", "and a third one of that kind"]
    svg = histogram([(name, torch.tensor([0.5]), "baseline") for name in names], title="t")
    places = [(float(n.attrib["x"]), float(n.attrib["y"])) for n in ET.fromstring(svg).iter("text") if n.text in names]
    assert len(places) == 3 and len({y for _, y in places}) == 2
    assert max(x + 8 * len(name) for (x, _), name in zip(places, names, strict=True)) < 480


def test_a_histogram_shows_its_span_ticks_and_marker() -> None:
    values = torch.tensor([2.0, 2.0, 4.0])
    ticks = ((1.0, "low"), (3.0, "middle"), (9.0, "outside"))
    svg = histogram([("v", values, "baseline")], title="h", bins=4, span=(1, 5), ticks=ticks, marker=(3.0, "limit"))
    bars_ = [node for node in ET.fromstring(svg).iter("rect") if node.attrib.get("fill-opacity")]
    assert len(bars_) == 2
    assert float(bars_[0].attrib["height"]) == pytest.approx(2 * float(bars_[1].attrib["height"]), abs=0.2)
    assert {"low", "middle", "limit"} <= set(_texts(svg)) and "outside" not in _texts(svg)


def test_charts_without_anything_are_still_pictures() -> None:
    ET.fromstring(curves([("none", [], "baseline")], title="t", x_ticks=[]))
    ET.fromstring(histogram([("none", torch.empty(0), "baseline")], title="t"))
    ET.fromstring(bars([Bar("none", 0, "0", "baseline")], title="t"))


def test_a_scatter_keeps_order_and_scale_and_marks_what_was_chosen() -> None:
    points = [
        Point(1.0, 4.0, "distilled", "1", 3.0, 5.0),
        Point(10.0, 2.0, "enhanced", "2", ringed=True),
        Point(100.0, 0.0, "baseline", "3"),
    ]
    line = [(1.0, 4.0), (10.0, 2.0)]
    svg = scatter(
        points, title="a <b>", x_label="TFLOP", y_label="distance", names=[("d & e", "distilled")], line=line,
        level=(1.0, "floor"),
    )  # fmt: skip
    dots = [(float(n.attrib["cx"]), float(n.attrib["cy"])) for n in ET.fromstring(svg).iter("circle")]
    assert len(dots) == 4 and dots[1] == dots[2]  # one has a ring
    (x1, y1), (x2, y2), _, (x3, y3) = dots
    assert x2 == pytest.approx((x1 + x3) / 2, abs=0.2) and y2 == pytest.approx((y1 + y3) / 2, abs=0.2)
    assert {"1", "2", "3", "TFLOP", "distance", "floor", "d & e", "10", "20"} <= set(_texts(svg))
    assert f"M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" in _paths(svg)
    ET.fromstring(scatter([], title="none", x_label="", y_label=""))
