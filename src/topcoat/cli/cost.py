"""`topcoat cost`: what a pair costs per image, computed or measured, in TFLOP, seconds and money, beside its rivals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.options import NO_HEAD, BatchSizeOption, PairOption, step_list
from topcoat.embedded import DEFAULT_HEAD
from topcoat.errors import UsageError

if TYPE_CHECKING:
    from topcoat.cost.prices import GpuPrice
    from topcoat.cost.table import CostTable, PipelineCost
    from topcoat.cost.usage import Usage
    from topcoat.generators.base import ModelPair
    from topcoat.heads.head import Head

app = typer.Typer()

PricesOption = Annotated[
    Path | None, typer.Option("--prices", help="Price table of your own (TOML, YAML or JSON); one is embedded.")
]
UsdOption = Annotated[float | None, typer.Option("--usd-per-hour", help="Price of one GPU for an hour, in USD.")]
UtilisationOption = Annotated[
    float | None,
    typer.Option(help="Share of the GPU's dense bf16 peak, for computed seconds; 0.4 by default, an assumption."),
]


@command(
    app,
    "cost",
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
            "--head",
            metavar="DIR",
            help="Head folder, embedded (the default), embedded-refiner, embedded-decoder, or none.",
        ),
    ] = None,
    size: Annotated[int | None, typer.Option("--size", min=16, help="Side in px; the pair's own by default.")] = None,
    baseline_steps: Annotated[
        Sequence[int], typer.Option(parser=step_list, metavar="N,N", help="Step counts of the baseline, with commas.")
    ] = (28,),
    distilled_steps: Annotated[
        Sequence[int],
        typer.Option(parser=step_list, metavar="N,N", help="Step counts of the distilled model; its own by default."),
    ] = (),
    price: Annotated[str | None, typer.Option("--price", help="GPU of the price table, such as h100.")] = None,
    usd_per_hour: UsdOption = None,
    prices: PricesOption = None,
    utilisation: UtilisationOption = None,
    rivals: Annotated[bool, typer.Option("--rivals", help="Also fewer steps, caching, few-step LoRAs, klein.")] = False,
    tco: Annotated[bool, typer.Option("--tco", help="Also the total cost with pairs and training.")] = False,
    images_per_month: Annotated[int, typer.Option(help="Images a month, for --tco.")] = 1_000_000,
    pairs: Annotated[int, typer.Option("--pairs", help="Pairs that are built once, for --tco.")] = 10_000,
    training_images: Annotated[int, typer.Option(help="Images seen in training, for --tco.")] = 500_000,
    measure: Annotated[bool, typer.Option("--measure", help="Time the pair here instead of only counting.")] = False,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="With --measure: full size, no weights needed.")
    ] = False,
    compile_: Annotated[bool, typer.Option("--compile", help="With --measure: through torch.compile.")] = False,
    repeats: Annotated[int, typer.Option(min=1, help="With --measure: timed runs of each row.")] = 3,
    batch_size: BatchSizeOption = 1,
    device: Annotated[str, typer.Option(help="With --random-weights: where; the GPU if there is one.")] = "auto",
) -> None:
    """Count TFLOP per image: text encoders, steps, decode and head. Computed from the configs, no weights needed.

    Seconds and money follow from the count and a stated share of a GPU's peak, or with --measure from timed runs.
    """
    from topcoat.cost.flops import pair_cost
    from topcoat.cost.prices import find_gpu, load_prices
    from topcoat.generators.presets import model_pair
    from topcoat.heads.head import Head

    if random_weights and not measure:
        raise UsageError("--random-weights is for timing; add --measure, or leave it out to count")
    if tco and price is None:
        raise UsageError("--tco needs a GPU to compute seconds for; add --price, such as --price h100")
    gpu = None if price is None else find_gpu(price, load_prices(prices))
    chosen = model_pair(pair)
    opened = None if head == NO_HEAD else Head.load(head or DEFAULT_HEAD)
    table = pair_cost(chosen, opened, size, baseline_steps=baseline_steps)
    tables = [table.at_distilled_steps(count) for count in distilled_steps or [table.distilled.steps]]
    for number, item in enumerate(tables):
        if number:
            out.line("")
        out.line(item.as_text())
    record: dict[str, Any] = {"tables": [item.as_dict() for item in tables]}
    if gpu is not None and not measure:
        record["money"] = _money(out, tables, gpu, usd_per_hour, utilisation)
    if rivals:
        record["rivals"] = _rivals(out, chosen, table)
    if tco and gpu is not None:
        record["tco"] = _ownership(out, table, gpu, usd_per_hour, utilisation, images_per_month, pairs, training_images)
    if measure:
        if usd_per_hour is None and gpu is not None:
            usd_per_hour = gpu.usd_per_hour
        timed = _measured(
            out, chosen, opened, size, tables, random_weights=random_weights, compiled=compile_, repeats=repeats,
            batch_size=batch_size, device=device,
        )  # fmt: skip
        record |= _measured_record(out, timed, usd_per_hour)
    elif usd_per_hour is not None and gpu is None:
        raise UsageError(
            "--usd-per-hour alone does not say how fast the GPU is; add --price with a GPU of the table, or --measure"
        )
    out.result(record)


def _money(
    out: Output, tables: list[CostTable], gpu: GpuPrice, usd_per_hour: float | None, utilisation: float | None
) -> dict[str, Any]:
    from topcoat.cost.money import UTILISATION, gpu_seconds, price_of, rate_of

    rate = rate_of(gpu, usd_per_hour)
    share = UTILISATION if utilisation is None else utilisation
    rows: list[tuple[str, ...]] = []
    records: list[dict[str, Any]] = []
    for item in _pipelines(tables):
        found = price_of(gpu_seconds(item.tflop, gpu, share), "computed", rate)
        rows.append((item.name, str(item.steps), *_money_cells(found.seconds, found.usd)))
        records.append({"name": item.name, "steps": item.steps, **found.as_dict()})
    out.line("")
    out.line(
        f"Money: seconds computed at {share:.0%} of {gpu.bf16_tflops:g} TFLOP/s ({gpu.name}, cited: {gpu.bf16_source})"
    )
    out.line(f"at {rate.usd_per_hour:g} USD per hour, {rate.source}")
    out.table(
        "",
        ("pipeline", "steps", "seconds", "USD an image", "USD a million"),
        rows,
    )
    return {
        "gpu": gpu.name,
        "utilisation": share,
        "usd_per_hour": rate.usd_per_hour,
        "source": rate.source,
        "rows": records,
    }


def _money_cells(seconds: float, usd: float) -> tuple[str, str, str]:
    return f"{seconds:.4g}", f"{usd:.3g}", f"{usd * 1e6:,.2f}"


def _pipelines(tables: list[CostTable]) -> list[PipelineCost]:
    """Distilled and distilled + head at every step count, then the baseline at each of its own."""
    found: list[PipelineCost] = []
    for table in tables:
        found += [table.distilled] if table.head_tflop else []
        found.append(table.enhanced)
    return [*found, *tables[0].baseline_at]


def _rivals(out: Output, pair: ModelPair, table: CostTable) -> list[dict[str, Any]]:
    from topcoat.cost.rivals import rivals
    from topcoat.cost.table import format_tflop

    found = rivals(pair, table)
    out.table(
        "Rivals, each against the baseline that its own row names",
        ("rival", "steps", "TFLOP", "saves", "against", "counts", "kind"),
        [
            (
                item.name,
                item.steps,
                format_tflop(item.tflop),
                f"{item.saving:.1%}",
                f"{item.against}, {item.against_steps} steps, {format_tflop(item.against_tflop)}",
                f"{item.counts}, {item.size}",
                item.kind,
            )
            for item in found
        ],
    )
    for item in found:
        if item.note:
            out.line(f"{item.name}: {item.note}")
    return [item.as_dict() for item in found]


def _ownership(
    out: Output,
    table: CostTable,
    gpu: GpuPrice,
    usd_per_hour: float | None,
    utilisation: float | None,
    images_per_month: int,
    pairs: int,
    training_images: int,
) -> dict[str, Any]:
    from topcoat.cost.money import UTILISATION, rate_of
    from topcoat.cost.ownership import TRAINING_PASSES, ownership

    found = ownership(
        table,
        gpu,
        rate_of(gpu, usd_per_hour),
        UTILISATION if utilisation is None else utilisation,
        images_per_month=images_per_month,
        pairs=pairs,
        training_images=training_images,
    )
    out.line(f"Total cost at {images_per_month:,} images a month, computed")
    out.line(f"training: {TRAINING_PASSES} passes of the head for each image seen, loss nets not counted")
    out.table(
        "",
        ("what", "how much"),
        found.rows(),
    )
    return found.as_dict()


def _measured(
    out: Output,
    pair: ModelPair,
    head: Head | None,
    size: int | None,
    tables: list[CostTable],
    *,
    random_weights: bool,
    compiled: bool,
    repeats: int,
    batch_size: int,
    device: str,
) -> list[Usage]:
    import torch

    from topcoat.cost.timing import TimingPlan, needed_bytes, time_generators, time_random_weights
    from topcoat.generators.diffusers import load_pair

    plan = TimingPlan(
        distilled_steps=[table.distilled.steps for table in tables],
        baseline_steps=[cost.steps for cost in tables[0].baseline_at],
        batch_size=batch_size,
        repeats=repeats,
        compile=compiled,
    )
    found: list[Usage] = []
    if random_weights:
        name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        for spec in (pair.distilled, pair.baseline):
            needed = needed_bytes(spec) / 2**30
            out.line(f"{spec.name} with random weights needs {needed:.1f} GiB in {spec.dtype} (computed)")
        rows = time_random_weights(pair, head, None if size is None else (size, size), torch.device(name), plan)
    else:
        if size is not None and size != pair.distilled.width_px:
            raise UsageError(
                f"the loaded pair paints {pair.distilled.width_px} px, not {size}; leave --size out, change it in "
                "a spec file, or use --random-weights"
            )
        rows = time_generators(pair, load_pair(pair), head, plan)
    total = len(plan.distilled_steps) * (1 if head is None else 2) + len(plan.baseline_steps)
    with out.progress("timing") as progress:
        for usage in rows:
            found.append(usage)
            progress(len(found), total)
    return found


def _measured_record(out: Output, found: list[Usage], usd_per_hour: float | None) -> dict[str, Any]:
    from topcoat.cost.measure import hardware
    from topcoat.cost.money import Rate, price_of

    machine = hardware()
    out.table(
        f"Measured on {machine}; median and spread of {found[0].seconds.runs} synchronised runs after warm-up",
        ("pipeline", "steps", "seconds an image", "images/s", "peak memory", "joules"),
        [usage.row() for usage in found],
    )
    if found[0].joules_note:
        out.line(f"joules {found[0].joules_note}")
    record: dict[str, Any] = {"measured": [usage.as_dict() for usage in found], "hardware": machine.as_dict()}
    if usd_per_hour is not None:
        rate = Rate(usd_per_hour, "given or from the price table")
        priced = [price_of(usage.seconds.median_seconds, "measured", rate) for usage in found]
        out.table(
            f"Money from measured seconds at {usd_per_hour:g} USD per hour of this machine",
            ("pipeline", "steps", "seconds", "USD an image", "USD a million"),
            [
                (usage.name, usage.steps, *_money_cells(item.seconds, item.usd))
                for usage, item in zip(found, priced, strict=True)
            ],
        )
        record["money"] = [item.as_dict() for item in priced]
    return record
