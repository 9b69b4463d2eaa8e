"""Small charts as SVG; colours are CSS variables of the page, so they follow dark mode."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from markupsafe import Markup
from torch import Tensor

_WIDTH = 480
_WIDE = 760
_LABEL = 176
_ROW = 40
_SLIM_ROW = 28
_MARGIN = 12
_CHARACTER = 8.1
"""About the width of a letter of the labels, of which the longest decide where things go."""

Tick = tuple[float, str]
"""A value and its name."""


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
    room = _WIDTH - _LABEL - 16 - _CHARACTER * max(len(row.text) for row in rows)
    scale = room / top if top > 0 else 0.0
    height = len(rows) * _ROW + (26 if marker else 6)
    drawing = _Drawing(title)
    for index, row in enumerate(rows):
        y = index * _ROW + 8
        end = max(2.0, row.value * scale)
        drawing.text(_LABEL - 12, y + 16, row.label, "end")
        drawing.rect(_LABEL, y, end, 24, 4, row.colour)
        if row.low is not None and row.high is not None:
            low, high = _LABEL + row.low * scale, _LABEL + row.high * scale
            drawing.line(f"M{low:.1f} {y + 12}H{high:.1f}M{low:.1f} {y + 7}v10M{high:.1f} {y + 7}v10", "ink", 1.5)
            end = max(end, high - _LABEL)
        drawing.text(_LABEL + end + 10, y + 17, row.text, "start", "figure")
    if marker is not None:
        x = _LABEL + marker[0] * scale
        drawing.dashed(f"M{x:.1f} 2V{height - 20}")
        drawing.text(min(x, _WIDTH - 60), height - 5, marker[1], "middle", "small")
    return drawing.svg(height)


def intervals(rows: Sequence[Bar | str], *, title: str, ticks: Sequence[Tick]) -> Markup:
    """Values as dots with their intervals on one axis, which may go below 0; a text among ``rows`` is a heading.

    ``ticks`` are all inside the picture.
    """
    values = [end for row in rows if isinstance(row, Bar) for end in (row.value, row.low, row.high) if end is not None]
    values += [tick for tick, _ in ticks]
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = _WIDTH - _LABEL - 24 - _CHARACTER * max([len(row.text) for row in rows if isinstance(row, Bar)], default=0)
    scale = room / ((high - low) or 1.0)

    def position(value: float) -> float:
        return _LABEL + 8 + (value - low) * scale

    top = 8
    base = top + len(rows) * _SLIM_ROW
    drawing = _Drawing(title)
    for tick, name in ticks:
        drawing.line(f"M{position(tick):.1f} {top}V{base}", "line")
        drawing.text(position(tick), base + 17, name, "middle", "small")
    for index, row in enumerate(rows):
        y = top + index * _SLIM_ROW + _SLIM_ROW / 2
        if isinstance(row, str):
            drawing.text(0, y + 5, row, "start", "figure")
            continue
        drawing.text(_LABEL - 8, y + 5, row.label, "end")
        if row.low is not None and row.high is not None:
            ends = position(row.low), position(row.high)
            caps = "".join(f"M{end:.1f} {y - 5}v10" for end in ends)
            drawing.line(f"M{ends[0]:.1f} {y}H{ends[1]:.1f}{caps}", row.colour, 2)
        drawing.dot(position(row.value), y, 5, row.colour)
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
    low, high = span
    base, top = 150, 12 if marker is None else 26
    drawing = _Drawing(title)
    across = _WIDTH - 2 * _MARGIN
    width = across / bins

    def position(value: float) -> float:
        return _MARGIN + (value - low) / (high - low) * across

    for _, values, colour in series:
        counts = values.float().histc(bins, low, high)
        for index, share in enumerate((counts / counts.max().clamp_min(1)).tolist()):
            if share > 0:
                tall = share * (base - top)
                drawing.rect(
                    _MARGIN + index * width, base - tall, width - 1, tall, 1.5, colour, ' fill-opacity=".72"'
                )  # fmt: skip
    drawing.line(f"M{_MARGIN} {base}H{_WIDTH - _MARGIN}", "line")
    for tick, name in ticks:
        if low <= tick <= high:
            anchor = "end" if tick == high else "start" if tick == low else "middle"
            drawing.text(position(tick), base + 18, name, anchor, "small")
    if marker is not None and low <= marker[0] <= high:
        x = position(marker[0])
        anchor, offset = ("end", -6) if x > _WIDTH / 2 else ("start", 6)
        drawing.dashed(f"M{x:.1f} 4V{base}", "ink")
        drawing.text(x + offset, 16, marker[1], anchor, "small")
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
        (
            [(x, math.log10(y) if log_y else y) for x, y in points if math.isfinite(y) and (y > 0 or not log_y)],
            colour,
        )
        for _, points, colour in series
    ]
    every = [point for points, _ in lines for point in points]
    base, left = 226, 72
    drawing = _Drawing(title)
    if every:
        low_x, high_x = (pick(x for x, _ in every) for pick in (min, max))
        heights = [y for _, y in every] + ([] if level is None else [level])
        low_y, high_y = min(heights), max(heights)
        scale_x = (_WIDTH - left - _MARGIN) / ((high_x - low_x) or 1.0)
        scale_y = (base - 16) / ((high_y - low_y) or 1.0)
        for value, name in _decades(low_y, high_y) if log_y else round_ticks(low_y, high_y):
            y = base - (value - low_y) * scale_y
            drawing.line(f"M{left} {y:.1f}H{_WIDTH - _MARGIN}", "line")
            drawing.text(left - 8, y + 5, name, "end", "small")
        for tick, name in x_ticks:
            if low_x <= tick <= high_x:
                drawing.text(left + (tick - low_x) * scale_x, base + 20, name, "middle", "small")
        if level is not None:
            drawing.dashed(f"M{left} {base - (level - low_y) * scale_y:.1f}H{_WIDTH - _MARGIN}", "ink")
        for points, colour in lines:
            path = "L".join(f"{left + (x - low_x) * scale_x:.1f} {base - (y - low_y) * scale_y:.1f}" for x, y in points)
            drawing.line(f"M{path}", colour, 3, 'stroke-linejoin="round" fill="none"')
    return drawing.svg(drawing.legend([(name, colour) for name, _, colour in series], base + 28))


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
    places = [math.log10(point.x) for point in points] or [0.0]
    low_x, high_x = min(places), max(places)
    slack = 0.05 * (high_x - low_x) or 0.5
    low_x, high_x = low_x - slack, high_x + slack
    heights = [end for point in points for end in (point.y, point.high) if end is not None]
    high_y = max([*heights, 0.0 if level is None else level[0]], default=0.0) * 1.04 or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        across_share = (math.log10(x) - low_x) / (high_x - low_x)
        return left + across_share * (_WIDE - left - _MARGIN), base - y / high_y * (base - top)

    drawing = _Drawing(title, _WIDE)
    for value, name in round_ticks(0.0, high_y):
        y = place(points[0].x if points else 1.0, value)[1]
        drawing.line(f"M{left} {y:.1f}H{_WIDE - _MARGIN}", "line")
        drawing.text(left - 8, y + 5, name, "end", "small")
    for value, name in _log_ticks(low_x, high_x):
        x, _ = place(value, 0.0)
        drawing.line(f"M{x:.1f} {base}v5", "muted")
        drawing.text(x, base + 20, name, "middle", "small")
    drawing.text((left + _WIDE) / 2, base + 42, x_label, "middle", "small")
    drawing.text(left, top - 4, y_label, "start", "small")
    if level is not None:
        y = place(points[0].x if points else 1.0, level[0])[1]
        drawing.dashed(f"M{left} {y:.1f}H{_WIDE - _MARGIN}", "baseline")
        drawing.text(_WIDE - _MARGIN, y - 5, level[1], "end", "small")
    if len(line) > 1:
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in (place(*end) for end in line))
        drawing.line(f"M{path}", "muted", 1.2)
    for point in points:
        x, y = place(point.x, point.y)
        if point.low is not None and point.high is not None:
            drawing.line(
                f"M{x:.1f} {place(point.x, point.low)[1]:.1f}V{place(point.x, point.high)[1]:.1f}", point.colour
            )
        drawing.dot(x, y, 5, point.colour)
        if point.ringed:
            drawing.dot(x, y, 10, point.colour, 'fill="none" stroke="var(--ink)" stroke-width="1.8"')
        if point.label:
            drawing.text(x + 8, y - 7, point.label, "start", "figure")
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


def _decades(low: float, high: float) -> list[Tick]:
    """Powers of ten between two logarithms: the logarithm and the name."""
    return [(float(power), f"{10.0**power:g}") for power in range(math.ceil(low), math.floor(high) + 1)]


def _log_ticks(low: float, high: float) -> list[Tick]:
    """1, 2 and 5 times the powers of ten between two logarithms: the value itself and its name."""
    values = [step * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for step in (1, 2, 5)]
    return [(value, f"{value:g}") for value in values if low <= math.log10(value) <= high]
