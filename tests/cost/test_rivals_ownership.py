from __future__ import annotations

import pytest

from topcoat.cost import CostRow, CostTable, GpuPrice, PipelineCost, Rate, ownership, plan_pairs, rivals
from topcoat.cost.plan import PairUsage, assumed_disk_bytes, format_bytes
from topcoat.cost.rivals import CACHE_DIT_BASELINE_TFLOP
from topcoat.errors import UsageError
from topcoat.generators.presets import model_pair


def flux_table() -> CostTable:
    """A table with made-up round numbers under FLUX.1's names."""
    rows = (CostRow("text encoders", 5.0), CostRow("transformer", 70.0, times=50), CostRow("VAE decode", 10.0))
    baseline = PipelineCost("FLUX.1-dev", 50, rows)
    distilled = PipelineCost("FLUX.1-schnell", 4, baseline.at_steps(4).rows)
    enhanced = PipelineCost("FLUX.1-schnell + head", 4, (*distilled.rows, CostRow("head", 1.0)))
    return CostTable("flux1", 1024, 1024, distilled, enhanced, baseline, (baseline,))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("topcoat.cost.flops.count_flops", lambda run: 10**12)


@pytest.mark.usefixtures("counted")
def test_computed_and_cited_are_never_mixed_up() -> None:
    found = rivals(model_pair("flux1"), flux_table())
    by_kind = {kind: [item for item in found if item.kind == kind] for kind in ("computed", "cited")}
    assert len(by_kind["computed"]) + len(by_kind["cited"]) == len(found)
    for item in by_kind["cited"]:
        assert "github.com/" in item.note and "2026-04-09" in item.note
        assert item.against_tflop == CACHE_DIT_BASELINE_TFLOP != flux_table().baseline.tflop
    fast = next(item for item in found if "DBCache(F)" in item.name)
    assert fast.saving == pytest.approx(0.825, abs=5e-4)  # as its authors print it


@pytest.mark.usefixtures("counted")
def test_rivals_are_what_their_step_counts_cost() -> None:
    table = flux_table()
    found = {item.name: item for item in rivals(model_pair("flux1"), table)}
    turbo = found["FLUX.1-Turbo-Alpha LoRA"]
    assert (turbo.steps, turbo.kind, turbo.against_steps) == (8, "computed", 50)
    assert turbo.tflop == pytest.approx(5 + 8 * 70 + 10)
    assert turbo.saving == pytest.approx(1 - 575 / 3515)
    assert found["FLUX.1-schnell + head"].saving == pytest.approx(table.saving())
    klein = found["FLUX.2-klein-4B"]
    assert klein.against == "FLUX.2-klein-base-4B" and klein.saving == pytest.approx(1 - 6 / 103)
    assert all(item.as_dict()["counts"] and item.size for item in found.values())


def test_another_pair_has_the_rival_of_fewer_steps_alone() -> None:
    pair = model_pair("mini")
    found = rivals(pair, flux_table(), fewer_steps=(20, 60))
    assert [(item.steps, item.kind) for item in found] == [(4, "computed"), (20, "computed")]


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


def test_ownership_pays_back_when_the_saving_has_paid_for_the_rest() -> None:
    found = ownership(
        flux_table(), GPU, Rate(3.6, "given"), 0.5, images_per_month=1000, pairs=100, training_images=1000
    )
    usd_per_tflop = 1 / 500 / 3600 * 3.6
    assert found.pairs_usd == pytest.approx(100 * (295 + 3515) * usd_per_tflop)
    assert found.training_usd == pytest.approx(1000 * 3 * 1.0 * usd_per_tflop)
    assert found.saved_usd_per_image == pytest.approx((3515 - 296) * usd_per_tflop)
    images = found.payback_images
    assert images is not None
    assert found.once_usd <= images * found.saved_usd_per_image < found.once_usd + found.saved_usd_per_image
    months = images / 1000
    assert found.usd_after(months, with_head=True) == pytest.approx(found.usd_after(months, with_head=False), rel=0.02)
    assert found.as_dict()["payback_images"] == images


def test_what_never_pays_back_says_so() -> None:
    table = flux_table()
    dear = CostTable("x", 8, 8, table.baseline, table.baseline, table.distilled, (table.distilled,))
    found = ownership(dear, GPU, Rate(1.0, "given"), 0.5, images_per_month=1, pairs=1, training_images=0)
    assert found.payback_images is None
    assert ("paid back after", "never") in found.rows()


@pytest.mark.parametrize("change", [{"images_per_month": 0}, {"pairs": -1}, {"training_images": -1}])
def test_ownership_that_cannot_be(change: dict[str, int]) -> None:
    settings = {"images_per_month": 1, "pairs": 1, "training_images": 1} | change
    with pytest.raises(UsageError, match="not possible"):
        ownership(flux_table(), GPU, Rate(1.0, "given"), 0.5, **settings)


def test_a_plan_is_a_product() -> None:
    usage = PairUsage(10.0, 7.2, "measured", "here", 1e6, "measured", "here")
    plan = plan_pairs("toy", 1000, usage, Rate(2.0, "given"), "toy GPU", 4)
    assert (plan.images, plan.tflop, plan.gpu_hours, plan.wall_hours) == (2000, 10_000, 2.0, 0.5)
    assert (plan.usd, plan.disk_bytes) == (4.0, 1e9)
    assert {row[0] for row in plan.rows()} >= {"images", "TFLOP", "GPU-hours", "USD", "disk"}
    with pytest.raises(UsageError, match="0 pairs cannot be planned"):
        plan_pairs("toy", 0, usage, Rate(2.0, "given"), "toy GPU", 4)


def test_disk_of_a_pair_and_its_print() -> None:
    assert assumed_disk_bytes(1024, 1024) == pytest.approx(2 * 1024 * 1024 * 1.8)
    assert [format_bytes(value) for value in (5, 2500, 3.4e6, 1.06e12)] == ["5 B", "2.5 kB", "3.4 MB", "1.06 TB"]
