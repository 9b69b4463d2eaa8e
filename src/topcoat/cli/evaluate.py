"""`topcoat evaluate`: scores of folders of images, or of a head on a dataset of pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.options import (
    FeaturesOption,
    HeadOption,
    IdentityFloorOption,
    IdentityOption,
    NeverWorseOption,
    StrengthOption,
    names,
    need_head,
)
from topcoat.errors import UsageError
from topcoat.prompts import Split

_ALL = "all"


@command(
    "evaluate",
    computes=True,
    examples=(
        "topcoat evaluate --data pairs/ --split test -o report/",
        "topcoat evaluate --data pairs/ --head runs/unet --floor other-seeds/ -o report/",
        "topcoat evaluate --data pairs/ --head runs/unet --identity-floor calibrated --never-worse -o report/",
        "topcoat evaluate --distilled a/ --enhanced b/ --baseline c/ --floor d/ --groups people.csv -o report/",
        "topcoat evaluate --enhanced b/ --baseline c/ --features dinov2 --metrics distances,diversity",
        "topcoat evaluate --data flux-pairs/ --head runs/unet --features dinov2 --identity face --quality hpsv2",
    ),
)
def evaluate(
    out: Output,
    distilled: Annotated[Path | None, typer.Option(help="Folder of the distilled images.")] = None,
    enhanced: Annotated[Path | None, typer.Option(help="Folder of the enhanced images, named like them.")] = None,
    baseline: Annotated[Path | None, typer.Option(help="Folder of the baseline images, named like them.")] = None,
    floor: Annotated[
        Path | None, typer.Option(help="Folder of baseline images at other seeds, for the noise floor.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Pairs (topcoat pairs build), instead of the first three.")] = None,
    head: HeadOption = None,
    strength: StrengthOption = 1.0,
    identity_floor: IdentityFloorOption = None,
    never_worse: NeverWorseOption = False,
    split: Annotated[Split, typer.Option(help="The part of the pairs to use.")] = "test",
    features: FeaturesOption = "embedded",
    identity: IdentityOption = None,
    quality: Annotated[
        str | None,
        typer.Option(
            help="Rate every image without a reference: some of clip (CLIP-IQA), aesthetic, hpsv2, pickscore and "
            "imagereward, with commas between; clip:FOLDER for weights of your own. The last three need --data, which "
            "has prompts."
        ),
    ] = None,
    metrics: Annotated[
        str,
        typer.Option(
            help="all, or some of distances,diversity,paired,identity,artefacts,groups,two-sample with commas between."
        ),
    ] = _ALL,
    groups: Annotated[
        Path | None, typer.Option(help="CSV with a column 'name' (picture names) and the columns to compare groups by.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps features, so that a second run is fast.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of intervals, of FD-infinity and of the two-sample test.")] = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for report.html, report.json, report.md, contact.png.")
    ] = None,
) -> None:
    """Measure how near enhanced images are to the baseline's, how much of the gap is closed, and what is broken.

    Give either folders of images or --data; with --floor the share of the gap closed is measured too. With
    --identity-floor or --never-worse the head is measured without gates and with them. A bad file is listed and its
    subject is left out (exit code 1).
    """
    from topcoat.gates import gates_for
    from topcoat.metrics.evaluate import evaluate as measure
    from topcoat.metrics.sources import from_folders, read_folder, same_pictures
    from topcoat.pairs.enhanced import from_pairs
    from topcoat.pairs.manifest import versions
    from topcoat.reports.evaluation import write_report

    gated = identity_floor is not None or never_worse
    if data is not None:
        if distilled or enhanced or baseline or groups:
            raise UsageError("--data replaces --distilled, --enhanced, --baseline and --groups; give one or the other")
        opened = need_head(head, "mini")
        gates = gates_for(opened, identity_floor, never_worse, identity)
        gate = None if gates is None else lambda x, z, amount: gates(x, z, amount).images
        source = from_pairs(data, split, opened, strength, gate)
        if gated:
            rules = None if opened.gates is None else {k: v for k, v in opened.gates.items() if k != "direction"}
            source.inputs["gates"] = {
                "identity_floor": identity_floor, "never_worse": never_worse, "calibration": rules
            }  # fmt: skip
    elif enhanced is not None and baseline is not None:
        if head is not None or gated:
            raise UsageError(
                "--head, --identity-floor and --never-worse are for --data; folders already hold enhanced images"
            )
        source = from_folders(enhanced, baseline, distilled, groups)
    else:
        raise UsageError("nothing to compare: give --enhanced and --baseline folders, or --data with pairs")
    if floor is not None and baseline is not None:
        source.notes += same_pictures(floor, baseline)
    out.warn(*source.notes)
    others = None if floor is None else read_folder(floor, source.bad)
    streams = source.streams()
    evaluation = measure(
        out.track("evaluating", streams["enhanced"], source.count),
        reference=streams["baseline"],
        distilled=streams.get("distilled"),
        gated=streams.get("gated"),
        floor=others,
        features=features,
        identity=identity,
        quality=None if quality is None else names(quality),
        prompts=None if source.texts is None else source.prompts,
        pair=source.pair,
        metrics=None if metrics == _ALL else names(metrics),
        groups=None if source.attributes is None else source.groups,
        cache=cache,
        seed=seed,
    )
    out.warn(*source.bad)
    out.line(evaluation.markdown())
    inputs = source.inputs | {
        "features": features, "identity": identity, "quality": quality, "versions": versions()
    }  # fmt: skip
    if floor is not None:
        inputs["floor"] = floor.name
    if output is not None:
        about = f"{data.name} ({split})" if data is not None else str(source.inputs["enhanced"])
        write_report(output, evaluation, source.subject, about=about, inputs=inputs, left_out=source.bad)
        out.line(f"Report: {output / 'report.html'}")
    out.result(evaluation.as_dict() | {"inputs": inputs, "left_out": source.bad})
    if source.bad:
        raise typer.Exit(1)
