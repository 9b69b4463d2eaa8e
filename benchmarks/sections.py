"""Writes a result between two marker lines of a Markdown file."""

from __future__ import annotations

from pathlib import Path

from topcoat.files import write_text


def write_section(path: Path, begin: str, end: str, section: str, *, title: str) -> None:
    """Put ``section`` between the marker lines ``begin`` and ``end`` of a text file, or at its end; the rest is kept.

    A file that is missing starts with the line ``title``. Raises `DataError` if it cannot be written.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else f"{title}\n"
    block = f"{begin}\n{section}\n{end}"
    if begin in text and end in text:
        before, _, rest = text.partition(begin)
        text = before + block + rest.partition(end)[2]
    else:
        text = f"{text.rstrip()}\n\n{block}\n"
    write_text(path, text)
