"""`topcoat pairs build`: generate every prompt with both models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from topcoat.cli.console import Output, command, terminated_like_interrupted
from topcoat.cli.options import (
    DryRunOption,
    PairOption,
    PromptColumnOption,
    PromptsFileOption,
    choose_prompts,
    describe_generator,
    licence_lines,
    step_list,
)
from topcoat.cli.pairs.app import app

_SHOWN_FAILURES = 20


@command(
    app,
    "build",
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
    count: Annotated[int, typer.Option("--count", "-n", help="Sampled prompts, one pair each.")] = 200,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the sampled prompts, 0 or more.")] = 0,
    prompts_file: PromptsFileOption = None,
    prompt_column: PromptColumnOption = None,
    pairing: Annotated[
        str,
        typer.Option("--pairing", help="same-seed, or img2img: the baseline starts from the distilled image."),
    ] = "same-seed",
    strength: Annotated[
        float | None,
        typer.Option("--strength", help="For img2img: share of the image that noise replaces, above 0 to 1."),
    ] = None,
    distilled_steps: Annotated[
        Sequence[int],
        typer.Option(
            "--distilled-steps", parser=step_list, metavar="N,N", help="Further step counts of the distilled model."
        ),
    ] = (),
    latents: Annotated[bool, typer.Option("--latents", help="Keep the distilled latents too, as float16.")] = False,
    baseline_latents: Annotated[
        bool, typer.Option("--baseline-latents", help="Keep the baseline latents too, for training on latents.")
    ] = False,
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", help="Leave pairs out: blank, same-subject or module:function; repeatable."),
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option("--calibration", help="Thresholds that pairs inspect --calibrate wrote.")
    ] = None,
    baseline_from: Annotated[
        Path | None,
        typer.Option("--baseline-from", help="Pairs of the same baseline, whose baseline images are used again."),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Images at a time; 16, or what the folder has.")
    ] = None,
    shard_size: Annotated[int, typer.Option("--shard-size", min=1, help="Pairs in one Parquet file.")] = 250,
    engine: Annotated[str, typer.Option("--engine", help="local, or ray for many machines.")] = "local",
    address: Annotated[str | None, typer.Option("--address", help="For ray: the cluster; auto finds one.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", help="For ray: actors; one for each GPU.")] = None,
    devices: Annotated[
        str | None, typer.Option("--devices", help="For local: a process on each, such as cuda:0,cuda:1.")
    ] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Generate each prompt with the distilled model and with the baseline, and keep both images."""
    from topcoat.config import parse_config
    from topcoat.generators.presets import model_pair
    from topcoat.pairs.schema import PairingConfig

    chosen = model_pair(pair)
    prompts = choose_prompts(out, chosen.name, prompts_file, prompt_column, count, seed)
    settings = {
        "method": pairing,
        "strength": strength,
        "distilled_steps": tuple(distilled_steps),
        "latents": latents,
        "baseline_latents": baseline_latents,
    }
    config = parse_config(settings, PairingConfig, source="the options")
    licences = licence_lines(chosen)
    out.line(
        f"{len(prompts)} pairs of {describe_generator(chosen.distilled)} and {describe_generator(chosen.baseline)}"
    )
    for line in licences:
        out.line(line)
    if dry_run:
        from topcoat.cost.pricing import pair_tflop

        tflop = pair_tflop(chosen, config.distilled_steps)
        total = None if tflop is None else len(prompts) * tflop
        out.line("computed cost: unknown for this model" if total is None else f"computed cost: {total:,.4g} TFLOP")
        out.line(f"Nothing was made; leave --dry-run out to write {output}")
        out.result({"dry_run": True, "pairs": len(prompts), "licences": licences, "tflop": total})
        return

    from topcoat.pairs.build import build_pairs
    from topcoat.pairs.engines import named_engine
    from topcoat.pairs.filters import open_filters

    names = filters or []  # each worker loads filters by name for itself
    on = None if devices is None else [device for device in devices.split(",") if device]
    out.on_interrupt = "run the same command again: finished shards are kept, the one that was begun was dropped"
    with terminated_like_interrupted(), out.progress("making pairs") as progress:
        dataset = build_pairs(
            output,
            prompts,
            chosen,
            batch_size=batch_size,
            shard_size=shard_size,
            pairing=config,
            filters=names if calibration is None else open_filters(names, calibration=calibration),
            engine=named_engine(engine, devices=on, address=address, workers=workers),
            baseline_from=baseline_from,
            on_progress=progress,
        )
    failures, dropped = dataset.manifest.failures, dataset.manifest.dropped
    for failure in failures[:_SHOWN_FAILURES]:
        out.warn(f"pair {failure.id} was not made: {failure.error}")
    if failures:
        out.warn(
            f"{len(failures)} of {len(prompts)} pairs could not be made; manifest.json lists them with the reason, "
            "and the same command tries them again"
        )
    out.line(f"{len(dataset)} pairs in {output}" + (f", {len(dropped)} left out by filters" if dropped else ""))
    out.line(f"Next: topcoat train unet --data {output} -o runs/unet")
    out.result(
        {
            "folder": str(output),
            "pairs": len(dataset),
            "failures": [failure.id for failure in failures],
            "dropped": [item.id for item in dropped],
            "digest": dataset.digest,
            "licences": licences,
        }
    )
    if failures:
        raise typer.Exit(1)
