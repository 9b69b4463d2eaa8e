"""Write the mini pair's figures of benchmarks/results.json into README.md, between its two figure marks.

Run: python benchmarks/write_figures.py (after benchmarks/results.py). No figure in the README is typed by hand.
"""

from __future__ import annotations

import sys

from results import ROOT, ended
from sections import write_section

from topcoat.benchmark.record import BenchmarkResult
from topcoat.files import read_json
from topcoat.reports.benchmark_tables import summary, table

BEGIN, END = "<!-- figures:begin -->", "<!-- figures:end -->"
COLUMNS = ("gap", "gap_extrapolated", "frechet", "p05", "tflop", "ms", "tflop_saving", "seconds_saving")


def render(result: BenchmarkResult) -> str:
    """The figures as Markdown."""
    machine = result.settings["hardware"]
    return (
        f"The {result.pair} pair at {result.n:,} held-out prompts and seeds, on {machine['gpu'] or machine['cpu']}, "
        f"{machine['cores']} cores, torch {machine['torch']} (TFLOP computed, everything else measured):\n\n"
        f"{table(result, COLUMNS).markdown()}\n\n{summary(result)}"
    )


def main() -> int:
    """Fill README.md; returns the exit code."""

    def run() -> None:
        source = ROOT / "benchmarks" / "results.json"
        result = BenchmarkResult.from_dict(read_json(source)["mini"], str(source))
        write_section(ROOT / "README.md", BEGIN, END, render(result), title="# topcoat")

    return ended(run)


if __name__ == "__main__":
    sys.exit(main())
