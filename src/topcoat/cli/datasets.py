"""`topcoat pairs import`, `inspect`, `dedupe` and `push`: datasets that are there."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.options import (
    DryRunOption,
    ImageFormatOption,
    command_line,
    free_folder,
    pair_words,
)
from topcoat.errors import UsageError

if TYPE_CHECKING:
    from topcoat.pairs.dataset import PairDataset
    from topcoat.pairs.inspect import Inspection
    from topcoat.pairs.similarity import Calibration

_SHOWN = 20


@command(
    "import",
    examples=(
        "topcoat pairs import photos/ -o pairs/ --name retouched --licence CC-BY-4.0",
        "topcoat pairs import hub-folder/ -o pairs/ --name edits --distilled input_image --baseline edited_image",
    ),
)
def import_command(
    out: Output,
    source: Annotated[
        Path,
        typer.Argument(metavar="SRC", help="Folder with A/ and B/ (or train_A/, train_B/), or with Parquet files."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="New folder of the dataset.")],
    name: Annotated[str, typer.Option(help="Name of these pairs.")],
    distilled: Annotated[
        str | None, typer.Option(help="Folder or column of the inputs of a head.", metavar="NAME")
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="Folder or column of its targets.", metavar="NAME")] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Column of the texts; default edit_prompt where it is.", metavar="NAME")
    ] = None,
    licence: Annotated[str, typer.Option(help="Terms of the images, such as CC-BY-4.0.")] = "unknown",
    licence_url: Annotated[str, typer.Option(help="Where the terms can be read.")] = "",
    shard_size: Annotated[int, typer.Option(min=1, help="Pairs in one Parquet file.")] = 250,
    image_format: ImageFormatOption = "png",
) -> None:
    """Check paired images one by one and convert them; unusable items are listed, the rest continues."""
    from topcoat.config import parse_config
    from topcoat.generators.base import Licence
    from topcoat.pairs.importing import UNKNOWN_LICENCE, import_pairs, open_source
    from topcoat.pairs.schema import PairingConfig

    pairing = parse_config({"image_format": image_format}, PairingConfig, source="the options")
    terms = UNKNOWN_LICENCE if licence == "unknown" else Licence(name=licence, url=licence_url)
    if terms is UNKNOWN_LICENCE:
        out.warn("the licence of these images is unknown; name it with --licence before you train on or share them")
    items = open_source(source, distilled=distilled, baseline=baseline, prompt=prompt)
    out.line(f"{items.count} items in {items.description} of {source}")
    with out.progress("checking pairs") as progress:
        dataset = import_pairs(
            items,
            output,
            name=name,
            licence=terms,
            shard_size=shard_size,
            image_format=pairing.image_format,
            on_progress=progress,
        )
    failures = dataset.manifest.failures
    out.warn(*(f"{failure.id} was left out: {failure.error}" for failure in failures[:_SHOWN]))
    if len(failures) > _SHOWN:
        out.warn(f"and {len(failures) - _SHOWN} more; {output}/manifest.json lists all")
    out.line(
        f"{len(dataset)} pairs in {output}, {len(failures)} items left out; licence: {terms.name}",
        f"Next: {command_line('pairs', 'inspect', output)}",
    )
    out.result(
        {
            "folder": str(output),
            "pairs": len(dataset),
            "failures": {failure.id: failure.error for failure in failures},
            "licence": terms.name,
            "digest": dataset.digest,
        }
    )
    if failures:
        raise typer.Exit(1)


@command(
    "inspect",
    computes=True,
    examples=(
        "topcoat pairs inspect pairs/",
        "topcoat pairs inspect pairs/ --html pairs.html",
        "topcoat pairs inspect pairs/ --calibrate --false-accept 0.01",
    ),
)
def inspect(
    out: Output,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that pairs build wrote.")],
    page: Annotated[Path | None, typer.Option("--html", help="Write one self-contained page to this file.")] = None,
    duplicates: Annotated[float, typer.Option(help="Similarity from which two subjects count as one, up to 1.")] = 0.95,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure the thresholds of --filter same-subject instead.")
    ] = False,
    calibration: Annotated[
        Path | None, typer.Option(help="Where --calibrate saves them; default DIR/same-subject.json.")
    ] = None,
    false_accept: Annotated[
        float, typer.Option(help="With --calibrate: share of shuffled pairs that may pass.")
    ] = 0.01,
) -> None:
    """Say what a dataset holds, after comparing every file with the digest it was built with."""
    from topcoat.features import domain_flags, load_feature_net
    from topcoat.pairs.dataset import PairDataset

    if calibrate and page is not None:
        raise UsageError("--html shows the dataset and --calibrate measures thresholds; run one after the other")
    if calibration is not None and not calibrate:
        raise UsageError("--calibration says where --calibrate saves; add --calibrate, or leave the file out")
    dataset = PairDataset.open(folder)
    if page is not None and page.resolve().is_relative_to((folder / "data").resolve()):
        raise UsageError(f"{page} lies among the shards, which hold pairs alone; choose another place for the page")
    dataset.verify()
    net = load_feature_net("loss")
    if calibrate:
        from topcoat.pairs.similarity import calibrate as measure
        from topcoat.pairs.similarity import write_calibration

        with out.progress("comparing pairs") as progress:
            thresholds = measure(dataset, net, false_accept_rate=false_accept, on_progress=progress)
        target = folder / "same-subject.json" if calibration is None else calibration
        write_calibration(target, thresholds)
        out.warn(*domain_flags(net, dataset.manifest.pair))
        _show_thresholds(out, thresholds, target, dataset)
        return

    from topcoat.pairs.inspect import inspect_pairs

    with out.progress("looking at pairs") as progress:
        inspection = inspect_pairs(dataset, net, duplicate_threshold=duplicates, on_progress=progress)
    if page is not None:
        from topcoat.files import write_text
        from topcoat.reports.pairs import render_pairs_page

        write_text(page, render_pairs_page(inspection))
    _show(out, inspection)
    if page is not None:
        out.line(f"The page: {page}")
    out.result({**inspection.as_dict(), "page": None if page is None else str(page)})


def _show(out: Output, inspection: Inspection) -> None:
    """The inspection for a person."""
    from topcoat.reports.pairs import findings, headline, spectrum_note

    record = inspection.as_dict()
    failed = f"{len(inspection.failures)} failed, {len(inspection.dropped)} dropped"
    out.line(f"{headline(inspection)} of {inspection.pair}, {failed}; every shard is as it was written")
    out.line(f"digest {inspection.digest}")
    splits = ", ".join(f"{name} {number}" for name, number in inspection.splits.items())
    seeds = inspection.seeds
    out.line(splits + ("; seeds {lowest} to {highest}, {doubled} doubled".format_map(seeds) if seeds else ""))
    if inspection.drop_reasons:
        out.table("Dropped", ("filter", "pairs"), list(inspection.drop_reasons.items()))
    rows = [
        (name, f"{record['evenness'][name]:.2f}", ", ".join(f"{value} {count}" for value, count in counts.items()))
        for name, counts in inspection.attributes.items()
    ]
    if rows:
        out.table("Attributes", ("attribute", "evenness", "pairs of each"), rows)
    sides = inspection.sides
    measures = [
        (f"{name}, {side}", *_cells(record["sides"][side][name]))
        for name in next(iter(sides.values())).values
        for side in sides
    ]
    measures += [
        (f"similarity, {kind} pair", *_cells(record["similarity"][f"{kind}_pair"])) for kind in ("same", "next")
    ]
    out.table("Images", ("measure", "mean", "5 %", "median", "95 %"), measures)
    out.line(spectrum_note(inspection))
    out.line(
        f"Near-duplicates: {len(inspection.duplicates)} ({inspection.duplicate_share:.1%}) at similarity "
        f"{inspection.duplicate_threshold:g} or more"
    )
    for text in findings(inspection):
        out.line(f"- {text}")


def _cells(quantiles: dict[str, float] | None) -> tuple[str, ...]:
    names = ("mean", "p05", "median", "p95")
    return ("",) * 4 if quantiles is None else tuple(f"{quantiles[name]:.4g}" for name in names)


def _show_thresholds(out: Output, thresholds: Calibration, target: Path, dataset: PairDataset) -> None:
    """The calibration for a person."""
    out.line(
        f"{thresholds.pairs} pairs of {thresholds.pair} against {thresholds.shuffled} shuffled ones, "
        f"feature net {thresholds.net_digest}"
    )
    rows = [
        (
            f"{name}, {which}",
            *(f"{value:.3f}" for value in (spread.minimum, spread.p05, spread.median, spread.p95, spread.maximum)),
        )
        for name, kind in (("feature", thresholds.features), ("structural", thresholds.structure))
        for which, spread in (("one subject", kind.same), ("different subjects", kind.different))
    ]
    out.table("Similarities", ("", "lowest", "5 %", "median", "95 %", "highest"), rows)
    out.line(
        f"thresholds: feature {thresholds.features.threshold:.4f}, structural {thresholds.structure.threshold:.4f} "
        f"(each lets at most {thresholds.wanted_false_accept_rate:.2%} of shuffled pairs pass)"
    )
    out.line(
        f"together they accept {thresholds.false_accept_rate:.2%} of {thresholds.shuffled} shuffled pairs and drop "
        f"{thresholds.false_reject_rate:.2%} of {thresholds.pairs} pairs"
    )
    new = (free_folder(dataset.folder.absolute()), *pair_words(dataset.manifest.pair))
    filtered = ("--filter", "same-subject", "--calibration", target)
    out.line(f"Next: {command_line('pairs', 'build', *new, *filtered)}")
    out.result({**thresholds.model_dump(mode="json"), "file": str(target)})


@command(
    "dedupe",
    computes=True,
    examples=("topcoat pairs dedupe pairs/ --dry-run", "topcoat pairs dedupe pairs/ --threshold 0.9"),
)
def dedupe(
    out: Output,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that pairs build or import wrote.")],
    threshold: Annotated[float, typer.Option(help="Similarity from which two subjects count as one, up to 1.")] = 0.95,
    dry_run: DryRunOption = False,
) -> None:
    """Drop the later of two pairs whose subjects a feature net cannot distinguish."""
    from topcoat.features import domain_flags
    from topcoat.pairs.dataset import PairDataset
    from topcoat.pairs.duplicates import NAME, drop_pairs, near_duplicates

    # finish a drop that was interrupted, before anything is compared
    dataset = PairDataset.open(folder) if dry_run else drop_pairs(folder, {}, NAME)
    count = len(dataset)
    flags = domain_flags("embedded", dataset.manifest.pair)
    out.warn(*flags)
    with out.progress("comparing subjects") as progress:
        results = near_duplicates(dataset, threshold, on_progress=progress)
    dropped = {name: result for name, result in results.items() if not result.keep}
    out.line(*(f"{name}: {result.reason}" for name, result in list(dropped.items())[:_SHOWN]))
    if len(dropped) > _SHOWN:
        out.line(f"and {len(dropped) - _SHOWN} more; --json lists all")
    if dropped and not dry_run:
        out.on_interrupt = "run the same command again: what was dropped stays so"
        dataset = drop_pairs(folder, dropped, NAME)
    if dry_run:
        out.line(f"{len(dropped)} of {count} pairs would be dropped; nothing was changed")
    else:
        out.line(f"{len(dropped)} of {count} pairs dropped, {len(dataset)} left in {folder}")
    out.result(
        {
            "folder": str(folder),
            "dry_run": dry_run,
            "threshold": threshold,
            "pairs": count,
            "flags": flags,
            "dropped": {name: {"reason": result.reason, "score": result.score} for name, result in dropped.items()},
            "left": len(dataset) if not dry_run else count - len(dropped),
        }
    )


@command(
    "push",
    examples=("topcoat pairs push pairs/ me/portrait-pairs", "topcoat pairs push pairs/ me/portrait-pairs --dry-run"),
)
def push(
    out: Output,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that pairs build or import wrote.")],
    repo: Annotated[str, typer.Argument(metavar="REPO", help="Dataset repository, owner/name; created if missing.")],
    private: Annotated[
        bool, typer.Option("--private/--public", help="Who may see a repository that is created now.")
    ] = True,
    dry_run: DryRunOption = False,
) -> None:
    """Upload what the hub lacks; the same command resumes, and appended pairs rename nothing."""
    from topcoat.pairs.hub import push_pairs

    out.on_interrupt = "run the same command again: shards that arrived are not sent twice"
    with out.progress("sending") as progress:
        done = push_pairs(folder, repo, private=private, dry_run=dry_run, on_progress=progress)
    if done.foreign:
        out.warn(f"{len(done.foreign)} Parquet files in {repo} are not of this dataset: {', '.join(done.foreign[:3])}")
    size = f"{done.bytes / 1e6:,.1f} MB"
    if dry_run:
        out.line(
            f"{len(done.sent)} files ({size}) would be sent, {len(done.unchanged)} are unchanged; nothing was sent"
        )
    else:
        out.line(f"{len(done.sent)} files sent ({size}), {len(done.unchanged)} unchanged: {done.url}")
    out.result({"dry_run": dry_run, **asdict(done)})


@command(
    "pull",
    examples=(
        "topcoat pairs pull me/portrait-pairs -o pairs/",
        "topcoat pairs pull me/portrait-pairs --revision v1 -o pairs/",
    ),
)
def pull(
    out: Output,
    repo: Annotated[str, typer.Argument(metavar="REPO", help="Dataset repository, owner/name, of pairs push.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder for the pairs.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit; by default the newest.")] = None,
) -> None:
    """Fetch a dataset of pairs from the hub and compare its digests; the same command resumes."""
    from topcoat.files import FolderLock
    from topcoat.pairs.dataset import PairDataset

    with FolderLock(output):
        out.line(f"fetching {repo}")
        dataset = PairDataset.from_pretrained(repo, revision=revision, folder=output)
        dataset.verify()
    out.line(f"{output}: {len(dataset)} pairs of {dataset.manifest.pair}")
    out.result({"folder": str(output), "pairs": len(dataset), "pair": dataset.manifest.pair, "digest": dataset.digest})
