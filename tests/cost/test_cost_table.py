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
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (3719.23, "3,719.23"), (74.384, "74.38"), (0.5, "0.500"), (0.03501, "0.0350"), (0.000512, "0.000512")],
)
def test_format(value: float, text: str) -> None:
    assert format_tflop(value) == text
