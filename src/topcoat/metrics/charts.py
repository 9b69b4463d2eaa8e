"""The charts of an evaluation's page."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from topcoat.charts import Bar, bars, curves, intervals, round_ticks
from topcoat.metrics.record import Evaluation
from topcoat.metrics.sections import SETS, given_sets, percent
from topcoat.page import safe

if TYPE_CHECKING:
    from topcoat.metrics.base import Interval
    from topcoat.metrics.gap import GapClosed
    from topcoat.metrics.groups import Groups

_COLOURS = {"distilled": "distilled", "enhanced": "enhanced", "gated": "gated", "floor": "baseline"}
_NAMES = {**dict(SETS), "distilled": "distilled", "gated": "with gates", "reference": "baseline"}
_SPECTRUM_TICKS = (0.02, 0.05, 0.1, 0.25, 0.5)
_LABEL_LETTERS = 20


def charts(found: Evaluation) -> str:
    """Distances, share of the gap closed, spectra and the two-sample test, as far as they were measured."""
    return "".join((_distances(found), _gap(found), _spectra(found), _ratio(found), _two_sample(found)))


def group_charts(groups: Groups) -> list[str]:
    """One chart for each score: the mean of every group with its interval, beside the others."""
    parts: list[str] = []
    for score in dict.fromkeys(one.score for one in groups.scores):
        rows: list[Bar | str] = []
        attribute = ""
        for one in groups.scores:
            if one.score != score:
                continue
            if one.attribute != attribute:
                attribute = one.attribute
                rows.append(attribute.replace("_", " "))
            colour = "warn" if one.exceeds_noise else "baseline"
            rows.append(Bar(_short(one.group), one.mean, f"{one.mean:.3g}", colour, one.low, one.high))
        ends = [end for row in rows if isinstance(row, Bar) for end in (row.low, row.high) if end is not None]
        ticks = round_ticks(min(ends), max(ends))
        chart = intervals(rows, title=f"{score} by group", ticks=ticks)
        parts.append(_chart(score[0].upper() + score[1:], "Mean and 95 % interval of each group.", chart))
    return parts


def _distances(found: Evaluation) -> str:
    gap, gates = found.gap_closed, found.gates
    ends: dict[str, Interval | None] = {"gated": None if gates is None else _enhanced(gates.gap_closed)}
    if gap is not None:
        ends |= {"distilled": gap.distilled, "enhanced": gap.enhanced, "floor": gap.floor}
    rows = []
    for key, _, scores in given_sets(found):
        end = ends.get(key)
        low, high = (None, None) if end is None else (end.low, end.high)
        rows.append(Bar(_NAMES[key], scores.frechet, f"{scores.frechet:.3g}", _COLOURS[key], low, high))
    marker = None if found.floor is None else (found.floor.frechet, "floor")
    note = "Fréchet distance; lines are 95 % intervals. Shorter is nearer."
    return _chart("Distance to the baseline", note, bars(rows, title="Fréchet distance", marker=marker))


def _enhanced(gap: GapClosed | None) -> Interval | None:
    return None if gap is None else gap.enhanced


def _gap(found: Evaluation) -> str:
    gaps: list[tuple[str, str, GapClosed | None]] = [("enhanced", "enhanced", found.gap_closed)]
    if found.gates is not None:
        gaps.append(("gated", "with gates", found.gates.gap_closed))
    rows: list[Bar | str] = [
        Bar(label, gap.value, percent(gap.value), _COLOURS[key], gap.low, gap.high)
        for key, label, gap in gaps
        if gap is not None and gap.value is not None
    ]
    if not rows:
        return ""
    rows.insert(0, "all subjects")
    attribute = ""
    for one in () if found.groups is None else found.groups.gaps:
        if one.value is None:
            continue
        if one.attribute != attribute:
            attribute = one.attribute
            rows.append(attribute.replace("_", " "))
        rows.append(Bar(_short(one.group), one.value, percent(one.value), "enhanced", one.low, one.high))
    ticks = [(0.0, "0 %"), (0.5, "50 %"), (1.0, "100 %")]
    note = "0 % is the distilled image, 100 % as near as the baseline is to itself; lines are 95 % intervals."
    return _chart("Share of the gap closed", note, intervals(rows, title="Share of the gap closed", ticks=ticks))


def _spectra(found: Evaluation) -> str:
    if found.spectra is None:
        return ""
    places = [math.log10(value) for value in found.spectra.cycles_per_px]
    series = [
        (_NAMES[key], list(zip(places, power, strict=True)), _COLOURS.get(key, "baseline"))
        for key, power in found.spectra.power.items()
        if key != "gated"
    ]
    ticks = [(math.log10(value), f"{value:g}") for value in _SPECTRUM_TICKS]
    chart = curves(series, title="Power spectra", x_ticks=ticks, log_y=True)
    return _chart("Power spectra", "Mean power of the luma by cycles per pixel, both axes logarithmic.", chart)


def _ratio(found: Evaluation) -> str:
    """The spectra over that of the baseline, where a few decibels can be seen."""
    if found.spectra is None or "reference" not in found.spectra.power:
        return ""
    reference = found.spectra.power["reference"]
    series = [
        (
            _NAMES[key],
            [
                (place, 10 * math.log10(ours / theirs))
                for place, ours, theirs in zip(found.spectra.cycles_per_px, power, reference, strict=True)
                if ours > 0 and theirs > 0
            ],
            _COLOURS[key],
        )
        for key, power in found.spectra.power.items()
        if key not in ("gated", "reference")
    ]
    ticks = [(value, f"{value:g}") for value in (0.1, 0.2, 0.3, 0.4)]
    chart = curves(series, title="Power over the baseline's, in dB", x_ticks=ticks, level=0.0)
    return _chart("Against the baseline's power", "dB by cycles per pixel; below 0 fine detail is missing.", chart)


def _two_sample(found: Evaluation) -> str:
    tests = [(key, scores.two_sample) for key, _, scores in given_sets(found) if scores.two_sample is not None]
    if not tests:
        return ""
    rows = [
        Bar(_NAMES[key], test.accuracy, percent(test.accuracy), _COLOURS[key], test.accuracy_low, test.accuracy_high)
        for key, test in tests
    ]
    ticks = [(0.5, "50 %"), (0.75, "75 %"), (1.0, "100 %")]
    note = "Accuracy of a fresh classifier against the baseline; 50 % is chance."
    return _chart("Can they be told apart?", note, intervals(rows, title="Two-sample test", ticks=ticks))


def _short(label: str) -> str:
    return label if len(label) <= _LABEL_LETTERS else f"{label[: _LABEL_LETTERS - 1]}…"


def _chart(name: str, note: str, chart: str) -> str:
    return f'<div class="chart"><h3>{safe(name)}</h3><p>{safe(note)}</p>{chart}</div>'
