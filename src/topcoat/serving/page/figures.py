"""Parts of the page that are HTML: figures side by side, notes, tables. Every value is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from topcoat.cost.table import format_tflop


@dataclass(frozen=True, slots=True)
class Figure:
    """What one way to make an image took."""

    name: str
    kind: str
    """Of the class in the style sheet: distilled, enhanced or baseline."""
    seconds: float | None
    """Measured in this request; None where it was not made."""
    tflop: float | None
    """Computed; None where the networks' sizes are not known."""
    detail: str = ""


def figures(shown: Sequence[Figure], note: str = "") -> str:
    """Cards beside each other, and a sentence below."""
    cards = "".join(
        f'<div class="figure {escape(each.kind)}"><h3>{escape(each.name)}</h3>'
        f'<p class="value">{_seconds(each.seconds)}</p>'
        f'<p class="cost">{_tflop(each.tflop)}</p><p class="detail">{escape(each.detail)}</p></div>'
        for each in shown
    )
    return f'<div class="figures">{cards}</div>{_paragraph(note)}'


def definitions(rows: Iterable[tuple[str, str]], title: str = "") -> str:
    """A table of two columns."""
    head = f"<h3>{escape(title)}</h3>" if title else ""
    body = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in rows)
    return f'{head}<dl class="facts">{body}</dl>'


def note(text: str, kind: str = "note") -> str:
    """A sentence of its own."""
    return _paragraph(text, kind)


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return '<span class="none">not made</span>'
    return (
        f"{seconds:.3g} s<small>measured</small>" if seconds >= 1 else f"{seconds * 1e3:.0f} ms<small>measured</small>"
    )


def _tflop(tflop: float | None) -> str:
    return "&nbsp;" if tflop is None else f"{escape(format_tflop(tflop))} TFLOP <small>computed</small>"


def _paragraph(text: str, kind: str = "note") -> str:
    return f'<p class="{escape(kind)}">{escape(text)}</p>' if text else ""
