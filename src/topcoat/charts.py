"""Small charts as hand-made SVG; colours are CSS variables of the page, so they follow dark mode."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

_WIDTH = 480
_LABEL = 176
_ROW = 40
_SLIM_ROW = 28
_MARGIN = 12
_CHARACTER = 8.1
"""About the width of a letter of the labels, of which the longest decide where things go."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One value with an optional interval, its printed ``text`` and the CSS colour variable that it is drawn in."""

    label: str
    value: float
    text: str
    colour: str
    low: float | None = None
    high: float | None = None


def bars(rows: Sequence[Bar], *, title: str, marker: tuple[float, str] | None = None) -> str:
    """Horizontal bars from 0; ``marker`` is a value with its name, drawn as a dashed line over all rows."""
    top = max([max(row.value, row.high or 0.0) for row in rows] + [marker[0] if marker else 0.0])
    room = _WIDTH - _LABEL - 16 - _CHARACTER * max(len(row.text) for row in rows)
    scale = room / top if top > 0 else 0.0
    height = len(rows) * _ROW + (26 if marker else 6)
    parts = [_open(height, title)]
    for index, row in enumerate(rows):
        y = index * _ROW + 8
        width = max(2.0, row.value * scale)
        parts.append(_text(_LABEL - 12, y + 16, row.label, "end"))
        parts.append(f'<rect x="{_LABEL}" y="{y}" width="{width:.1f}" height="24" rx="4" fill="var(--{row.colour})"/>')
        end = width
        if row.low is not None and row.high is not None:
            low, high = row.low * scale, row.high * scale
            line = f"M{_LABEL + low:.1f} {y + 12}H{_LABEL + high:.1f}"
            caps = "".join(f"M{_LABEL + x:.1f} {y + 7}v10" for x in (low, high))
            parts.append(f'<path d="{line}{caps}" stroke="var(--ink)" stroke-width="1.5" fill="none"/>')
            end = max(end, high)
        parts.append(_text(_LABEL + end + 10, y + 17, row.text, "start", "figure"))
    if marker is not None:
        x = _LABEL + marker[0] * scale
        parts.append(f'<path d="M{x:.1f} 2V{height - 20}" stroke="var(--muted)" stroke-dasharray="3 4" fill="none"/>')
        parts.append(_text(min(x, _WIDTH - 60), height - 5, marker[1], "middle", "small"))
    return "".join(parts) + "</svg>"


def intervals(
    rows: Sequence[Bar | str],
    *,
    title: str,
    ticks: Sequence[tuple[float, str]],
    marker: tuple[float, str] | None = None,
) -> str:
    """Values as dots with their intervals on one axis, which may go below 0; a text among ``rows`` is a heading.

    ``ticks`` are values with their names, all inside the picture; ``marker`` is a value with its name, drawn as a
    dashed line over all rows.
    """
    values = [end for row in rows if isinstance(row, Bar) for end in (row.value, row.low, row.high) if end is not None]
    values += [tick for tick, _ in ticks] + ([] if marker is None else [marker[0]])
    low, high = min(values, default=0.0), max(values, default=1.0)
    texts = [len(row.text) for row in rows if isinstance(row, Bar)]
    room = _WIDTH - _LABEL - 24 - _CHARACTER * max(texts, default=0)
    scale = room / ((high - low) or 1.0)

    def place(value: float) -> float:
        return _LABEL + 8 + (value - low) * scale

    top = 8 if marker is None else 24
    base = top + len(rows) * _SLIM_ROW
    parts = [_open(base + 22, title)]
    for tick, name in ticks:
        parts.append(f'<path d="M{place(tick):.1f} {top}V{base}" stroke="var(--line)"/>')
        parts.append(_text(place(tick), base + 17, name, "middle", "small"))
    if marker is not None:
        x = place(marker[0])
        parts.append(f'<path d="M{x:.1f} {top}V{base}" stroke="var(--muted)" stroke-dasharray="3 4" fill="none"/>')
        parts.append(_text(x, 15, marker[1], "middle", "small"))
    for index, row in enumerate(rows):
        y = top + index * _SLIM_ROW + _SLIM_ROW / 2
        if isinstance(row, str):
            parts.append(_text(0, y + 5, row, "start", "figure"))
            continue
        parts.append(_text(_LABEL - 8, y + 5, row.label, "end"))
        if row.low is not None and row.high is not None:
            line = f"M{place(row.low):.1f} {y}H{place(row.high):.1f}"
            caps = "".join(f"M{place(end):.1f} {y - 5}v10" for end in (row.low, row.high))
            parts.append(f'<path d="{line}{caps}" stroke="var(--{row.colour})" stroke-width="2" fill="none"/>')
        parts.append(f'<circle cx="{place(row.value):.1f}" cy="{y}" r="5" fill="var(--{row.colour})"/>')
        parts.append(_text(_WIDTH, y + 5, row.text, "end", "figure"))
    return "".join(parts) + "</svg>"


def histogram(
    series: Sequence[tuple[str, Tensor, str]],
    *,
    title: str,
    bins: int = 48,
    span: tuple[float, float] | None = None,
    ticks: Sequence[tuple[float, str]] = ((-0.5, "-0.5"), (0.0, "0"), (0.5, "0.5"), (1.0, "1")),
    marker: tuple[float, str] | None = None,
) -> str:
    """Overlaid histograms: ``(name, values, colour)``, each scaled to its own highest bin.

    ``span`` is what the axis covers, by default similarities: from just under 0 (or the lowest value) to 1. ``ticks``
    are values with their names; those outside are left out. ``marker`` is a value drawn as a dashed line.
    """
    if span is None:
        span = (min([-0.05, *(float(values.min()) for _, values, _ in series if len(values))]), 1.0)
    low, high = span
    base, top = 150, 12 if marker is None else 26
    legend, height = _legend([(name, colour) for name, _, colour in series], base + 26)
    parts = [_open(height, title)]
    across = _WIDTH - 2 * _MARGIN
    width = across / bins

    def place(value: float) -> float:
        return _MARGIN + (value - low) / (high - low) * across

    for _, values, colour in series:
        counts = values.float().histc(bins, low, high)
        share = counts / counts.max().clamp_min(1)
        for index, value in enumerate(share.tolist()):
            if value > 0:
                x, tall = _MARGIN + index * width, value * (base - top)
                parts.append(
                    f'<rect x="{x:.1f}" y="{base - tall:.1f}" width="{width - 1:.1f}" height="{tall:.1f}" rx="1.5" '
                    f'fill="var(--{colour})" fill-opacity=".72"/>'
                )
    parts.append(f'<path d="M{_MARGIN} {base}H{_WIDTH - _MARGIN}" stroke="var(--line)"/>')
    for tick, name in ticks:
        if low <= tick <= high:
            anchor = "end" if tick == high else "start" if tick == low else "middle"
            parts.append(_text(place(tick), base + 18, name, anchor, "small"))
    if marker is not None and low <= marker[0] <= high:
        x = place(marker[0])
        anchor = "end" if x > _WIDTH / 2 else "start"
        parts.append(f'<path d="M{x:.1f} 4V{base}" stroke="var(--ink)" stroke-dasharray="3 4" fill="none"/>')
        parts.append(_text(x + (-6 if anchor == "end" else 6), 16, marker[1], anchor, "small"))
    return "".join(parts) + legend + "</svg>"


def curves(
    series: Sequence[tuple[str, Sequence[tuple[float, float]], str]],
    *,
    title: str,
    x_ticks: Sequence[tuple[float, str]],
    log_y: bool = False,
    level: float | None = None,
) -> str:
    """Lines through ``(x, y)`` points: ``(name, points, colour)``; with ``log_y`` whole decades are marked.

    ``level`` is a y value that is always in the picture, drawn as a dashed line (on a linear axis).
    Points that are not finite, or not above 0 on a logarithmic axis, are left out.
    """
    lines = [
        (
            name,
            [(x, math.log10(y) if log_y else y) for x, y in points if math.isfinite(y) and (y > 0 or not log_y)],
            colour,
        )
        for name, points, colour in series
    ]
    every = [point for _, points, _ in lines for point in points]
    base, left = 226, 72
    legend, height = _legend([(name, colour) for name, _, colour in series], base + 28)
    parts = [_open(height, title)]
    if every:
        low_x, high_x = (pick(x for x, _ in every) for pick in (min, max))
        heights = [y for _, y in every] + ([] if level is None else [level])
        low_y, high_y = min(heights), max(heights)
        scale_x = (_WIDTH - left - _MARGIN) / ((high_x - low_x) or 1.0)
        scale_y = (base - 16) / ((high_y - low_y) or 1.0)
        for value, name in _y_ticks(low_y, high_y, log_y):
            y = base - (value - low_y) * scale_y
            parts.append(f'<path d="M{left} {y:.1f}H{_WIDTH - _MARGIN}" stroke="var(--line)"/>')
            parts.append(_text(left - 8, y + 5, name, "end", "small"))
        for tick, name in x_ticks:
            if low_x <= tick <= high_x:
                parts.append(_text(left + (tick - low_x) * scale_x, base + 20, name, "middle", "small"))
        if level is not None:
            y = base - (level - low_y) * scale_y
            parts.append(f'<path d="M{left} {y:.1f}H{_WIDTH - _MARGIN}" stroke="var(--ink)" stroke-dasharray="3 4"/>')
        for _, points, colour in lines:
            path = "L".join(f"{left + (x - low_x) * scale_x:.1f} {base - (y - low_y) * scale_y:.1f}" for x, y in points)
            parts.append(
                f'<path d="M{path}" stroke="var(--{colour})" stroke-width="3" stroke-linejoin="round" fill="none"/>'
            )
    return "".join(parts) + legend + "</svg>"


def round_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Two to five round values from ``low`` to ``high``, with their names; just ``low`` where the two are equal."""
    if not high > low:
        return [(low, f"{low:.3g}")]
    power = 10.0 ** math.floor(math.log10((high - low) / 2))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if (high - low) / step < 5)
    slack = step * 1e-9  # rounding must not cost an end
    numbers = range(math.ceil((low - slack) / step), math.floor((high + slack) / step) + 1)
    return [(number * step, f"{number * step:.4g}") for number in numbers]


def _y_ticks(low: float, high: float, log: bool) -> list[tuple[float, str]]:
    if log:
        return [(float(power), f"{10.0**power:g}") for power in range(math.ceil(low), math.floor(high) + 1)]
    return round_ticks(low, high)


def _legend(names: Sequence[tuple[str, str]], top: int) -> tuple[str, int]:
    """Names with their colours from ``top`` on, in as many lines as they need, and where the last line ends."""
    parts: list[str] = []
    x = float(_MARGIN)
    for name, colour in names:
        width = 18 + _CHARACTER * len(name)
        if x > _MARGIN and x + width > _WIDTH:
            x, top = float(_MARGIN), top + 22
        parts.append(f'<rect x="{x:.1f}" y="{top}" width="12" height="12" rx="3" fill="var(--{colour})"/>')
        parts.append(_text(x + 18, top + 11, name, "start", "small"))
        x += width + 14
    return "".join(parts), top + 18


def _open(height: float, title: str) -> str:
    safe = html.escape(title, quote=True)
    return f'<svg class="drawn" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{safe}">'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "label") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{html.escape(text)}</text>'
