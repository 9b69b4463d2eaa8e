"""`topcoat reproduce`: the paper's whole study, from pairs to one table."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from topcoat.cli.console import Output, command, terminated_like_interrupted
from topcoat.cli.options import (
    BatchSizeOption,
    DryRunOption,
    FeaturesOption,
    IdentityOption,
    OffloadOption,
    PairOption,
    held_out_subjects,
    licence_lines,
    names,
)
from topcoat.training import STUDY_RUNS

_HELD_OUT_SEED = 1


@command(
    "reproduce",
    computes=True,
    examples=(
        "topcoat reproduce --pair mini -o study/",
        "topcoat reproduce -o study/ --dry-run",
        "topcoat reproduce -o small/ --runs unet,decoder --pairs 1000 --train-images 20000 --held-out 200",
        "topcoat reproduce -o full/ --full-size",
    ),
)
def reproduce(
    out: Output,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the study; the same command resumes.")],
    pair: PairOption = "mini",
    runs: Annotated[str, typer.Option(help="Named runs or settings files, with commas between.")] = ",".join(
        STUDY_RUNS
    ),
    pairs: Annotated[int, typer.Option(min=1, help="Pairs that are built.")] = 8000,
    train_images: Annotated[
        int | None, typer.Option(min=1, help="Images that each run sees; its own number by default.")
    ] = None,
    held_out: Annotated[int, typer.Option(min=2, help="Held-out subjects that all heads are evaluated on.")] = 1000,
    full_size: Annotated[
        bool,
        typer.Option("--full-size", help="Train the paper's CycleGAN sizes without a GPU too, however long it takes."),
    ] = False,
    baseline_from: Annotated[
        Path | None, typer.Option(help="Pairs of the same baseline, whose baseline images are used again.")
    ] = None,
    batch_size: BatchSizeOption = 8,
    features: FeaturesOption = "embedded",
    identity: IdentityOption = None,
    offload: OffloadOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Build pairs, train the paper's heads and ours, evaluate all on the same held-out subjects, write one table.

    Without a GPU the CycleGAN runs are narrower than the paper's, and the table says so.
    """
    from topcoat.benchmark.study import Study
    from topcoat.benchmark.study_plan import study_runs
    from topcoat.cost.table import format_tflop
    from topcoat.generators.presets import model_pair
    from topcoat.prompts import sample_style, style_of_pair

    chosen = model_pair(pair).offloaded(offload)
    planned = study_runs(names(runs), chosen, train_images=train_images, full_size=True if full_size else None)
    work = Study(
        chosen,
        planned,
        sample_style(style_of_pair(chosen.name), pairs, 0),
        *held_out_subjects(chosen.name, held_out, _HELD_OUT_SEED),
        output=output,
        batch_size=batch_size,
        baseline_from=baseline_from,
        features=features,
        identity=identity,
    )
    out.line(*licence_lines(chosen))
    for run in planned:
        if run.changed:
            out.warn(f"{run.name}: {', '.join(run.changed)} ({run.reason})")
    if dry_run:
        stages = work.plan()
        out.table(
            f"What {work.folder} would take, computed; training counts passes of the networks that make images",
            ("stage", "what", "TFLOP"),
            [(stage.name, stage.what, format_tflop(stage.tflop)) for stage in stages],
        )
        total = sum(stage.tflop for stage in stages)
        out.line(f"{format_tflop(total)} TFLOP in all. Nothing was made; leave --dry-run out to start")
        settings = {run.name: run.model_dump(mode="json") for run in work.runs}
        out.result({"dry_run": True, "stages": [asdict(stage) for stage in stages], "tflop": total, "runs": settings})
        return

    from topcoat.reports.benchmark import write_benchmark
    from topcoat.reports.benchmark_tables import SHORT, headline, notes, table

    out.lock(output)
    out.on_interrupt = "run the same command again: it goes on where it stopped"
    with terminated_like_interrupted():
        for stage in work.stages():
            with out.progress(stage.name) as progress:
                sentence = stage.run(progress)
            out.line(f"{stage.name}: {sentence}")
        write_benchmark(output, work.result)
    rows = table(work.result, SHORT, ends=False)
    out.table(headline(work.result), rows.columns, rows.rows)
    out.line(*notes(work.result), f"Written: {output / 'study.html'}, study.md, study.json and contact sheets")
    out.result(work.result.as_dict())
