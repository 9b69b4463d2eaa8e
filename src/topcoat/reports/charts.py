"""Small charts as SVG; colours are CSS variables of the page, so they follow dark mode."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from torch import Tensor

_WIDTH = 488
_WIDE = 760
_LABEL = 198
_ROW = 40
_SLIM_ROW = 28
_MARGIN = 12
_CHARACTER = 8.1
"""About the width of a letter of the labels, of which the longest decide where things go."""

Tick = tuple[float, str]
"""A value and its name."""
CYCLES: Sequence[Tick] = tuple((value, f"{value:g}") for value in (0.1, 0.2, 0.3, 0.4))
"""Spatial frequencies, in cycles per pixel."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One value with an optional interval, its printed ``text`` and the CSS colour variable that it is drawn in."""

    label: str
    value: float
    text: str
    colour: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """One point of `scatter`, with an optional interval of ``y``."""

    x: float
    y: float
    colour: str
    label: str = ""
    """Drawn beside the point: a number or a few letters that a table explains."""
    low: float | None = None
    high: float | None = None
    ringed: bool = False
    """Marked with a ring."""


@dataclass(frozen=True, slots=True)
class _Axis:
    """Where values from ``low`` to ``high`` lie between ``start`` and ``end``."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / ((self.high - self.low) or 1.0) * (self.end - self.start)


class _Drawing:
    """An SVG element that grows part by part."""

    def __init__(self, title: str, width: int = _WIDTH) -> None:
        self._title, self._width = html.escape(title, quote=True), width
        self._parts: list[str] = []

    def text(self, x: float, y: float, text: str, anchor: str, kind: str = "label") -> None:
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{html.escape(text)}</text>'
        )

    def line(self, path: str, colour: str, width: float = 1, extra: str = 'fill="none"') -> None:
        self._parts.append(f'<path d="{path}" stroke="var(--{colour})" stroke-width="{width:g}" {extra}/>')

    def dashed(self, path: str, colour: str = "muted") -> None:
        self.line(path, colour, 1, 'stroke-dasharray="3 4" fill="none"')

    def rect(
        self, x: float, y: float, width: float, height: float, radius: float, colour: str, extra: str = ""
    ) -> None:
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{radius:g}" '
            f'fill="var(--{colour})"{extra}/>'
        )

    def dot(self, x: float, y: float, radius: float, colour: str, extra: str = "") -> None:
        fill = extra or f'fill="var(--{colour})"'
        self._parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" {fill}/>')

    def whisker(self, low: float, high: float, y: float, colour: str, width: float) -> None:
        self.line(f"M{low:.1f} {y}H{high:.1f}M{low:.1f} {y - 5}v10M{high:.1f} {y - 5}v10", colour, width)

    def grid(self, axis: _Axis, ticks: Sequence[Tick], left: float) -> None:
        """A line with its name for each of ``ticks`` of a vertical axis."""
        for value, name in ticks:
            self.line(f"M{left} {axis(value):.1f}H{self._width - _MARGIN}", "line")
            self.text(left - 8, axis(value) + 5, name, "end", "small")

    def names(self, axis: _Axis, ticks: Sequence[Tick], y: float) -> None:
        """The names of those ``ticks`` of a horizontal axis that lie in the picture."""
        for value, name in ticks:
            if axis.low <= value <= axis.high:
                self.text(axis(value), y, name, "middle", "small")

    def legend(self, names: Sequence[tuple[str, str]], top: float) -> float:
        """Names with their colours from ``top`` on, in as many lines as they need; where the last line ends."""
        x = float(_MARGIN)
        for name, colour in names:
            width = 18 + _CHARACTER * len(name)
            if x > _MARGIN and x + width > self._width:
                x, top = float(_MARGIN), top + 22
            self.rect(x, top, 12, 12, 3, colour)
            self.text(x + 18, top + 11, name, "start", "small")
            x += width + 14
        return top + 18

    def svg(self, height: float) -> Markup:
        head = f'<svg class="drawn" viewBox="0 0 {self._width} {height:g}" role="img" aria-label="{self._title}">'
        return Markup(head + "".join(self._parts) + "</svg>")


def standalone(drawing: Markup) -> str:
    """A drawing as an SVG file of its own, in the light colours of the pages, on white."""
    css = (resources.files("topcoat.reports") / "templates" / "page.css").read_text("utf-8")
    colours = css[css.index("{") + 1 : css.index("}")]
    style = (
        f"svg {{ {' '.join(colours.split())} font: 13px system-ui, sans-serif; background: #fff; }} "
        "text { fill: var(--ink); } .small { font-size: 12px; fill: var(--muted); } .figure { font-weight: 600; }"
    )
    head, body = drawing.split(">", 1)
    return f'{head} xmlns="http://www.w3.org/2000/svg"><style>{style}</style>{body}'


def bars(rows: Sequence[Bar], *, title: str, marker: Tick | None = None) -> Markup:
    """Horizontal bars from 0; ``marker`` is a value with its name, drawn as a dashed line over all rows."""
    top = max([max(row.value, row.high or 0.0) for row in rows] + [marker[0] if marker else 0.0])
    x = _Axis(0.0, top, _LABEL, _WIDTH - 28 - _CHARACTER * max(len(row.text) for row in rows))
    height = len(rows) * _ROW + (26 if marker else 6)
    drawing = _Drawing(title)
    for index, row in enumerate(rows):
        y = index * _ROW + 8
        end = max(_LABEL + 2.0, x(row.value))
        drawing.text(_LABEL - 12, y + 16, row.label, "end")
        drawing.rect(_LABEL, y, end - _LABEL, 24, 4, row.colour)
        if row.low is not None and row.high is not None:
            drawing.whisker(x(row.low), x(row.high), y + 12, "ink", 1.5)
            end = max(end, x(row.high))
        drawing.text(end + 10, y + 17, row.text, "start", "figure")
    if marker is not None:
        drawing.dashed(f"M{x(marker[0]):.1f} 2V{height - 20}")
        drawing.text(min(x(marker[0]), _WIDTH - 60), height - 5, marker[1], "middle", "small")
    return drawing.svg(height)


def intervals(rows: Sequence[Bar | str], *, title: str, ticks: Sequence[Tick]) -> Markup:
    """Values as dots with their intervals on one axis, which may go below 0; a text among ``rows`` is a heading.

    ``ticks`` are all inside the picture.
    """
    given = [row for row in rows if isinstance(row, Bar)]
    values = [end for row in given for end in (row.value, row.low, row.high) if end is not None]
    values += [tick for tick, _ in ticks]
    room = _WIDTH - 28 - _CHARACTER * max([len(row.text) for row in given], default=0)
    x = _Axis(min(values, default=0.0), max(values, default=1.0), _LABEL + 8, room)
    base = 8 + len(rows) * _SLIM_ROW
    drawing = _Drawing(title)
    for tick, _ in ticks:
        drawing.line(f"M{x(tick):.1f} 8V{base}", "line")
    drawing.names(x, ticks, base + 17)
    for index, row in enumerate(rows):
        y = 8 + (index + 0.5) * _SLIM_ROW
        if isinstance(row, str):
            drawing.text(0, y + 5, row, "start", "figure")
            continue
        drawing.text(_LABEL - 8, y + 5, row.label, "end")
        if row.low is not None and row.high is not None:
            drawing.whisker(x(row.low), x(row.high), y, row.colour, 2)
        drawing.dot(x(row.value), y, 5, row.colour)
        drawing.text(_WIDTH, y + 5, row.text, "end", "figure")
    return drawing.svg(base + 22)


def histogram(
    series: Sequence[tuple[str, Tensor, str]],
    *,
    title: str,
    bins: int = 48,
    span: tuple[float, float] | None = None,
    ticks: Sequence[Tick] = ((-0.5, "-0.5"), (0.0, "0"), (0.5, "0.5"), (1.0, "1")),
    marker: Tick | None = None,
) -> Markup:
    """Overlaid histograms: ``(name, values, colour)``, each scaled to its own highest bin.

    ``span`` is what the axis covers, by default similarities: from just under 0 (or the lowest value) to 1. Ticks
    outside are left out. ``marker`` is drawn as a dashed line.
    """
    if span is None:
        span = (min([-0.05, *(float(values.min()) for _, values, _ in series if len(values))]), 1.0)
    x = _Axis(*span, _MARGIN, _WIDTH - _MARGIN)
    base, top, width = 150, 12 if marker is None else 26, (_WIDTH - 2 * _MARGIN) / bins
    drawing = _Drawing(title)
    for _, values, colour in series:
        counts = values.float().histc(bins, *span)
        for index, share in enumerate((counts / counts.max().clamp_min(1)).tolist()):
            if share > 0:
                tall = share * (base - top)
                left = _MARGIN + index * width
                drawing.rect(left, base - tall, width - 1, tall, 1.5, colour, ' fill-opacity=".72"')
    drawing.line(f"M{_MARGIN} {base}H{_WIDTH - _MARGIN}", "line")
    for tick, name in ticks:
        if span[0] <= tick <= span[1]:
            anchor = "end" if tick == span[1] else "start" if tick == span[0] else "middle"
            drawing.text(x(tick), base + 18, name, anchor, "small")
    if marker is not None and span[0] <= marker[0] <= span[1]:
        place = x(marker[0])
        anchor, offset = ("end", -6) if place > _WIDTH / 2 else ("start", 6)
        drawing.dashed(f"M{place:.1f} 4V{base}", "ink")
        drawing.text(place + offset, 16, marker[1], anchor, "small")
    return drawing.svg(drawing.legend([(name, colour) for name, _, colour in series], base + 26))


def curves(
    series: Sequence[tuple[str, Sequence[tuple[float, float]], str]],
    *,
    title: str,
    x_ticks: Sequence[Tick],
    log_y: bool = False,
    level: float | None = None,
) -> Markup:
    """Lines through ``(x, y)`` points: ``(name, points, colour)``; with ``log_y`` whole decades are marked.

    ``level`` is a y value that is always in the picture, drawn as a dashed line (on a linear axis).
    Points that are not finite, or not above 0 on a logarithmic axis, are left out.
    """
    lines = [
        [(x, math.log10(y) if log_y else y) for x, y in points if math.isfinite(y) and (y > 0 or not log_y)]
        for _, points, _ in series
    ]
    every = [point for points in lines for point in points]
    base, left = 226, 72
    drawing = _Drawing(title)
    if every:
        across = [place for place, _ in every]
        heights = [height for _, height in every] + ([] if level is None else [level])
        x = _Axis(min(across), max(across), left, _WIDTH - _MARGIN)
        y = _Axis(min(heights), max(heights), base, 16)
        drawing.grid(y, _log_ticks(y.low, y.high, (1,)) if log_y else round_ticks(y.low, y.high), left)
        drawing.names(x, x_ticks, base + 20)
        if level is not None:
            drawing.dashed(f"M{left} {y(level):.1f}H{_WIDTH - _MARGIN}", "ink")
        for points, (_, _, colour) in zip(lines, series, strict=True):
            path = "L".join(f"{x(place):.1f} {y(height):.1f}" for place, height in points)
            drawing.line(f"M{path}", colour, 3, 'stroke-linejoin="round" fill="none"')
    return drawing.svg(drawing.legend([(name, colour) for name, _, colour in series], base + 28))


def spectra(series: Sequence[tuple[str, Sequence[tuple[float, float]], str]]) -> Markup:
    """Power by cycles per pixel, above 0, as in `curves`; both axes are logarithmic."""
    lines = [(name, [(math.log10(x), y) for x, y in points], colour) for name, points, colour in series]
    ticks = [(math.log10(value), f"{value:g}") for value in (0.02, 0.05, 0.1, 0.25, 0.5)]
    return curves(lines, title="Radial power spectra, cycles per pixel", x_ticks=ticks, log_y=True)


def scatter(
    points: Sequence[Point],
    *,
    title: str,
    x_label: str,
    y_label: str,
    names: Sequence[tuple[str, str]] = (),
    line: Sequence[tuple[float, float]] = (),
    level: Tick | None = None,
) -> Markup:
    """Points with intervals and short labels on two axes; x, above 0, is logarithmic, y starts at 0.

    ``names`` are ``(name, colour)`` of the legend; ``line`` joins the Pareto set; ``level`` is a y value with its name,
    drawn as a dashed line.
    """
    base, left, top = 360, 64, 16
    across = [math.log10(point.x) for point in points] or [0.0]
    slack = 0.05 * (max(across) - min(across)) or 0.5
    heights = [end for point in points for end in (point.y, point.high) if end is not None]
    x = _Axis(min(across) - slack, max(across) + slack, left, _WIDE - _MARGIN)
    y = _Axis(0.0, max([*heights, 0.0 if level is None else level[0]]) * 1.04 or 1.0, base, top)
    drawing = _Drawing(title, _WIDE)
    drawing.grid(y, round_ticks(0.0, y.high), left)
    ticks = _log_ticks(x.low, x.high, (1, 2, 5))
    for tick, _ in ticks:
        drawing.line(f"M{x(tick):.1f} {base}v5", "muted")
    drawing.names(x, ticks, base + 20)
    drawing.text((left + _WIDE) / 2, base + 42, x_label, "middle", "small")
    drawing.text(left, top - 4, y_label, "start", "small")
    if level is not None:
        drawing.dashed(f"M{left} {y(level[0]):.1f}H{_WIDE - _MARGIN}", "baseline")
        drawing.text(_WIDE - _MARGIN, y(level[0]) - 5, level[1], "end", "small")
    if len(line) > 1:
        path = "L".join(f"{x(math.log10(cost)):.1f} {y(height):.1f}" for cost, height in line)
        drawing.line(f"M{path}", "muted", 1.2)
    for place, point in zip(across, points, strict=False):
        if point.low is not None and point.high is not None:
            drawing.line(f"M{x(place):.1f} {y(point.low):.1f}V{y(point.high):.1f}", point.colour)
        drawing.dot(x(place), y(point.y), 5, point.colour)
        if point.ringed:
            drawing.dot(x(place), y(point.y), 10, point.colour, 'fill="none" stroke="var(--ink)" stroke-width="1.8"')
        if point.label:
            drawing.text(x(place) + 8, y(point.y) - 7, point.label, "start", "figure")
    return drawing.svg(drawing.legend(names, base + 54))


def round_ticks(low: float, high: float) -> list[Tick]:
    """Two to five round values from ``low`` to ``high``, with their names; just ``low`` where the two are equal."""
    if not high > low:
        return [(low, f"{low:.3g}")]
    power = 10.0 ** math.floor(math.log10((high - low) / 2))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if (high - low) / step < 5)
    slack = step * 1e-9  # rounding must not cost an end
    numbers = range(math.ceil((low - slack) / step), math.floor((high + slack) / step) + 1)
    return [(number * step, f"{number * step:.4g}") for number in numbers]


def _log_ticks(low: float, high: float, steps: Sequence[int]) -> list[Tick]:
    """``steps`` times the powers of ten between two logarithms: the logarithm and the name."""
    values = [step * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for step in steps]
    return [(math.log10(value), f"{value:g}") for value in values if low <= math.log10(value) <= high]
