"""Put a study into docs/results.md: the table of `topcoat reproduce` (or of the recipe's stage `study`) and a sheet.

    python benchmarks/study.py study/
    python benchmarks/study.py latent/ --name latent --title "Study of latent-unet on the pair mini"

Writes the section of docs/results.md between the two marker lines of that name, and the first contact sheet into
docs/images.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from topcoat.errors import DataError
from topcoat.files import write_section

ROOT = Path(__file__).parent.parent


def main(arguments: list[str] | None = None) -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("study", type=Path, help="folder of a finished study")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs" / "results.md", help="file whose section is written")
    parser.add_argument("--name", default="study", help="name of the section and of its picture")
    parser.add_argument("--title", help="heading of the section; by default the study's own")
    parser.add_argument("--note", help="what else to know of it, such as other work on the machine")
    chosen = parser.parse_args(arguments)
    table, sheet = chosen.study / "study.md", chosen.study / "contact-1.png"
    if not (table.is_file() and sheet.is_file()):
        error = DataError(f"{chosen.study} holds no finished study; run topcoat reproduce -o {chosen.study} to its end")
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    title, _, rest = table.read_text(encoding="utf-8").partition("\n")
    heading = f"#{title}" if chosen.title is None else f"## {chosen.title}"
    picture = f"![x, every head's z and y of the same subjects](images/{chosen.name}.png)"
    notes = [*([] if chosen.note is None else [chosen.note]), "Made by `topcoat reproduce` and `benchmarks/study.py`."]
    section = f"{heading}\n\n{picture}\n{rest.rstrip()}\n" + "\n".join(f"- {note}" for note in notes)
    begin, end = f"<!-- results {chosen.name}: begin (benchmarks/study.py) -->", f"<!-- results {chosen.name}: end -->"
    write_section(chosen.docs, begin, end, section, title="# Results")
    images = chosen.docs.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(sheet, images / f"{chosen.name}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
