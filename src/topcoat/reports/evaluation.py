"""``report.html``, ``report.json``, ``report.md`` and ``contact.png``: an evaluation as files to send to others."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from topcoat.files import atomic_path, write_json, write_text
from topcoat.images import contact_sheet
from topcoat.metrics.evaluation import Evaluation, Example, main_figures, percent, sections, share_interval
from topcoat.metrics.groups import Groups
from topcoat.reports.charts import CYCLES, Bar, bars, curves, intervals, round_ticks, spectra
from topcoat.reports.page import Card, Chart, Subject, data_uri, render

LARGEST_BYTES = 15_000_000
"""Of the page, whatever the size of the images."""
_IMAGE_BYTES = 12_000_000
_CONTACT_SUBJECTS = 8
_OPEN_GROUP_CHARTS = 2
"""Scores whose groups are shown at once; the others behind a line that opens them."""
_SHOWN = ("distilled", "enhanced", "baseline")
"""Images of a subject, in the order of the slider."""
_NAMES = {"distilled": "distilled", "enhanced": "enhanced", "gated": "with gates", "floor": "baseline, other seeds"}
_COLOURS = {"floor": "baseline", "reference": "baseline"}
"""Of the arms that have no colour of their own."""
_LABEL_LETTERS = 20


SubjectImages = tuple[Mapping[str, Tensor], str]
"""One subject to show: images ``(3, H, W)`` in [0, 1] by set, ``enhanced``, ``baseline`` and perhaps ``distilled``, and
a caption."""
LookUp = Callable[[int], SubjectImages]
"""Gives the subject at a position of the streams; called for those of `Evaluation.examples` alone."""


def write_report(
    folder: Path,
    evaluation: Evaluation,
    look_up: LookUp | None = None,
    *,
    about: str = "",
    inputs: Mapping[str, Any] | None = None,
    left_out: Sequence[str] = (),
) -> None:
    """Write all four files into ``folder``, each atomically.

    ``look_up`` gives the images of the subjects that are shown, one at a time, so that no other image is kept; without
    it (or where sets were compared) no image is shown and there is no contact sheet. ``about`` says in a few words what
    was evaluated, ``inputs`` (JSON values) where it came from, ``left_out`` which subjects are missing. Raises
    `DataError` if a file cannot be written.
    """
    given = dict(inputs or {})
    shown = [] if look_up is None else [(why, look_up(index)) for index, why in _reasons(evaluation.examples).items()]
    write_json(folder / "report.json", evaluation.as_dict() | {"inputs": given, "left_out": list(left_out)})
    write_text(folder / "report.md", evaluation.markdown())
    write_text(folder / "report.html", page(evaluation, shown, about=about, inputs=given, left_out=left_out))
    if shown:
        subjects = [images for _, (images, _) in shown[:_CONTACT_SUBJECTS]]
        rows = [(name, torch.stack([one[name] for one in subjects])) for name in _SHOWN if name in subjects[0]]
        with atomic_path(folder / "contact.png") as temporary:
            contact_sheet(rows).save(temporary, "PNG")


def page(
    evaluation: Evaluation,
    shown: Sequence[tuple[str, SubjectImages]] = (),
    *,
    about: str = "",
    inputs: Mapping[str, Any] | None = None,
    left_out: Sequence[str] = (),
) -> str:
    """The page as text, under `LARGEST_BYTES`; ``shown`` are reasons and subjects."""
    group_charts = [] if evaluation.groups is None else groups_drawn(evaluation.groups)
    name = about or evaluation.features.net
    return render(
        "evaluation.html.j2",
        title=f"topcoat evaluation: {name}",
        about=name,
        headline=headline(evaluation),
        evaluation=evaluation,
        subjects=_subjects(shown),
        measures=" and by ".join(dict.fromkeys(example.measure for example in evaluation.examples)),
        cards=_cards(evaluation),
        summary=main_figures(evaluation),
        faults=[f"{flag.name}: {flag.sentence}." for flag in evaluation.flags],
        notes=[f"{note}." for note in evaluation.notes] + [f"Left out: {problem}." for problem in left_out],
        charts=_charts(evaluation),
        group_charts=group_charts[:_OPEN_GROUP_CHARTS],
        other_group_charts=group_charts[_OPEN_GROUP_CHARTS:],
        sections=sections(evaluation),
        settings={"inputs": dict(inputs or {}), "settings": evaluation.settings},
    )


def headline(evaluation: Evaluation) -> str:
    """The result in one line."""
    gap = evaluation.value("gap_closed")
    if gap is not None:
        return f"{percent(gap)} of the gap to the baseline closed"
    before, after = evaluation.value("frechet", "distilled"), evaluation.value("frechet")
    return f"Fréchet distance {after:.3g}" + ("" if before is None else f" instead of {before:.3g}")


def groups_drawn(groups: Groups) -> list[Chart]:
    """One chart for each score: the mean of every group with its interval."""
    charts: list[Chart] = []
    for score in dict.fromkeys(one.score for one in groups.scores):
        own = [one for one in groups.scores if one.score == score]
        colours = {one: "warn" if one.exceeds_noise else "baseline" for one in own}
        rows = [
            (one.attribute, Bar(_short(one.group), one.mean, f"{one.mean:.3g}", colour, one.low, one.high))
            for one, colour in colours.items()
        ]
        ticks = round_ticks(min(one.low for one in own), max(one.high for one in own))
        drawing = intervals(_under_headings(rows), title=f"{score} by group", ticks=ticks)
        charts.append(Chart(score[0].upper() + score[1:], "Mean and 95 % interval of each group.", drawing))
    return charts


def _reasons(examples: Sequence[Example]) -> dict[int, str]:
    """Why each subject is shown, by its position."""
    texts: dict[int, list[str]] = {}
    for example in examples:
        texts.setdefault(example.index, []).append(f"{example.place} by {example.measure} ({example.value:.3f})")
    return {index: "; ".join(reasons) for index, reasons in texts.items()}


def _subjects(shown: Sequence[tuple[str, SubjectImages]]) -> list[Subject]:
    pictures = sum(len(images) for _, (images, _) in shown)
    most = _IMAGE_BYTES // (pictures + len(_SHOWN))  # those of the first subject are on the stage once more
    return [
        Subject(
            [(name, data_uri(images[name], most_bytes=most)) for name in _SHOWN if name in images],
            caption,
            f"{reason}.",
        )
        for reason, (images, caption) in shown
    ]


def _cards(evaluation: Evaluation) -> list[Card]:
    value = evaluation.value
    others = {"distilled": value("frechet", "distilled"), "noise floor": value("frechet", "floor")}
    detail = [f"{name} {other:.3g}" for name, other in others.items() if other is not None]
    cards = [Card("Fréchet distance", f"{value('frechet'):.3g}", detail)]
    gap = evaluation.score("gap_closed")
    if gap is not None:
        cards.insert(0, Card("Gap", f"{percent(gap.value)} closed", [share_interval(gap)]))
    mean, p05 = value("identity_mean"), value("identity_p05")
    if mean is not None and p05 is not None:
        cards.append(Card("Identity", f"{mean:.3f}", [f"5th percentile {p05:.3f}"]))
    accuracy, chance = value("c2st_accuracy"), value("c2st_accuracy", "floor")
    if accuracy is not None:
        own = [] if chance is None else [f"noise floor {percent(chance)}"]
        cards.append(Card("Two-sample accuracy", percent(accuracy), ["chance is 50 %", *own]))
    weakened, left = value("weakened_share", "gated"), value("distilled_share", "gated")
    if weakened is not None and left is not None:
        cards.append(Card("Gates", f"{percent(weakened + left)} held back", [f"{percent(left)} left distilled"]))
    return cards


def _charts(evaluation: Evaluation) -> list[Chart]:
    """Distances, share of the gap closed, spectra and the two-sample test, as far as they were measured."""
    floor = evaluation.value("frechet", "floor")
    marker = None if floor is None else (floor, "noise floor")
    charts = [
        Chart(
            "Distance to the baseline",
            "Fréchet distance; lines are 95 % intervals. Shorter is nearer.",
            bars(_bars(evaluation, "frechet", "{:.3g}"), title="Fréchet distance", marker=marker),
        )
    ]
    gaps = _gap_rows(evaluation)
    if gaps:
        ticks = [(0.0, "0 %"), (0.5, "50 %"), (1.0, "100 %")]
        note = "0 % is the distilled image, 100 % as near as the baseline is to itself; lines are 95 % intervals."
        title = "Share of the gap closed"
        charts.append(Chart(title, note, intervals(gaps, title=title, ticks=ticks)))
    charts += _spectra(evaluation)
    accuracies = _bars(evaluation, "c2st_accuracy", "{:.0%}")
    if accuracies:
        ticks = [(0.5, "50 %"), (0.75, "75 %"), (1.0, "100 %")]
        note = "Accuracy of a fresh classifier against the baseline; 50 % is chance."
        charts.append(Chart("Two-sample test", note, intervals(accuracies, title="Two-sample test", ticks=ticks)))
    return charts


def _bars(evaluation: Evaluation, metric: str, form: str) -> list[Bar]:
    scores = {arm: evaluation.score(metric, arm) for arm in _NAMES}
    return [
        Bar(
            _NAMES[arm], one.value, form.format(one.value).replace("%", " %"), _COLOURS.get(arm, arm), one.low, one.high
        )
        for arm, one in scores.items()
        if one is not None
    ]


def _gap_rows(evaluation: Evaluation) -> list[Bar | str]:
    own = _bars(evaluation, "gap_closed", "{:.0%}")
    gaps = {} if evaluation.groups is None else {one: one.gap for one in evaluation.groups.gaps}
    shares = [
        (one.attribute, Bar(_short(one.group), gap.value, percent(gap.value), "enhanced", gap.low, gap.high))
        for one, gap in gaps.items()
        if gap is not None
    ]
    return ["all subjects", *own, *_under_headings(shares)] if own else []


def _under_headings(rows: Sequence[tuple[str, Bar]]) -> list[Bar | str]:
    """Bars by attribute, each attribute a heading."""
    return [
        row
        for attribute in dict.fromkeys(attribute for attribute, _ in rows)
        for row in (attribute.replace("_", " "), *(bar for other, bar in rows if other == attribute))
    ]


def _spectra(evaluation: Evaluation) -> list[Chart]:
    power = {one.arm: one for one in evaluation.curves if one.metric == "power_spectrum" and one.arm != "gated"}
    if not power:
        return []
    series = [
        (_NAMES.get(arm, "baseline"), list(zip(one.x, one.y, strict=True)), _COLOURS.get(arm, arm))
        for arm, one in power.items()
    ]
    note = "Mean power of the luma by cycles per pixel, both axes logarithmic."
    charts = [Chart("Power spectra", note, spectra(series))]
    if "reference" not in power:  # of a metric of the user's own
        return charts
    base = dict(zip(power["reference"].x, power["reference"].y, strict=True))
    ratios = [
        (name, [(x, 10 * math.log10(y / base[x])) for x, y in points if y > 0 and base[x] > 0], colour)
        for name, points, colour in series
        if name != "baseline"
    ]
    drawing = curves(ratios, title="Power over the baseline's, in dB", x_ticks=CYCLES, level=0.0)
    note = "dB by cycles per pixel; below 0 fine detail is missing."
    return [*charts, Chart("Against the baseline's power", note, drawing)]


def _short(label: str) -> str:
    return label if len(label) <= _LABEL_LETTERS else f"{label[: _LABEL_LETTERS - 1]}…"
