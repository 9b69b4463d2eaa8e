"""Tables of text, as reports show them; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows of text; the first column is to the left, the others are numbers."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    classes: Sequence[str] = ()
    """CSS classes of the rows, one for each row, or none."""

    def markdown(self) -> str:
        """The table as Markdown with aligned columns; the first cell of a row with a class is bold."""
        marks = self.classes or [""] * len(self.rows)
        rows = [[f"**{row[0]}**" if mark else row[0], *row[1:]] for row, mark in zip(self.rows, marks, strict=True)]
        lines = [self.columns, *rows]
        widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(self.columns))]
        rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
        padded = [
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
            for line in (self.columns, rule, *rows)
        ]
        return "\n".join(f"| {' | '.join(line)} |" for line in padded)
