"""Computed cost: TFLOP of every preset and head by piece, savings, and money as arithmetic on them."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from tests.oracles.golden import Golden
from topcoat.cost import (
    CostTable,
    PairUsage,
    PipelineCost,
    Rate,
    find_gpu,
    gpu_seconds,
    head_tflop,
    load_prices,
    ownership,
    pair_cost,
    plan_pairs,
    price_of,
    rivals,
)
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
        "saving": [table.saving(cost.steps) for cost in table.baseline_at],
        "denoiser_saving": [table.transformer_saving(cost.steps) for cost in table.baseline_at],
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
    table, gpu, rate = table_of("flux1"), find_gpu("h100", load_prices()), Rate(2.0, "given")
    seconds = gpu_seconds(table.enhanced.tflop, gpu, 0.4)
    usage = PairUsage(table.distilled.tflop + table.baseline.tflop, 30.0, "computed", "", 4e6, "cited", "")
    plan = plan_pairs("flux1", 10_000, usage, rate, gpu.name, 8)
    owned = ownership(table, gpu, rate, 0.4, images_per_month=100_000, pairs=10_000, training_images=200_000)
    return {
        "tflops": gpu.bf16_tflops,
        "image_seconds": seconds,
        "image_usd": price_of(seconds, "computed", rate).usd,
        "plan": [plan.tflop, plan.gpu_hours, plan.wall_hours, plan.usd, plan.disk_bytes],
        "ownership": {
            "pairs_usd": owned.pairs_usd,
            "training_usd": owned.training_usd,
            "image_usd": owned.image_usd,
            "baseline_image_usd": owned.baseline_image_usd,
            "payback_images": owned.payback_images,
        },
        "alternatives": [
            [one.steps, one.tflop, one.against_steps, one.against_tflop] for one in rivals(model_pair("flux1"), table)
        ],
    }


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
