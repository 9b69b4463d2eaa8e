"""Put a study into docs/results.md: the table of `topcoat reproduce` (or of the recipe's stage `study`) and a sheet.

    python benchmarks/study.py study/

Writes the section of docs/results.md between its two marker lines, and the first contact sheet into docs/images.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from topcoat.errors import DataError
from topcoat.files import write_section

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- results study: begin (benchmarks/study.py) -->", "<!-- results study: end -->"


def main(arguments: list[str] | None = None) -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("study", type=Path, help="folder of a finished study")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs" / "results.md", help="file whose section is written")
    chosen = parser.parse_args(arguments)
    table, sheet = chosen.study / "study.md", chosen.study / "contact-1.png"
    if not (table.is_file() and sheet.is_file()):
        error = DataError(f"{chosen.study} holds no finished study; run topcoat reproduce -o {chosen.study} to its end")
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    title, _, rest = table.read_text(encoding="utf-8").partition("\n")
    picture = "![x, every head's z and y of the same subjects](images/study.png)"
    section = f"#{title}\n\n{picture}\n{rest.rstrip()}\n- Made by `topcoat reproduce` and `benchmarks/study.py`."
    write_section(chosen.docs, BEGIN, END, section, title="# Results")
    images = chosen.docs.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(sheet, images / "study.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
