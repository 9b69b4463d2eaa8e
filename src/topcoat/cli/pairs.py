"""`topcoat pairs specs`, `plan` and `build`: model pairs, what a dataset of them takes, and making it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topcoat.cli.console import Output, command, terminated_like_interrupted
from topcoat.cli.options import (
    BatchSizeOption,
    DryRunOption,
    ImageFormatOption,
    OffloadOption,
    PairOption,
    PricesOption,
    PromptColumnOption,
    PromptsFileOption,
    UsdOption,
    UtilisationOption,
    choose_prompts,
    licence_lines,
    names,
    next_training,
    say_what_is_read,
    show_bill,
    step_list,
)
from topcoat.errors import UsageError

if TYPE_CHECKING:
    from topcoat.generators.base import GeneratorSpec

_SHOWN = 20


@command(
    "specs",
    examples=("topcoat pairs specs", "topcoat pairs specs flux1 > mine.yaml", "topcoat pairs specs sdxl --json"),
)
def specs(
    out: Output,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A pair or a spec file; none lists all.")] = None,
) -> None:
    """List the model pairs, or print one as YAML to save, edit and use as --pair mine.yaml."""
    from topcoat.generators.presets import PRESETS, model_pair, pair_as_yaml

    if name is not None:
        pair = model_pair(name)
        out.line(pair_as_yaml(pair).rstrip("\n"))
        out.result(pair.model_dump(mode="json"))
        return
    pairs = [model_pair(each) for each in PRESETS]
    out.table(
        "Model pairs",
        ("pair", "side", "model", "steps", "guidance", "size", "dtype", "licence"),
        [
            (pair.name, side, _model(spec), spec.steps, f"{spec.guidance_scale:g}",
             f"{spec.width_px}x{spec.height_px}", spec.dtype, spec.licence.name)
            for pair in pairs
            for side, spec in pair.sides.items()
        ],
    )  # fmt: skip
    out.line("topcoat pairs specs NAME prints every setting of one pair, as a file to edit")
    out.result({"pairs": [pair.model_dump(mode="json") for pair in pairs]})


def _model(spec: GeneratorSpec) -> str:
    """Hub id, or what a local model is called; other weights and LoRAs behind a plus."""
    local = spec.model.startswith(("/", "."))
    return " + ".join([spec.name if local else spec.model, *(model for model, _ in spec.sources[1:])])


@command(
    "plan",
    computes=True,
    examples=(
        "topcoat pairs plan --pair flux1 --count 280000 --gpu h100:8",
        "topcoat pairs plan --pair flux2-klein --count 50000 --gpu a100:4 --utilisation 0.35",
        "topcoat pairs plan --count 10000 --measure 8 --usd-per-hour 0.20",
    ),
)
def plan(
    out: Output,
    pair: PairOption = "mini",
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Pairs, two images each.")] = 10_000,
    gpu: Annotated[str | None, typer.Option(help="GPU and how many, such as h100:8.")] = None,
    utilisation: UtilisationOption = None,
    usd_per_hour: UsdOption = None,
    prices: PricesOption = None,
    measure: Annotated[
        int | None, typer.Option(min=1, help="Generate this many pairs here instead of assuming a speed.")
    ] = None,
    batch_size: BatchSizeOption = 4,
) -> None:
    """Say what a dataset takes: images, TFLOP, GPU-hours, money and disk, and where each figure comes from.

    With --measure N, seconds and bytes are those of N pairs generated on this machine, and so are the hours.
    """
    from topcoat.cost.measure import measured_usage
    from topcoat.cost.memory import memory_figures
    from topcoat.cost.pricing import (
        computed_usage,
        find_gpu,
        gpus_from_text,
        load_prices,
        pair_tflop,
        plan_pairs,
        rate_of,
    )
    from topcoat.generators.presets import model_pair

    if measure is not None and utilisation is not None:
        raise UsageError("--measure times this machine, so --utilisation has no meaning; leave one of them out")
    models = model_pair(pair)
    name, gpus = ("this machine", 1) if gpu is None else gpus_from_text(gpu)
    known = None if gpu is None else find_gpu(name, load_prices(prices))
    rate = None if known is None and usd_per_hour is None else rate_of(known, usd_per_hour, utilisation)
    tflop = pair_tflop(models)
    if measure is not None:
        with out.progress("generating to measure") as progress:
            usage = measured_usage(models, tflop, measure, batch_size, progress)
    else:
        usage = computed_usage(models, tflop, None if known is None else rate)
    bill = plan_pairs(count, usage, rate, known.name if known else name, gpus) | memory_figures(models)
    figures, licences = show_bill(out, f"{count:,} pairs of {models.name}", bill), licence_lines(models)
    if usage.gpu_seconds is None:
        out.line("Hours and money: name a GPU (--gpu rtx4090 or h100:8), or generate a few pairs here (--measure 8)")
    elif rate is None:
        out.line("Money: give --usd-per-hour, or name a GPU of the price table (--gpu)")
    out.line(*licences)
    out.result({"pair": models.name, "gpus": gpus, **figures, "per_pair": asdict(usage), "licences": licences})


@command(
    "build",
    computes=True,
    examples=(
        "topcoat pairs build pairs/ --count 2000",
        "topcoat pairs build pairs/ --count 2000 --filter blank --filter same-subject",
        "topcoat pairs build pairs/ --count 2000 --distilled-steps 1,2,4 --latents",
        "topcoat pairs build flux-pairs/ --pair flux1 --count 10000 --dry-run",
        "topcoat pairs build other/ --pair other-lora.yaml --count 10000 --baseline-from pairs/",
        "topcoat pairs build aligned/ --pairing img2img --strength 0.5",
        "topcoat pairs build mine/ --prompts prompts.parquet --engine ray --address auto",
    ),
)
def build(
    out: Output,
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the dataset; the same command resumes.")],
    pair: PairOption = "mini",
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", min=1, help="Prompts, one pair each: 200 sampled ones, or all of --prompts."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sampled prompts.")] = 0,
    prompts_file: PromptsFileOption = None,
    prompt_column: PromptColumnOption = None,
    pairing: Annotated[
        str, typer.Option(help="same-seed, or img2img: the baseline starts from the distilled image.")
    ] = "same-seed",
    strength: Annotated[
        float | None, typer.Option(help="For img2img: share of the image that noise replaces, above 0 to 1.")
    ] = None,
    distilled_steps: Annotated[
        Sequence[int], typer.Option(parser=step_list, metavar="N,N", help="Further step counts of the distilled model.")
    ] = (),
    latents: Annotated[bool, typer.Option("--latents", help="Keep the distilled latents too, as float16.")] = False,
    baseline_latents: Annotated[
        bool, typer.Option("--baseline-latents", help="Keep the baseline latents too, for training on latents.")
    ] = False,
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", help="Leave pairs out: blank, same-subject or module:function; repeatable."),
    ] = None,
    calibration: Annotated[Path | None, typer.Option(help="Thresholds that pairs inspect --calibrate wrote.")] = None,
    baseline_from: Annotated[
        Path | None, typer.Option(help="Pairs of the same baseline, whose baseline images are used again.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images at a time; 16, or what the folder has.")] = None,
    offload: OffloadOption = None,
    shard_size: Annotated[int, typer.Option(min=1, help="Pairs in one Parquet file.")] = 250,
    image_format: ImageFormatOption = "png",
    engine: Annotated[str, typer.Option(help="local, or ray for many machines.")] = "local",
    address: Annotated[str | None, typer.Option(help="For ray: the cluster; auto finds one.")] = None,
    workers: Annotated[int | None, typer.Option(help="For ray: actors; one for each GPU.")] = None,
    devices: Annotated[str | None, typer.Option(help="For local: a process on each, such as cuda:0,cuda:1.")] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Generate each prompt with the distilled model and with the baseline, and keep both images."""
    from topcoat.config import parse_config
    from topcoat.cost.table import count_steps
    from topcoat.generators.presets import model_pair
    from topcoat.pairs.schema import PairingConfig

    output = output.expanduser()
    chosen = model_pair(pair).offloaded(offload)
    prompts = choose_prompts(out, chosen.name, prompts_file, prompt_column, count, seed)
    settings = {
        "method": pairing,
        "strength": strength,
        "distilled_steps": tuple(distilled_steps),
        "latents": latents,
        "baseline_latents": baseline_latents,
        "image_format": image_format,
    }
    config = parse_config(settings, PairingConfig, source="the options")
    licences = licence_lines(chosen)
    models = " and ".join(
        f"{spec.name} ({count_steps(spec.steps)}, {spec.width_px} x {spec.height_px} px)"
        for spec in chosen.sides.values()
    )
    out.line(f"{len(prompts)} pairs of {models}", *licences)
    texts = say_what_is_read(out, chosen, prompts)
    from topcoat.features import domain_flags
    from topcoat.pairs.build import build_pairs, plan_build
    from topcoat.pairs.engines import named_engine
    from topcoat.pairs.filters import SameSubjectFilter, open_filters

    chosen_filters = filters or []  # each worker loads filters by name for itself
    flags = domain_flags("embedded", chosen.name) if SameSubjectFilter.name in chosen_filters else []
    out.warn(*flags)
    opened = chosen_filters if calibration is None else open_filters(chosen_filters, calibration=calibration)
    runner = named_engine(engine, devices=None if devices is None else names(devices), address=address, workers=workers)
    given: dict[str, Any] = {
        "batch_size": batch_size,
        "shard_size": shard_size,
        "pairing": config,
        "filters": opened,
        "baseline_from": baseline_from,
    }
    if dry_run:
        from topcoat.cost.pricing import pair_tflop

        if calibration is None:
            open_filters(chosen_filters)
        build_plan = plan_build(output, prompts, chosen, **given)
        left, reused, total = len(build_plan.missing), build_plan.reused, None
        both = pair_tflop(chosen, config.distilled_steps)
        alone = pair_tflop(chosen, config.distilled_steps, baseline=False)
        if both is not None and alone is not None:
            total = (left - reused) * both + reused * alone
        there = f"{len(prompts) - left} pairs are there already, " if left < len(prompts) else ""
        out.line(
            f"{there}{left} are left to make",
            *([f"{reused} baseline images are taken from {baseline_from}"] if reused else []),
            "computed cost: unknown for this model" if total is None else f"computed cost: {total:,.4g} TFLOP",
            f"Nothing was made; leave --dry-run out to write {output}",
        )
        out.result(
            {
                "dry_run": True,
                "pairs": len(prompts),
                "left": left,
                "texts": texts,
                "licences": licences,
                "tflop": total,
            }
        )
        return

    out.on_interrupt = "run the same command again: finished shards are kept, the one that was begun was dropped"
    with terminated_like_interrupted(), out.progress("making pairs") as progress:
        dataset = build_pairs(output, prompts, chosen, **given, engine=runner, on_progress=progress)
    failures, dropped = dataset.manifest.failures, dataset.manifest.dropped
    out.warn(*(f"pair {failure.id} was not made: {failure.error}" for failure in failures[:_SHOWN]))
    if failures:
        out.warn(
            f"{len(failures)} of {len(prompts)} pairs could not be made; manifest.json lists them with the reason, "
            "and the same command tries them again"
        )
    left_out = f", {len(dropped)} left out by filters" if dropped else ""
    out.line(f"{len(dataset)} pairs in {output}{left_out}", next_training(dataset, output))
    out.result(
        {
            "folder": str(output),
            "pairs": len(dataset),
            "texts": texts,
            "failures": [failure.id for failure in failures],
            "dropped": [item.id for item in dropped],
            "flags": flags,
            "digest": dataset.digest,
            "licences": licences,
        }
    )
    if failures:
        raise typer.Exit(1)
