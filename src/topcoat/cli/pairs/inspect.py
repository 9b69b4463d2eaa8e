"""`topcoat pairs inspect`: what a dataset holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.pairs.app import app
from topcoat.errors import UsageError

if TYPE_CHECKING:
    from topcoat.pairs.calibration import Calibration
    from topcoat.pairs.inspection import Inspection


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
        from topcoat.pairs.calibration import calibrate as measure
        from topcoat.pairs.calibration import write_calibration

        with out.progress("comparing pairs") as progress:
            found = measure(dataset, net, false_accept_rate=false_accept, on_progress=progress)
        target = folder / "same-subject.json" if calibration is None else calibration
        write_calibration(target, found)
        _tell_thresholds(out, found, target)
        return

    from topcoat.pairs.inspection import inspect_pairs

    with out.progress("looking at pairs") as progress:
        inspection = inspect_pairs(dataset, net, duplicate_threshold=duplicates, on_progress=progress)
    if page is not None:
        from topcoat.pairs.page import write_page

        write_page(page, inspection)
    _tell(out, inspection)
    if page is not None:
        out.line(f"The page: {page}")
    out.result({**inspection.as_dict(), "page": None if page is None else str(page)})


def _tell(out: Output, found: Inspection) -> None:
    """The inspection for a person."""
    from topcoat.pairs.inspection import MEASURES
    from topcoat.pairs.page import findings, headline, spectrum_note

    failed = f"{len(found.failures)} failed, {len(found.dropped)} dropped"
    out.line(f"{headline(found)} of {found.pair}, {failed}; every shard is as it was written")
    out.line(f"digest {found.digest}")
    splits = ", ".join(f"{name} {number}" for name, number in found.splits.items())
    seeds = found.seeds
    out.line(splits + ("" if seeds is None else f"; seeds {seeds.lowest} to {seeds.highest}, {seeds.doubled} doubled"))
    if found.drop_reasons:
        out.table("Dropped", ("filter", "pairs"), list(found.drop_reasons.items()))
    rows = [
        (item.attribute, f"{item.evenness:.2f}", ", ".join(f"{word} {number}" for word, number in item.counts.items()))
        for item in found.balance
    ]
    if rows:
        out.table("Attributes", ("attribute", "evenness", "pairs of each"), rows)
    record = found.as_dict()
    figures = [
        (f"{name}, {side}", *_cells(record["sides"][side][name]))
        for name in MEASURES
        for side in ("distilled", "baseline")
    ]
    figures.append(("similarity, same pair", *_cells(record["similarity"]["same_pair"])))
    figures.append(("similarity, next pair", *_cells(record["similarity"]["next_pair"])))
    out.table("Images", ("measure", "mean", "5 %", "median", "95 %"), figures)
    out.line(spectrum_note(found))
    share = len(found.duplicates) / found.pairs if found.pairs else 0.0
    out.line(
        f"Near-duplicates: {len(found.duplicates)} ({share:.1%}) at similarity {found.duplicate_threshold:g} or more"
    )
    for text in findings(found):
        out.line(f"- {text}")


def _cells(quantiles: dict[str, float] | None) -> tuple[str, ...]:
    names = ("mean", "p05", "median", "p95")
    return ("",) * 4 if quantiles is None else tuple(f"{quantiles[name]:.4g}" for name in names)


def _tell_thresholds(out: Output, found: Calibration, target: Path) -> None:
    """The calibration for a person."""
    out.line(
        f"{found.pairs} pairs of {found.pair} against {found.shuffled} shuffled ones, feature net {found.net_digest}"
    )
    rows = [
        (
            f"{name}, {which}",
            *(f"{value:.3f}" for value in (spread.minimum, spread.p05, spread.median, spread.p95, spread.maximum)),
        )
        for name, measure in (("feature", found.features), ("structural", found.structure))
        for which, spread in (("one subject", measure.same), ("different subjects", measure.different))
    ]
    out.table("Similarities", ("", "lowest", "5 %", "median", "95 %", "highest"), rows)
    out.line(
        f"thresholds: feature {found.features.threshold:.4f}, structural {found.structure.threshold:.4f} "
        f"(each lets at most {found.wanted_false_accept_rate:.2%} of shuffled pairs pass)"
    )
    out.line(
        f"together they accept {found.false_accept_rate:.2%} of {found.shuffled} shuffled pairs and drop "
        f"{found.false_reject_rate:.2%} of {found.pairs} pairs"
    )
    out.line(f"Next: topcoat pairs build OUT --filter same-subject --calibration {target}")
    out.result({**found.model_dump(mode="json"), "file": str(target)})
