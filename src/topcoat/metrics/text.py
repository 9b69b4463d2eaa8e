"""An evaluation in words and Markdown tables, which are readable as plain text too."""

from __future__ import annotations

from collections.abc import Sequence

from topcoat.metrics.gap import GapClosed
from topcoat.metrics.record import Evaluation
from topcoat.metrics.sections import Section, percent, sections


def describe_gap(gap: GapClosed) -> str:
    """The share of the gap closed as a sentence."""
    if gap.value is None or gap.low is None or gap.high is None:
        return "No gap can be measured: the distilled images are as near to the baseline as it is to itself."
    return f"Share of the gap closed: {percent(gap.value)} (95 % interval {percent(gap.low)} to {percent(gap.high)})."


def main_figures(evaluation: Evaluation) -> str:
    """The figures that matter most as one paragraph, without flags and notes."""
    found = evaluation
    parts = [
        f"{found.n:,} enhanced images against {found.n_reference:,} reference images "
        f"(feature net {found.features.net}, {found.features.dimensions} dimensions): "
        f"measured Fréchet distance {found.enhanced.frechet:.3f}"
    ]
    if found.distilled is not None:
        parts.append(f", do-nothing score {found.distilled.frechet:.3f}")
    if found.floor is not None:
        parts.append(f", floor {found.floor.frechet:.3f}")
    parts.append(".")
    if found.gap_closed is not None:
        parts.append(f" {describe_gap(found.gap_closed)}")
    if found.identity is not None:
        parts.append(f" Identity kept: mean {found.identity.mean:.3f}, 5th percentile {found.identity.p05:.3f}.")
    if found.gates is not None and found.gated is not None:
        parts.append(
            f" With gates: Fréchet distance {found.gated.frechet:.3f}, identity {found.gates.identity.p05:.3f} at the "
            f"5th percentile, {percent(found.gates.weakened + found.gates.distilled)} of the images lowered or left "
            "distilled."
        )
    test = found.enhanced.two_sample
    if test is not None:
        parts.append(
            f" A fresh classifier tells enhanced from baseline with {test.accuracy * 100:.0f} % accuracy (chance 50 %)."
        )
    return "".join(parts)


def summary(evaluation: Evaluation) -> str:
    """One paragraph that a person can read."""
    flags = [f" Flagged: {flag.name} ({flag.sentence})." for flag in evaluation.flags]
    return main_figures(evaluation) + "".join(flags) + "".join(f" Note: {note}." for note in evaluation.notes)


def markdown(evaluation: Evaluation) -> str:
    """All figures: summary, sections, flags and notes."""
    parts = ["# Evaluation", summary(evaluation), *map(_section, sections(evaluation))]
    if evaluation.flags:
        parts += ["## Flags", "\n".join(f"- **{flag.name}**: {flag.sentence}" for flag in evaluation.flags)]
    if evaluation.notes:
        parts += ["## Notes", "\n".join(f"- {note}" for note in evaluation.notes)]
    return "\n\n".join(parts) + "\n"


def table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns: the first to the left, the others to the right."""
    widths = [max(len(line[index]) for line in [columns, *lines]) for index in range(len(columns))]

    def row(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = [("-" * (width - 1) + ":") if index else "-" * width for index, width in enumerate(widths)]
    return "\n".join([row(columns), f"| {' | '.join(rule)} |", *(row(line) for line in lines)])


def _section(section: Section) -> str:
    head = "\n".join((f"## {section.title}", *section.lines))
    return f"{head}\n\n{table(section.columns, section.rows)}" if section.rows else head
