"""`topcoat pairs plan`: what a dataset takes before any of it is spent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.cost import PricesOption, UsdOption, UtilisationOption
from topcoat.cli.options import BatchSizeOption, PairOption, licence_lines
from topcoat.cli.pairs.app import app
from topcoat.errors import UsageError

if TYPE_CHECKING:
    from topcoat.cost.plan import PairUsage
    from topcoat.cost.prices import GpuPrice
    from topcoat.generators.base import ModelPair


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
        int | None, typer.Option("--measure", min=1, help="Paint this many pairs here instead of assuming a speed.")
    ] = None,
    batch_size: BatchSizeOption = 4,
) -> None:
    """Say what a dataset takes: images, TFLOP, GPU-hours, money and disk, and where each figure comes from.

    With --measure N, seconds and bytes are those of N pairs painted on this machine, and the hours are this machine's.
    """
    from topcoat.cost.flops import pair_cost
    from topcoat.cost.money import rate_of
    from topcoat.cost.plan import plan_pairs
    from topcoat.cost.prices import find_gpu, gpus_from_text, load_prices
    from topcoat.generators.presets import model_pair

    if count < 1:
        raise UsageError(f"{count} pairs cannot be planned; use 1 or more")
    if measure is not None and utilisation is not None:
        raise UsageError("--measure times this machine, so --utilisation has no meaning; leave one of them out")
    chosen = model_pair(pair)
    name, gpus = ("this machine", 1) if gpu is None else gpus_from_text(gpu)
    known = None if gpu is None else find_gpu(name, load_prices(prices))
    rate = rate_of(known, usd_per_hour)
    table = pair_cost(chosen)
    tflop = table.distilled.tflop + table.baseline.tflop
    if measure is not None:
        usage = _measured(out, chosen, tflop, measure, batch_size)
    elif known is not None:
        usage = _computed(chosen, tflop, known, utilisation)
    else:
        raise UsageError("how fast it goes is not known; name a GPU (--gpu h100:8), or paint a few pairs (--measure 8)")
    found = plan_pairs(chosen.name, count, usage, rate, known.name if known else name, gpus)
    out.table(f"{count:,} pairs of {chosen.name}", ("what", "how much", "kind"), found.rows())
    for line in (*found.notes(), *licence_lines(chosen)):
        out.line(line)
    out.result({**found.as_dict(), "licences": licence_lines(chosen)})


def _computed(pair: ModelPair, tflop: float, gpu: GpuPrice, utilisation: float | None) -> PairUsage:
    from topcoat.cost.money import UTILISATION, gpu_seconds
    from topcoat.cost.plan import PNG_BYTES_PER_PIXEL, PairUsage, assumed_disk_bytes

    share = UTILISATION if utilisation is None else utilisation
    spec = pair.distilled
    return PairUsage(
        tflop=tflop,
        gpu_seconds=gpu_seconds(tflop, gpu, share),
        seconds_kind="computed",
        seconds_source=f"{share:.0%} (assumed) of {gpu.bf16_tflops:g} TFLOP/s dense bf16, cited: {gpu.bf16_source}",
        disk_bytes=assumed_disk_bytes(spec.width_px, spec.height_px),
        disk_kind="computed",
        disk_source=f"{PNG_BYTES_PER_PIXEL:g} bytes a pixel (assumed), two lossless images a pair",
    )


def _measured(out: Output, pair: ModelPair, tflop: float, count: int, batch_size: int) -> PairUsage:
    """Paint ``count`` pairs as the builder does, and read the clock and the bytes."""
    from topcoat.cost.measure import hardware, timed
    from topcoat.cost.plan import PairUsage
    from topcoat.generators.diffusers import load_pair
    from topcoat.images import encode_png
    from topcoat.prompts import sample_prompts

    generators = load_pair(pair)
    prompts = [prompt.text for prompt in sample_prompts(count, 0)]
    for generator in generators:
        generator.generate(prompts[:1], [0])  # the first image of a process also pays for what is set up once
    sizes: list[int] = []
    seconds = 0.0
    with out.progress("painting to measure") as progress:
        for start in range(0, count, batch_size):
            part = slice(start, min(start + batch_size, count))
            seeds = list(range(part.start, part.stop))

            def paint(part: slice = part, seeds: list[int] = seeds) -> None:
                for generator in generators:
                    sizes.extend(len(encode_png(image)) for image in generator.generate(prompts[part], seeds))

            seconds += timed(paint)
            progress(part.stop, count)
    return PairUsage(
        tflop=tflop,
        gpu_seconds=seconds / count,
        seconds_kind="measured",
        seconds_source=(
            f"{count} pairs painted here, {seconds / count:.3g} s each, batches of {batch_size}; {hardware()}"
        ),
        disk_bytes=2 * sum(sizes) / len(sizes),
        disk_kind="measured",
        disk_source=f"PNG images of these {count} pairs, {sum(sizes) / len(sizes):,.0f} bytes each",
    )
