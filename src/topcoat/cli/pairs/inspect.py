"""`topcoat pairs inspect`: what a dataset holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.pairs.app import app
from topcoat.errors import UsageError

if TYPE_CHECKING:
    from topcoat.pairs.inspect import Inspection
    from topcoat.pairs.similarity import Calibration


@command(
    app,
    "inspect",
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
    duplicates: Annotated[
        float, typer.Option("--duplicates", help="Similarity from which two subjects count as one, up to 1.")
    ] = 0.95,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure the thresholds of --filter same-subject instead.")
    ] = False,
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", help="Where --calibrate saves them; default DIR/same-subject.json."),
    ] = None,
    false_accept: Annotated[
        float, typer.Option("--false-accept", help="With --calibrate: share of shuffled pairs that may pass.")
    ] = 0.01,
) -> None:
    """Say what a dataset holds, after comparing every file with the digest it was built with."""
    from topcoat.features import load_feature_net
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
        _show_thresholds(out, thresholds, target)
        return

    from topcoat.pairs.inspect import inspect_pairs

    with out.progress("looking at pairs") as progress:
        inspection = inspect_pairs(dataset, net, duplicate_threshold=duplicates, on_progress=progress)
    if page is not None:
        from topcoat.reports.pairs import write_pairs_page

        write_pairs_page(page, inspection)
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


def _show_thresholds(out: Output, thresholds: Calibration, target: Path) -> None:
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
    out.line(f"Next: topcoat pairs build OUT --filter same-subject --calibration {target}")
    out.result({**thresholds.model_dump(mode="json"), "file": str(target)})
