"""One self-contained HTML page, readable offline, on a phone and in the dark, and the parts that pages are made of."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from string import Template
from typing import Any


def document(title: str, body: str, *, slider: bool = False) -> str:
    """The page: ``title`` is text, ``body`` HTML; ``slider`` adds the script of `topcoat.page.slider.stage`."""
    script = f"<script>\n{_part('slider.js')}</script>\n" if slider else ""
    return Template(_part("page.html")).substitute(title=safe(title), style=_part("page.css"), body=body, script=script)


def safe(text: str) -> str:
    """Text as HTML."""
    return html.escape(text, quote=True)


def prose(text: str) -> str:
    """Text as HTML, with per cent signs that stay on the line of their number."""
    return safe(text).replace(" %", "&nbsp;%")


def card(name: str, figure: str, detail: Sequence[str] = (), kind: str = "") -> str:
    """A figure with its name, lines of ``detail`` below and, in the corner, whether it was measured or computed."""
    corner = f"<em>{safe(kind)}</em>" if kind else ""
    lines = "<br>".join(prose(line) for line in detail)
    return f'<div class="card"><h3>{safe(name)}{corner}</h3><strong>{prose(figure)}</strong><p>{lines}</p></div>'


def findings(texts: Sequence[str], good: str, notes: Sequence[str] = ()) -> str:
    """A list of what is wrong, or the sentence ``good`` where nothing is; ``notes`` follow."""
    marked = [("", text) for text in texts] or [("good", good)]
    items = "".join(
        f'<li class="{kind}">{prose(text)}</li>' for kind, text in (*marked, *(("remark", note) for note in notes))
    )
    return f'<ul class="findings">{items}</ul>'


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], kind: str, classes: Sequence[str] = ()) -> str:
    """A table that scrolls by itself: ``facts``, ``ids`` or ``numbers`` (right-aligned) is its ``kind``.

    ``classes`` mark rows, one for each.
    """
    head = "".join(f"<th>{prose(column)}</th>" for column in columns)
    marks = [f' class="{name}"' if name else "" for name in classes] or [""] * len(rows)
    body = "".join(
        f"<tr{mark}>{''.join(f'<td>{prose(cell)}</td>' for cell in row)}</tr>"
        for mark, row in zip(marks, rows, strict=True)
    )
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def settings(title: str, values: Any) -> str:
    """JSON values behind a line that opens them."""
    text = safe(json.dumps(values, indent=2, ensure_ascii=False))
    return f"<details><summary>{safe(title)}</summary><pre>{text}</pre></details>"


@lru_cache
def _part(name: str) -> str:
    return resources.files("topcoat.page").joinpath(name).read_text(encoding="utf-8")
