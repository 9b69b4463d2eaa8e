from __future__ import annotations

import json

import pytest

from topcoat.cost.table import CostRow, CostTable, PipelineCost, Saving, format_bytes, format_tflop
from topcoat.errors import UsageError


def table() -> CostTable:
    rows = (CostRow("text encoders", 1.0), CostRow("transformer", 10.0, times=4), CostRow("VAE decode", 2.0))
    head = (*rows, CostRow("head", 0.5))
    slow = PipelineCost("slow", 4, rows)
    return CostTable(
        pair="toy",
        width_px=64,
        height_px=32,
        distilled=PipelineCost("fast", 4, rows),
        enhanced=PipelineCost("fast + head", 4, head),
        baseline=slow.at_steps(50),
        baseline_at=(slow.at_steps(50), slow.at_steps(28)),
    )


def test_arithmetic() -> None:
    toy = table()
    assert (toy.distilled.tflop, toy.enhanced.tflop, toy.baseline.tflop) == (43, 43.5, 503)
    assert toy.head_tflop == 0.5
    assert toy.saving().share == pytest.approx(1 - 43.5 / 503)
    assert toy.saving(28).share == pytest.approx(1 - 43.5 / 283)
    assert toy.saving(20).share == pytest.approx(1 - 43.5 / 203)
    with pytest.raises(UsageError, match="0 steps are not possible"):
        toy.saving(0)


def test_a_saving_names_both_step_counts_and_what_is_counted() -> None:
    sentences = [saving.sentence for saving in table().savings]
    fast = "with 4 steps of fast"
    assert sentences[2:] == [
        f"saves 84.6% against 28 steps of slow ({fast} + head; whole pipeline, 64x32, computed)",
        f"saves 85.7% against 28 steps of slow ({fast}; transformer only, 64x32, computed)",
    ]
    assert table().enhanced.title == "fast + head, 4 steps: 43.50 TFLOP"
    timed = Saving("fast", 1, 2.0, "slow", 8, 8.0, "whole pipeline", "64x32", "measured")
    assert "saves 75.0% of the time against 8 steps of slow (with 1 step of fast;" in timed.sentence


def test_json_is_what_tables_show() -> None:
    data = json.loads(json.dumps(table().as_dict()))
    assert data["kind"] == "computed" and data["size_px"] == {"width": 64, "height": 32}
    assert data["savings"][2] == {
        "name": "fast + head",
        "steps": 4,
        "value": 43.5,
        "against": "slow",
        "against_steps": 28,
        "against_value": 283.0,
        "counts": "whole pipeline",
        "size": "64x32",
        "kind": "computed",
        "note": "",
        "share": pytest.approx(table().saving(28).share),
    }
    assert data["savings"][3]["share"] == pytest.approx(1 - 40 / 280) == table().saving(28, transformer_only=True).share
    assert data["savings"][3]["counts"] == "transformer only"
    rows = data["enhanced"]["rows"]
    assert rows[1]["label"] == "transformer, 4 x 10.00"
    assert sum(row["share"] for row in rows) == pytest.approx(1) and rows[1]["share"] == pytest.approx(40 / 43.5)


def test_other_step_counts_change_the_steps_alone() -> None:
    one = table().at_distilled_steps(1)
    assert (one.distilled.tflop, one.enhanced.tflop, one.enhanced.steps) == (13, 13.5, 1)
    assert one.baseline == table().baseline
    with pytest.raises(UsageError, match="0 steps are not possible"):
        table().at_distilled_steps(0)


def test_two_passes_in_a_step() -> None:
    row = CostRow("transformer", 10.0, times=4, passes=2)
    assert (row.tflop, PipelineCost("x", 4, (row,)).at_steps(3).tflop, row.label) == (
        80,
        60,
        "transformer, 4 x 2 x 10.00",
    )
    assert CostRow("text", 1.0, passes=2).label == "text, 2 x 1.00"
    assert CostRow("text", 1.0).label == "text"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (3719.23, "3,719.23"), (74.384, "74.38"), (0.5, "0.500"), (0.03501, "0.0350"), (0.000512, "0.000512")],
)
def test_format(value: float, text: str) -> None:
    assert format_tflop(value) == text


def test_bytes_for_print() -> None:
    assert [format_bytes(value) for value in (5, 2500, 3.4e6, 1.06e12)] == ["5 B", "2.5 kB", "3.4 MB", "1.06 TB"]
