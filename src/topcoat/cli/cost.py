"""`topcoat cost`: what a pair costs per image, computed or measured, in TFLOP, seconds and money."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.options import (
    NO_HEAD,
    BaselineStepsOption,
    BatchSizeOption,
    DistilledStepsOption,
    OffloadOption,
    PairOption,
    PricesOption,
    UsdOption,
    UtilisationOption,
    show_bill,
)
from topcoat.embedded import DEFAULT_HEAD
from topcoat.errors import UsageError

_PIECES = {"piece": "{label}", "TFLOP": "{tflop:tflop}", "share": "{share:.1%}"}
_PRICES = {
    "pipeline": "{name}", "steps": "{steps}", "seconds": "{seconds:.4g}",
    "USD an image": "{usd:.3g}", "USD a million": "{usd_per_million:,.2f}",
}  # fmt: skip
_USAGE = {
    "pipeline": "{name}", "steps": "{steps}",
    "seconds an image": "{seconds[median_seconds]:.4g} ({seconds[low]:.4g} to {seconds[high]:.4g})",
    "images/s": "{images_per_second:.3g}", "peak memory": "{peak_memory_bytes:bytes}", "joules": "{joules:.3g}",
}  # fmt: skip
_ALTERNATIVES = {
    "alternative": "{name}", "steps": "{steps}", "TFLOP": "{value:tflop}", "saves": "{share:.1%}",
    "against": "{against}, {against_steps} steps, {against_value:tflop}", "counts": "{counts}, {size}",
    "kind": "{kind}",
}  # fmt: skip


@command(
    "cost",
    computes=True,
    examples=(
        "topcoat cost",
        "topcoat cost --pair flux1 --size 1024 --baseline-steps 20,28,50 --distilled-steps 1,2,4",
        "topcoat cost --pair flux1 --price h100 --rivals",
        "topcoat cost --pair flux1 --price h100 --tco --images-per-month 1000000",
        "topcoat cost --measure --repeats 5",
        "topcoat cost --pair flux1 --measure --random-weights",
    ),
)
def cost(
    out: Output,
    pair: PairOption = "mini",
    head: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Head folder, embedded (the default), embedded-refiner, embedded-decoder, or none."
        ),
    ] = None,
    size: Annotated[int | None, typer.Option(min=16, help="Side in px; the pair's own by default.")] = None,
    baseline_steps: BaselineStepsOption = (28,),
    distilled_steps: DistilledStepsOption = (),
    price: Annotated[str | None, typer.Option(help="GPU of the price table, such as h100.")] = None,
    usd_per_hour: UsdOption = None,
    prices: PricesOption = None,
    utilisation: UtilisationOption = None,
    rivals: Annotated[
        bool, typer.Option("--rivals", help="Also the alternatives: fewer steps, caching, few-step LoRAs, klein.")
    ] = False,
    tco: Annotated[bool, typer.Option("--tco", help="Also the total cost of ownership.")] = False,
    images_per_month: Annotated[int, typer.Option(help="Images a month, for --tco.")] = 1_000_000,
    pairs: Annotated[int, typer.Option(help="Pairs that are built once, for --tco.")] = 10_000,
    training_images: Annotated[int, typer.Option(help="Images seen in training, for --tco.")] = 500_000,
    measure: Annotated[bool, typer.Option("--measure", help="Time the pair here instead of only counting.")] = False,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="With --measure: full size, no weights needed.")
    ] = False,
    compile_: Annotated[bool, typer.Option("--compile", help="With --measure: through torch.compile.")] = False,
    repeats: Annotated[int, typer.Option(min=1, help="With --measure: timed runs of each row.")] = 3,
    batch_size: BatchSizeOption = 1,
    offload: OffloadOption = None,
    device: Annotated[str, typer.Option(help="With --random-weights: where; the GPU if there is one.")] = "auto",
) -> None:
    """Count TFLOP per image: text encoders, steps, decode and head. Computed from the configs, no weights needed.

    Seconds and money follow from the count and a stated share of a GPU's peak, or with --measure from timed runs.
    """
    from topcoat.cost.alternatives import alternatives
    from topcoat.cost.flops import pair_cost
    from topcoat.cost.machine import hardware
    from topcoat.cost.measure import needed_bytes
    from topcoat.cost.pricing import computed_prices, find_gpu, load_prices, rate_of, total_cost
    from topcoat.generators.presets import model_pair
    from topcoat.heads.head import Head

    if random_weights and not measure:
        raise UsageError("--random-weights is for timing; add --measure, or leave it out to count")
    if tco and price is None:
        raise UsageError("--tco needs a GPU to compute seconds for; add --price, such as --price h100")
    if usd_per_hour is not None and price is None and not measure:
        raise UsageError(
            "--usd-per-hour alone does not say how fast the GPU is; add --price with a GPU of the table, or --measure"
        )
    gpu = None if price is None else find_gpu(price, load_prices(prices))
    rate = None if gpu is None and usd_per_hour is None else rate_of(gpu, usd_per_hour, utilisation)
    models = model_pair(pair).offloaded(offload)
    loaded = None if head == NO_HEAD else Head.load(head or DEFAULT_HEAD)
    table = pair_cost(models, loaded, size, baseline_steps=baseline_steps)
    tables = [table.at_distilled_steps(count) for count in distilled_steps or [table.distilled.steps]]
    record: dict[str, Any] = {"tables": [item.as_dict() for item in tables]}
    for item in tables:
        out.line(f"{item.pair} at {item.size}, TFLOP per image, computed; 2 FLOP per multiply-add")
        for one in (item.enhanced, *item.baseline_at):
            out.records(one.title, _PIECES, one.as_dict()["rows"])
        out.line(*(saving.sentence for saving in item.savings))
    if rivals:
        record["alternatives"] = rows = [one.as_dict() for one in alternatives(models, table)]
        out.records("Alternatives, each against the baseline that its own row names", _ALTERNATIVES, rows)
        out.line(*(f"{row['name']}: {row['note']}" for row in rows if row["note"]))
    if tco and rate is not None:
        bill = total_cost(table, rate, images_per_month=images_per_month, pairs=pairs, training_images=training_images)
        record["tco"] = show_bill(out, "Total cost of ownership", bill)
    costs = []
    if measure:
        from topcoat.benchmark.usage import TimingPlan, measured_savings, time_pair

        counts = [item.distilled.steps for item in tables], [one.steps for one in table.baseline_at]
        plan = TimingPlan(*counts, batch_size, repeats, compile_)
        if random_weights:
            for spec in models.sides.values():
                needed = needed_bytes(spec) / 2**30
                out.line(f"{spec.name} with random weights needs {needed:.1f} GiB in {spec.dtype} (computed)")
        random_weights_on = device if random_weights else None
        with out.progress("timing") as progress:
            usages = time_pair(models, loaded, plan, size, random_weights_on, progress)
        machine, savings = hardware(), measured_savings(models, table, usages)
        rows = [usage.as_dict() for usage in usages]
        record |= {"measured": rows, "savings": [one.as_dict() for one in savings], "hardware": machine.as_dict()}
        out.records(f"Measured on {machine}; {repeats} synchronised runs in turns, after a warm-up", _USAGE, rows)
        out.line(*{f"joules {usage.joules_note}" for usage in usages if usage.joules_note})
        out.line(*(saving.sentence for saving in savings))
        if rate is not None:
            costs = [rate.image(one.name, one.steps, one.seconds.median_seconds, "measured") for one in usages]
    elif gpu is not None and rate is not None:
        costs = computed_prices(tables, rate)
        peak = f"{gpu.bf16_tflops:g} TFLOP/s ({gpu.name}, cited: {gpu.bf16_source})"
        out.line(f"Seconds computed at {rate.utilisation:.0%} of {peak}")
    if costs and rate is not None:
        out.records(f"Money at {rate.usd_per_hour:g} USD per hour, {rate.source}", _PRICES, costs)
        record["money"] = {"usd_per_hour": rate.usd_per_hour, "source": rate.source, "rows": costs}
        record["money"] |= {} if measure or gpu is None else {"gpu": gpu.name, "utilisation": rate.utilisation}
    out.result(record)
