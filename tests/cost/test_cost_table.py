from __future__ import annotations

import json

import pytest

from topcoat.cost import CostRow, CostTable, PipelineCost, format_tflop
from topcoat.errors import UsageError


def table() -> CostTable:
    rows = (CostRow("text encoders", 1.0), CostRow("transformer", 10.0, times=4), CostRow("VAE decode", 2.0))
    head = (*rows, CostRow("head", 0.5))
    baseline = tuple(row.with_times(50) for row in rows)
    beside = PipelineCost("slow", 28, tuple(row.with_times(28) for row in rows))
    return CostTable(
        pair="toy",
        width_px=64,
        height_px=32,
        distilled=PipelineCost("fast", 4, rows),
        enhanced=PipelineCost("fast + head", 4, head),
        baseline=PipelineCost("slow", 50, baseline),
        baseline_at=(PipelineCost("slow", 50, baseline), beside),
    )


def test_arithmetic() -> None:
    found = table()
    assert (found.distilled.tflop, found.enhanced.tflop, found.baseline.tflop) == (43, 43.5, 503)
    assert found.head_tflop == 0.5
    assert found.saving() == pytest.approx(1 - 43.5 / 503)
    assert found.saving(28) == pytest.approx(1 - 43.5 / 283)
    with pytest.raises(UsageError, match="no baseline at 20 steps"):
        found.saving(20)


def test_text_and_json_name_both_step_counts_and_what_is_counted() -> None:
    text = table().as_text()
    assert "saves 84.6% against 28 steps of slow (with 4 steps of fast; whole pipeline, 64x32, computed)" in text
    assert "transformer, 4 x 10.00" in text
    data = json.loads(json.dumps(table().as_dict()))
    assert data["kind"] == "computed"
    assert data["saving"][1] == {
        "distilled_steps": 4,
        "baseline_steps": 28,
        "tflop": pytest.approx(1 - 43.5 / 283),
        "counts": "whole pipeline",
        "size_px": {"width": 64, "height": 32},
        "kind": "computed",
    }
    assert data["saving_transformer_only"][1]["tflop"] == pytest.approx(1 - 40 / 280)
    assert data["saving_transformer_only"][1]["counts"] == "transformer only"
    assert "saves 85.7% against 28 steps of slow (with 4 steps of fast; transformer only, 64x32, computed)" in text
    shares = [row["share"] for row in data["enhanced"]["rows"]]
    assert sum(shares) == pytest.approx(1) and shares[1] == pytest.approx(40 / 43.5)


def test_other_step_counts_change_the_steps_alone() -> None:
    one = table().at_distilled_steps(1)
    assert (one.distilled.tflop, one.enhanced.tflop, one.enhanced.steps) == (13, 13.5, 1)
    assert one.baseline == table().baseline
    with pytest.raises(UsageError, match="0 steps are not possible"):
        table().at_distilled_steps(0)


def test_two_passes_in_a_step() -> None:
    row = CostRow("transformer", 10.0, times=4, passes=2)
    assert (row.tflop, row.with_times(3).tflop, row.label) == (80, 60, "transformer, 4 x 2 x 10.00")
    assert CostRow("text", 1.0, passes=2).label == "text, 2 x 1.00"
    assert CostRow("text", 1.0).label == "text"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (3719.23, "3,719.23"), (74.384, "74.38"), (0.5, "0.500"), (0.03501, "0.0350"), (0.000512, "0.000512")],
)
def test_format(value: float, text: str) -> None:
    assert format_tflop(value) == text
