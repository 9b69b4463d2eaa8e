"""Computed cost: TFLOP of every preset and head by piece, savings, and money as arithmetic on them."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from tests.oracles.golden import Golden
from topcoat.cost.alternatives import alternatives
from topcoat.cost.flops import head_tflop, pair_cost
from topcoat.cost.pricing import (
    Bill,
    Figure,
    PairUsage,
    Rate,
    find_gpu,
    load_prices,
    plan_pairs,
    total_cost,
)
from topcoat.cost.table import CostTable, PipelineCost
from topcoat.generators.presets import model_pair
from topcoat.heads import Head

# Adapters: change these with the library, never the golden values.


EMBEDDED_NAMES = {"image": "embedded", "decoder": "embedded-decoder", "refiner": "embedded-refiner"}
"""Their names in the golden values, and the library's."""


@functools.cache
def table_of(pair: str) -> CostTable:
    """With the embedded head where there is one for it: the image head of 128 px stands in for one of any pair."""
    return pair_cost(model_pair(pair), Head.default())


def costs(pair: str) -> dict[str, Any]:
    table = table_of(pair)
    return {
        "size_px": [table.width_px, table.height_px],
        "distilled": _pipeline(table.distilled),
        "enhanced": _pipeline(table.enhanced),
        "baseline": [_pipeline(cost) for cost in table.baseline_at],
        "head": table.head_tflop,
        "saving": [table.saving(cost.steps).share for cost in table.baseline_at],
        "denoiser_saving": [table.saving(cost.steps, transformer_only=True).share for cost in table.baseline_at],
    }


def _pipeline(cost: PipelineCost) -> dict[str, Any]:
    pieces = [[row.tflop_each, row.times or 1, row.passes] for row in cost.rows]
    return {"steps": cost.steps, "tflop": cost.tflop, "denoiser_tflop": cost.denoiser_tflop, "pieces": pieces}


def head_costs(name: str) -> list[float]:
    """TFLOP at three sizes."""
    head = Head.load(EMBEDDED_NAMES[name])
    return [head_tflop(head, *size) for size in ((128, 128), (1024, 1024), (200, 136))]


def money() -> dict[str, Any]:
    """FLUX.1 on an H100 at 2 dollars an hour: an image, a plan of pairs, total cost of ownership, alternatives."""
    table, gpu = table_of("flux1"), find_gpu("h100", load_prices())
    rate = Rate(2.0, "given", gpu, 0.4)
    seconds = rate.seconds(table.enhanced.tflop)
    usage = PairUsage(
        table.distilled.tflop + table.baseline.tflop,
        Figure("seconds", 30.0, "seconds", "computed"),
        Figure("disk", 4e6, "bytes", "cited"),
    )
    plan = _values(plan_pairs(10_000, usage, rate, gpu.name, 8))
    tco = _values(total_cost(table, rate, images_per_month=100_000, pairs=10_000, training_images=200_000))
    return {
        "tflops": gpu.bf16_tflops,
        "image_seconds": seconds,
        "image_usd": rate.image("", 4, seconds, "computed")["usd"],
        "plan": [plan[key] for key in ("tflop", "gpu_hours", "wall_hours", "usd", "disk_bytes")],
        "ownership": {
            "pairs_usd": tco["pairs_usd"],
            "training_usd": tco["training_usd"],
            "image_usd": tco["million_usd"] / 1e6,
            "baseline_image_usd": tco["baseline_million_usd"] / 1e6,
            "payback_images": tco["payback_images"],
        },
        "alternatives": [
            [one.steps, one.value, one.against_steps, one.against_value]
            for one in alternatives(model_pair("flux1"), table)
        ],
    }


def _values(bill: Bill) -> dict[str, Any]:
    return {key: figure.value for key, figure in bill.items()}


PAIRS = ("flux1", "flux2-klein", "sdxl", "z-image", "mini")
HEADS = ("image", "decoder", "refiner")

# Oracles


@pytest.mark.parametrize("pair", PAIRS)
def test_pairs(golden: Golden, pair: str) -> None:
    golden.close(pair, costs(pair), rel=1e-9, abs=0)


@pytest.mark.parametrize("name", HEADS)
def test_heads(golden: Golden, name: str) -> None:
    golden.close(f"head {name}", head_costs(name), rel=1e-9, abs=0)


def test_money(golden: Golden) -> None:
    golden.close("money", money(), rel=1e-9, abs=0)
