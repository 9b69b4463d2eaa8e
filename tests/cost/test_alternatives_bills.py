from __future__ import annotations

import pytest

from topcoat.cost.alternatives import alternatives
from topcoat.cost.pricing import Figure, GpuPrice, PairUsage, Rate, computed_prices, plan_pairs, total_cost
from topcoat.cost.table import CostRow, CostTable, PipelineCost
from topcoat.errors import UsageError
from topcoat.generators.presets import model_pair


def flux_table() -> CostTable:
    """A table with made-up round numbers under FLUX.1's names."""
    rows = (CostRow("text encoders", 5.0), CostRow("transformer", 70.0, times=50), CostRow("VAE decode", 10.0))
    baseline = PipelineCost("FLUX.1-dev", 50, rows)
    distilled = PipelineCost("FLUX.1-schnell", 4, baseline.at_steps(4).rows)
    enhanced = PipelineCost("FLUX.1-schnell + head", 4, (*distilled.rows, CostRow("head", 1.0)))
    return CostTable("flux1", 1024, 1024, distilled, enhanced, baseline, (baseline,))


@pytest.mark.usefixtures("one_tflop_a_pass")
def test_computed_and_cited_are_never_mixed_up() -> None:
    rows = alternatives(model_pair("flux1"), flux_table())
    by_kind = {kind: [row for row in rows if row.kind == kind] for kind in ("computed", "cited")}
    assert len(by_kind["computed"]) + len(by_kind["cited"]) == len(rows)
    assert len(by_kind["cited"]) == 4
    for row in by_kind["cited"]:
        assert "github.com/" in row.note and "2026-04-09" in row.note
        assert row.against_value == 3726.87 != flux_table().baseline.tflop
        assert row.counts == "as counted by its authors" and "as its authors count it" in row.against
    fast = next(row for row in rows if "DBCache(F)" in row.name)
    assert fast.share == pytest.approx(0.825, abs=5e-4)  # as its authors print it


@pytest.mark.usefixtures("one_tflop_a_pass")
def test_alternatives_are_what_their_step_counts_cost() -> None:
    table = flux_table()
    rows = {row.name: row for row in alternatives(model_pair("flux1"), table)}
    turbo = rows["FLUX.1-Turbo-Alpha LoRA"]
    assert (turbo.steps, turbo.kind, turbo.against_steps) == (8, "computed", 50)
    assert turbo.value == pytest.approx(5 + 8 * 70 + 10)
    assert turbo.share == pytest.approx(1 - 575 / 3515)
    assert rows["FLUX.1-schnell + head"].share == pytest.approx(table.saving().share)
    klein = rows["FLUX.2-klein-4B"]
    assert klein.against == "FLUX.2-klein-base-4B" and klein.share == pytest.approx(1 - 6 / 103)
    assert all(row.as_dict()["counts"] and row.size for row in rows.values())


def test_another_pair_has_the_alternative_of_fewer_steps_alone() -> None:
    rows = alternatives(model_pair("mini"), flux_table(), fewer_steps=(20, 60))
    assert [(row.steps, row.kind) for row in rows] == [(4, "computed"), (20, "computed")]


GPU = GpuPrice.model_validate(
    {
        "name": "toy",
        "bf16_tflops": 1000.0,
        "bf16_source": "x",
        "usd_per_hour": 3.6,
        "usd_source": "y",
        "date": "2026-01-02",
    }
)


def test_the_total_cost_pays_off_when_the_saving_has_paid_for_pairs_and_training() -> None:
    bill = total_cost(
        flux_table(), Rate(3.6, "given", GPU, 0.5), images_per_month=1000, pairs=100, training_images=1000
    )
    values = {key: figure.value or 0.0 for key, figure in bill.items()}
    usd_per_tflop = 1 / 500 / 3600 * 3.6
    assert values["pairs_usd"] == pytest.approx(100 * (295 + 3515) * usd_per_tflop)
    assert values["training_usd"] == pytest.approx(1000 * 3 * 1.0 * usd_per_tflop)
    once = values["pairs_usd"] + values["training_usd"]
    image, baseline_image = values["million_usd"] / 1e6, values["baseline_million_usd"] / 1e6
    assert baseline_image - image == pytest.approx((3515 - 296) * usd_per_tflop)
    images = values["payback_images"]
    assert once <= images * (baseline_image - image) < once + (baseline_image - image)
    assert values["payback_months"] == images / 1000
    assert values["year_usd"] == pytest.approx(once + 12_000 * image)
    assert values["baseline_year_usd"] == pytest.approx(12_000 * baseline_image)
    assert bill["training_usd"].source.startswith("3 passes of the head")


def test_what_never_pays_off_says_so() -> None:
    table = flux_table()
    expensive = CostTable("x", 8, 8, table.baseline, table.baseline, table.distilled, (table.distilled,))
    bill = total_cost(expensive, Rate(1.0, "given", GPU), images_per_month=1, pairs=1, training_images=0)
    assert bill["payback_images"].value is None and bill["payback_images"].text == "never"


@pytest.mark.parametrize("change", [{"images_per_month": 0}, {"pairs": -1}, {"training_images": -1}])
def test_an_impossible_total_cost(change: dict[str, int]) -> None:
    settings = {"images_per_month": 1, "pairs": 1, "training_images": 1} | change
    with pytest.raises(UsageError, match="not possible"):
        total_cost(flux_table(), Rate(1.0, "given", GPU), **settings)


def test_prices_of_several_step_counts_list_the_baseline_once() -> None:
    table = flux_table()
    rate = Rate(3.6, "given", GPU, 0.5)
    prices = computed_prices([table.at_distilled_steps(count) for count in (1, 4)], rate)
    assert [(price["name"], price["steps"]) for price in prices] == [
        ("FLUX.1-schnell", 1),
        ("FLUX.1-schnell + head", 1),
        ("FLUX.1-schnell", 4),
        ("FLUX.1-schnell + head", 4),
        ("FLUX.1-dev", 50),
    ]
    assert prices[-1]["seconds"] == 3515 / 500 and prices[-1]["usd"] == pytest.approx(3515 / 500 / 1000)


def test_a_plan_is_a_product() -> None:
    usage = PairUsage(10.0, Figure("", 7.2, "seconds", "measured", "here"), Figure("disk", 1e6, "bytes", "measured"))
    bill = plan_pairs(1000, usage, Rate(2.0, "given"), "toy GPU", 4)
    values = {key: figure.value for key, figure in bill.items()}
    assert values == {
        "pairs": 1000,
        "images": 2000,
        "tflop": 10_000,
        "gpu_hours": 2.0,
        "wall_hours": 0.5,
        "usd": 4.0,
        "disk_bytes": 1e9,
    }
    texts = [figure.text for figure in bill.values()]
    assert texts == ["1,000", "2,000", "1e+04 TFLOP", "2 hours", "0.5 hours", "4.00 USD", "1 GB"]
    assert (bill["gpu_hours"].kind, bill["gpu_hours"].source) == ("measured", "here")
    with pytest.raises(UsageError, match="0 pairs cannot be planned"):
        plan_pairs(0, usage, Rate(2.0, "given"), "toy GPU", 4)
