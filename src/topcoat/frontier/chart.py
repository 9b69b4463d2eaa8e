"""Quality against cost as a picture: every setting with its interval, the Pareto set joined by a line."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from topcoat.files import atomic_path
from topcoat.frontier.labels import place_labels
from topcoat.frontier.pareto import pareto_front
from topcoat.frontier.sweep import Frontier, Point

_COLOURS = {"bare": "#8b9bb4", "head": "#d9622b", "baseline": "#2f6f62"}
_NAMES = {"bare": "distilled alone", "head": "distilled + head", "baseline": "baseline"}
_MUTED = "#8a8279"  # reads on white and on black, for the page is shown on both


def write_png(path: Path, frontier: Frontier, chosen: Point | None) -> None:
    """The chart on white as a PNG file, written atomically."""
    figure = _draw(frontier, chosen)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=160, facecolor="white")


def as_svg(frontier: Frontier, chosen: Point | None) -> str:
    """The chart as an SVG element with a transparent ground, for a page."""
    buffer = io.StringIO()
    _draw(frontier, chosen).savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _draw(frontier: Frontier, chosen: Point | None) -> Any:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    muted = dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "text.color"), _MUTED)
    # Fixed ids, so that the same sweep gives the same file.
    with rc_context({**muted, "svg.hashsalt": "topcoat", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(9, 5.6), layout="constrained")
        axes = figure.subplots()
        front = pareto_front(frontier.points)
        axes.plot([p.tflop for p in front], [p.distance for p in front], color=_MUTED, lw=1.2, zorder=1)
        for kind in _COLOURS:
            _scatter(axes, [p for p in frontier.points if _kind(p) == kind], kind)
        axes.axhline(frontier.floor, color=_COLOURS["baseline"], lw=1, ls="--", zorder=0)
        axes.annotate(
            "floor: the baseline at other seeds", (0.99, frontier.floor), xycoords=("axes fraction", "data"),
            xytext=(0, 3), textcoords="offset points", ha="right", va="bottom", fontsize=8,
        )  # fmt: skip
        if chosen is not None:
            axes.scatter([chosen.tflop], [chosen.distance], s=190, facecolors="none", edgecolors=_MUTED, lw=1.8)
        axes.set_xscale("log")
        axes.margins(x=0.08)
        axes.set_ylim(bottom=-0.05 * axes.get_ylim()[1])  # room below the baseline, which lies at 0
        axes.set_xlabel("TFLOP per image, whole pipeline (computed, logarithmic)")
        axes.set_ylabel("Fréchet distance to the baseline (measured)")
        axes.set_title(f"{frontier.pair}, {frontier.width_px}x{frontier.height_px} px, N = {frontier.n:,}", loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
        place_labels(
            axes,
            [(point.setting.label, point.tflop, point.distance) for point in front],
            [(point.tflop, point.distance) for point in frontier.points],
            lines=[
                [(point.tflop, point.distance) for point in front],
                [(end, frontier.floor) for end in axes.get_xlim()],
            ],
        )
    return figure


def _kind(point: Point) -> str:
    if point.setting.model == "baseline":
        return "baseline"
    return "bare" if point.setting.head is None else "head"


def _scatter(axes: Any, points: Sequence[Point], kind: str) -> None:
    if not points:
        return
    values = [p.distance for p in points]
    ends = [p.gap.enhanced for p in points]
    low = [max(0.0, value - end.low) for value, end in zip(values, ends, strict=True)]
    high = [max(0.0, end.high - value) for value, end in zip(values, ends, strict=True)]
    axes.errorbar(
        [p.tflop for p in points], values, yerr=[low, high], fmt="o", ms=6, lw=1, color=_COLOURS[kind],
        label=_NAMES[kind], zorder=2,
    )  # fmt: skip
