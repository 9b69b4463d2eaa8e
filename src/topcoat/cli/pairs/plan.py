"""`topcoat pairs plan`: what a dataset takes before any of it is spent."""

from __future__ import annotations

from typing import Annotated

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.options import (
    BatchSizeOption,
    PairOption,
    PricesOption,
    UsdOption,
    UtilisationOption,
    licence_lines,
    show_bill,
)
from topcoat.cli.pairs.app import app
from topcoat.errors import UsageError


@command(
    app,
    "plan",
    examples=(
        "topcoat pairs plan --pair flux1 --count 280000 --gpu h100:8",
        "topcoat pairs plan --pair flux2-klein --count 50000 --gpu a100:4 --utilisation 0.35",
        "topcoat pairs plan --count 10000 --measure 8 --usd-per-hour 0.20",
    ),
)
def plan(
    out: Output,
    pair: PairOption = "mini",
    count: Annotated[int, typer.Option("--count", "-n", help="Pairs, two images each.")] = 10_000,
    gpu: Annotated[str | None, typer.Option("--gpu", help="GPU and how many, such as h100:8.")] = None,
    utilisation: UtilisationOption = None,
    usd_per_hour: UsdOption = None,
    prices: PricesOption = None,
    measure: Annotated[
        int | None, typer.Option("--measure", min=1, help="Generate this many pairs here instead of assuming a speed.")
    ] = None,
    batch_size: BatchSizeOption = 4,
) -> None:
    """Say what a dataset takes: images, TFLOP, GPU-hours, money and disk, and where each figure comes from.

    With --measure N, seconds and bytes are those of N pairs generated on this machine, and so are the hours.
    """
    from dataclasses import asdict

    from topcoat.cost.flops import pair_cost
    from topcoat.cost.measure import measured_usage
    from topcoat.cost.pricing import (
        computed_usage,
        find_gpu,
        gpus_from_text,
        load_prices,
        plan_pairs,
        rate_of,
    )
    from topcoat.generators.presets import model_pair

    if count < 1:
        raise UsageError(f"{count} pairs cannot be planned; use 1 or more")
    if measure is not None and utilisation is not None:
        raise UsageError("--measure times this machine, so --utilisation has no meaning; leave one of them out")
    models = model_pair(pair)
    name, gpus = ("this machine", 1) if gpu is None else gpus_from_text(gpu)
    known = None if gpu is None else find_gpu(name, load_prices(prices))
    rate = rate_of(known, usd_per_hour)
    table = pair_cost(models)
    tflop = table.distilled.tflop + table.baseline.tflop
    if measure is not None:
        with out.progress("generating to measure") as progress:
            usage = measured_usage(models, tflop, measure, batch_size, progress)
    elif known is not None:
        usage = computed_usage(models, tflop, known, utilisation)
    else:
        raise UsageError("the speed is unknown; name a GPU (--gpu h100:8), or generate a few pairs (--measure 8)")
    bill = plan_pairs(count, usage, rate, known.name if known else name, gpus)
    figures = show_bill(out, f"{count:,} pairs of {models.name}", bill)
    out.lines(licence_lines(models))
    out.result(
        {"pair": models.name, "gpus": gpus, **figures, "per_pair": asdict(usage), "licences": licence_lines(models)}
    )
