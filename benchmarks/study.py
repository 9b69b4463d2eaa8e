"""Put a study into docs/results.md: the table of `topcoat reproduce` (or of the recipe's stage `study`) and a sheet.

    python benchmarks/study.py study/
    python benchmarks/study.py latent/ --name latent --title "Study of latent-unet on the pair mini"

Writes the section of docs/results.md between the two marker lines of that name, and the first contact sheet into
docs/images.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from results import ROOT, ended, publish

from topcoat.benchmark.record import BenchmarkResult
from topcoat.errors import DataError
from topcoat.reports.benchmark_tables import markdown


def main(arguments: list[str] | None = None) -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("study", type=Path, help="folder of a finished study")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs" / "results.md", help="file whose section is written")
    parser.add_argument("--name", default="study", help="name of the section and of its picture")
    parser.add_argument("--title", help="heading of the section; by default the study's own")
    parser.add_argument("--note", help="what else to know of it, such as other work on the machine")
    return ended(lambda: run(parser.parse_args(arguments)))


def run(chosen: argparse.Namespace) -> None:
    """Write the section and the sheet."""
    record, sheet = chosen.study / "study.json", chosen.study / "contact-1.png"
    if not (record.is_file() and sheet.is_file()):
        raise DataError(f"{chosen.study} holds no finished study; run topcoat reproduce -o {chosen.study} to its end")
    result = BenchmarkResult.load(record)
    title = chosen.title or f"Study of the pair {result.pair}"
    picture = f"![Distilled, every head and baseline of the same subjects](images/{chosen.name}.png)"
    section = markdown(result, heading=f"## {title}\n\n{picture}")
    notes = [*([] if chosen.note is None else [chosen.note]), "Made by `topcoat reproduce` and `benchmarks/study.py`."]
    section += "\n".join(f"- {note}" for note in notes)
    publish(chosen.docs, chosen.name, "study.py", section, sheet, f"{chosen.name}.png")


if __name__ == "__main__":
    sys.exit(main())
