"""Small charts as hand-made SVG; colours are CSS variables of the page, so they follow dark mode."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

_WIDTH = 640
_LABEL = 176
_ROW = 40


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: ``value`` with an optional interval, its printed ``text`` and the CSS colour variable it is drawn in."""

    label: str
    value: float
    text: str
    colour: str
    low: float | None = None
    high: float | None = None


def bars(rows: Sequence[Bar], *, title: str, marker: tuple[float, str] | None = None) -> str:
    """Horizontal bars from 0; ``marker`` is a value with its name, drawn as a dashed line over all rows."""
    top = max([row.high if row.high is not None else row.value for row in rows] + [marker[0] if marker else 0.0])
    room = _WIDTH - _LABEL - 128
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


def histogram(series: Sequence[tuple[str, Tensor, str]], *, title: str, bins: int = 48) -> str:
    """Overlaid histograms of values in [-1, 1]: ``(name, values, colour)``, each scaled to its own highest bin."""
    low = min(-0.05, *(float(values.min()) for _, values, _ in series))
    height, base = 200, 150
    parts = [_open(height, title)]
    width = (_WIDTH - 24) / bins
    for _, values, colour in series:
        counts = values.float().histc(bins, low, 1.0)
        share = counts / counts.max().clamp_min(1)
        for index, value in enumerate(share.tolist()):
            if value > 0:
                x, tall = 12 + index * width, value * (base - 12)
                parts.append(
                    f'<rect x="{x:.1f}" y="{base - tall:.1f}" width="{width - 1:.1f}" height="{tall:.1f}" rx="1.5" '
                    f'fill="var(--{colour})" fill-opacity=".72"/>'
                )
    parts.append(f'<path d="M12 {base}H{_WIDTH - 12}" stroke="var(--line)"/>')
    ticks = [tick for tick in (-0.5, 0.0, 0.5, 1.0) if low <= tick <= 1]
    for tick in ticks:
        x = 12 + (tick - low) / (1 - low) * (_WIDTH - 24)
        anchor = "end" if tick == 1 else "middle"
        parts.append(_text(x, base + 18, f"{tick:g}", anchor, "small"))
    step = (_WIDTH - 24) / len(series)
    for index, (name, _, colour) in enumerate(series):
        x = 12 + index * step
        parts.append(f'<rect x="{x:.1f}" y="{height - 18}" width="12" height="12" rx="3" fill="var(--{colour})"/>')
        parts.append(_text(x + 18, height - 7, name, "start", "small"))
    return "".join(parts) + "</svg>"


def _open(height: int, title: str) -> str:
    safe = html.escape(title, quote=True)
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{safe}">'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "label") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{html.escape(text)}</text>'
