"""The files of a benchmark: ``.json``, ``.html``, ``.md`` and pictures; one page for demo, frontier and study."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from markupsafe import Markup
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from topcoat.benchmark.frontier import Target, pareto_front, points_of
from topcoat.benchmark.record import BASELINE, CONTROLS, DISTILLED, ENHANCED, EXTRA, FLOOR, BenchmarkResult, Evidence
from topcoat.benchmark.store import to_floats
from topcoat.cost.table import format_tflop
from topcoat.files import atomic_path, write_json, write_text
from topcoat.images import SHEET_GAP_PX, contact_sheet
from topcoat.metrics.evaluation import percent, share_interval
from topcoat.reports.benchmark_tables import (
    arm_order,
    headline,
    label,
    markdown,
    notes,
    saving_text,
    shown_gap,
    summary,
    table,
)
from topcoat.reports.charts import Bar, Point, bars, histogram, scatter, standalone
from topcoat.reports.page import Card, Chart, Subject, data_uri, render

SUBJECTS = 12
"""Subjects on the page: the first ones, as they were given, never picked."""
SHEET_COLUMNS = 8
LAYOUT_KEY = "topcoat-layout"
"""The text of a contact sheet that says where its images are."""
_COSINE_COLOURS = ("control", "distilled", "enhanced")


def write_benchmark(
    folder: str | Path, result: BenchmarkResult, *, chosen: str | None = None, target: Target | None = None
) -> None:
    """Write the files of a result into ``folder``, each atomically, the record last.

    ``report.json``, ``.html`` and ``.md`` for a demo, ``frontier.*`` or ``study.*`` for the others. What is shown needs
    a result that was just made: ``subjects.json`` and contact sheets are left out for one that was loaded. ``chosen``
    names an arm of a frontier, ``target`` says what it was chosen by. Raises `DataError` if a file cannot be written.
    """
    folder = Path(folder)
    stem = "report" if result.kind == "demo" else result.kind
    if result.evidence is not None:
        write_evidence(folder, result.evidence, 2 if result.width_px <= 256 else 1)
    record = result.as_dict()
    if result.kind == "frontier":
        write_text(folder / "frontier.svg", standalone(_frontier_chart(result, chosen)))
        front = [point.name for point in pareto_front(points_of(result))]
        record |= {"pareto": front, "target": str(target or ""), "chosen": chosen}
    write_text(folder / f"{stem}.html", page(result, chosen=chosen, target=target))
    write_text(folder / f"{stem}.md", markdown(result, chosen=chosen, target=target))
    write_json(folder / f"{stem}.json", record)


def page(result: BenchmarkResult, *, chosen: str | None = None, target: Target | None = None) -> str:
    """The page as text: self-contained, readable offline, in the dark and on a phone."""
    evidence = result.evidence
    subjects = [] if evidence is None else _subjects(result, evidence)
    return render(
        "benchmark.html.j2",
        title=f"topcoat {result.kind}: {result.pair}",
        result=result,
        headline=headline(result, chosen, target),
        summary=summary(result) if result.kind == "demo" else "",
        subjects=subjects if result.kind == "demo" else [],  # for the slider, of two or three images
        gallery=subjects,
        cards=_cards(result),
        charts=_charts(result, chosen),
        table=table(result, chosen=chosen),
        notes=notes(result),
        chosen=[score for score in result.as_dict()["scores"] if score["arm"] == chosen],
        licences=[] if evidence is None else list(zip(("distilled", "baseline"), evidence.licences, strict=True)),
    )


def write_evidence(folder: Path, evidence: Evidence, scale: int) -> None:
    """Write ``subjects.json`` and the contact sheets, whose images are enlarged ``scale`` times."""
    subjects = zip(evidence.subjects.prompts, evidence.subjects.seeds, strict=True)
    write_json(folder / "subjects.json", [{"prompt": prompt, "seed": seed} for prompt, seed in subjects])
    count = max((len(images) for images in evidence.pictures.values()), default=0)
    for number, start in enumerate(range(0, count, SHEET_COLUMNS), start=1):
        part = slice(start, start + SHEET_COLUMNS)
        rows = [(name, to_floats(images[part])) for name, images in evidence.pictures.items()]
        layout = PngInfo()
        layout.add_text(LAYOUT_KEY, json.dumps(_layout(rows, scale)))
        with atomic_path(folder / f"contact-{number}.png") as temporary:
            contact_sheet(rows, scale=scale).save(temporary, "PNG", pnginfo=layout)


def _layout(rows: Sequence[tuple[str, Tensor]], scale: int) -> dict[str, object]:
    """Where the images of a contact sheet are, from its right edge on; all have one size."""
    count, _, height_px, width_px = rows[0][1].shape
    cell_px = [width_px * scale, height_px * scale]
    return {"rows": [name for name, _ in rows], "columns": count, "cell_px": cell_px, "gap_px": SHEET_GAP_PX}


def _subjects(result: BenchmarkResult, evidence: Evidence) -> list[Subject]:
    count = min([SUBJECTS, *(len(images) for images in evidence.pictures.values())]) if evidence.pictures else 0
    return [
        Subject(
            [(label(result, name), data_uri(to_floats(own[index]))) for name, own in evidence.pictures.items()],
            f"seed {evidence.subjects.seeds[index]}: {evidence.subjects.prompts[index]}",
        )
        for index in range(count)
    ]


def _cards(result: BenchmarkResult) -> list[Card]:
    """What a demo's head bought, or a card for each head of a study."""
    if result.kind == "demo":
        return [_gap_card(result, ENHANCED, "Gap"), *_price_cards(result)]
    return [_gap_card(result, name, label(result, name)) for name in result.heads] if result.kind == "study" else []


def _gap_card(result: BenchmarkResult, arm: str, name: str) -> Card:
    gap = shown_gap(result, arm)
    if gap is None:
        return Card(name, "n/a", ["no gap to close"], "measured")
    detail = [share_interval(gap)]
    if result.kind == "study":
        detail.append(f"{saving_text(result.value('tflop_saving', arm) or 0.0)} TFLOP (computed)")
    for control in CONTROLS:
        share = shown_gap(result, control) if control in result.arms else None
        detail += [] if share is None else [f"{label(result, control)}: {percent(share.value)}"]
    return Card(name, f"{percent(gap.value)} closed", detail, "measured")


def _price_cards(result: BenchmarkResult) -> list[Card]:
    value = result.value
    mean, p05 = (value(metric, ENHANCED) for metric in ("identity_mean", "identity_p05"))
    cards = [Card("Identity", f"{mean:.3f}", [f"5th percentile {p05:.3f}"], "measured")]
    both = f"{label(result, ENHANCED)} against {label(result, BASELINE)}"
    for name, metric, kind in (("Compute", "tflop", "computed"), ("Time", "seconds", "measured")):
        extra = value(f"{metric}_saving_at_28_steps", ENHANCED)
        detail = [both, *([] if extra is None else [f"{saving_text(extra)} against 28 steps"])]
        cards.append(Card(name, saving_text(value(f"{metric}_saving", ENHANCED) or 0.0), detail, kind))
    return cards


def _charts(result: BenchmarkResult, chosen: str | None) -> list[Chart]:
    if result.kind == "frontier":
        note = "The numbers are those of the table. Bars are 95 % intervals, the line joins the Pareto set."
        return [Chart("Quality against cost", note, _frontier_chart(result, chosen), wide=True)]
    note = "Fréchet distance, measured; lines are 95 % intervals. Shorter is nearer."
    charts = [Chart("Distance to the baseline", note, _distance_chart(result))]
    if result.evidence is not None and result.evidence.cosines:
        series = zip(result.evidence.cosines.items(), _COSINE_COLOURS, strict=False)
        drawing = histogram([(name, values, colour) for (name, values), colour in series], title="Identity cosines")
        charts.append(Chart("Is it the same person?", "Cosines of identity, each series scaled to its peak.", drawing))
    if result.kind == "demo":
        tflop = _cost_chart(result, "tflop", "TFLOP per image", lambda value: f"{format_tflop(value)} TFLOP")
        ms = _cost_chart(result, "seconds", "Milliseconds per image", lambda value: f"{value * 1e3:.4g} ms")
        charts.append(Chart("Compute per image", "TFLOP, computed, whole pipeline.", tflop))
        charts.append(Chart("Time per image", "Milliseconds, measured medians.", ms))
    return charts


def _colour(result: BenchmarkResult, name: str) -> str:
    arm = result.arms[name]
    if arm.model == "baseline":
        return "baseline"
    if arm.head is None:
        return "distilled"
    return "control" if name in CONTROLS else "enhanced"


def _distance_chart(result: BenchmarkResult) -> Markup:
    scores = [(name, result.score("frechet", name)) for name in arm_order(result) if name != result.baseline]
    rows = [
        Bar(_short(result, name), score.value, f"{score.value:.3g}", _colour(result, name), score.low, score.high)
        for name, score in scores
        if score is not None
    ]
    floor = result.value("frechet", FLOOR)
    marker = None if floor is None else (floor, "noise floor")
    return bars(rows, title="Fréchet distance to the baseline", marker=marker)


def _short(result: BenchmarkResult, name: str) -> str:
    """A label that is short enough for a bar."""
    return {FLOOR: "other seeds", **{control: f"+ {control}" for control in CONTROLS}}.get(name, label(result, name))


def _cost_chart(result: BenchmarkResult, metric: str, title: str, text: Callable[[float], str]) -> Markup:
    values = {name: result.value(metric, name) for name in (DISTILLED, ENHANCED, EXTRA, BASELINE)}
    rows = [
        Bar(label(result, name), value, text(value), _colour(result, name))
        for name, value in values.items()
        if value is not None
    ]
    return bars(rows, title=title)


def _frontier_chart(result: BenchmarkResult, chosen: str | None) -> Markup:
    floor = result.value("frechet", FLOOR)
    return scatter(
        _numbered_points(result, chosen),
        title=f"{result.pair}, {result.width_px}x{result.height_px} px, N = {result.n:,}",
        x_label="TFLOP per image, whole pipeline (computed, logarithmic)",
        y_label="Fréchet distance to the baseline (measured)",
        names=(("distilled alone", "distilled"), ("distilled + head", "enhanced"), ("baseline", "baseline")),
        line=[(point.tflop, point.distance) for point in pareto_front(points_of(result))],
        level=None if floor is None else (floor, "noise floor: the baseline at other seeds"),
    )


def _numbered_points(result: BenchmarkResult, chosen: str | None) -> list[Point]:
    """The points of the frontier with the numbers of the table; those that nearly coincide share one label."""
    numbers = {name: str(number) for number, name in enumerate(arm_order(result), start=1)}
    near = 0.03 * max(point.distance for point in points_of(result))
    drawn: list[Point] = []
    for point in sorted(points_of(result), key=lambda one: int(numbers[one.name])):
        score, text = result.score("frechet", point.name), numbers[point.name]
        assert score is not None
        for place, other in enumerate(drawn):
            if other.label and abs(other.x / point.tflop - 1) < 0.02 and abs(other.y - point.distance) < near:
                drawn[place] = dataclasses.replace(other, label=f"{other.label}, {text}")
                text = ""
                break
        drawn.append(
            Point(
                point.tflop, point.distance, _colour(result, point.name), text,
                score.low, score.high, point.name == chosen,
            )
        )  # fmt: skip
    return drawn
