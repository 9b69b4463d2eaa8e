"""Make the figures of docs/results.md: the main job on 1,000 or more held-out prompts and seeds.

    python benchmarks/results.py                 # mini pair, embedded head, 1,000 subjects, about 15 minutes on 2 cores
    python benchmarks/results.py --count 2000 --head runs/unet

Generated batches are kept in ``out/results/cache``, so that a stopped run goes on where it stopped and a new head is
measured without generating again. Writes the report into ``out/results``, ``benchmarks/results.json``, the pair's
section of docs/results.md between its two marker lines, and the contact sheet into docs/images.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sections import write_section

import topcoat
from topcoat.benchmark.record import BenchmarkResult
from topcoat.errors import TopcoatError
from topcoat.files import read_json, write_json
from topcoat.prompts import Prompt, held_out_prompts
from topcoat.reports.benchmark_tables import markdown
from topcoat.seeds import noise_seeds

ROOT = Path(__file__).parent.parent
PROMPT_SEED = 77
"""Seed of the sampled prompts: neither the one that pairs are built with nor the demo's."""


def main(arguments: list[str] | None = None) -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pair", default="mini", help="preset name or pair file")
    parser.add_argument("--head", default=None, help="head folder; the embedded one by default")
    parser.add_argument("--count", type=int, default=1000, help="held-out subjects, 1,000 or more to quote")
    parser.add_argument("--batch-size", type=int, default=8, help="images at once; times are of such batches")
    parser.add_argument("--output", type=Path, default=ROOT / "out" / "results", help="folder of report and cache")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs" / "results.md", help="file whose section is written")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results.json", help="figures of all pairs")
    return ended(lambda: run(parser.parse_args(arguments)))


def run(chosen: argparse.Namespace) -> BenchmarkResult:
    """Measure, print, and write JSON and the section of the docs."""
    result = topcoat.run_benchmark(
        topcoat.model_pair(chosen.pair),
        topcoat.Head.default() if chosen.head is None else topcoat.Head.from_pretrained(chosen.head),
        held_out(chosen.count),
        noise_seeds("results", chosen.count),
        on_progress=Progress(),
        batch_size=chosen.batch_size,
        cache=chosen.output / "cache",
    )
    topcoat.write_benchmark(chosen.output, result)
    known: dict[str, Any] = read_json(chosen.json) if chosen.json.is_file() else {}
    write_json(chosen.json, known | {result.pair: result.as_dict()})
    section = markdown(result, heading=f"## Pair {result.pair}") + "- Made by `benchmarks/results.py`."
    publish(chosen.docs, result.pair, "results.py", section, chosen.output / "contact-1.png", "contact.png")
    return result


def held_out(count: int) -> list[Prompt]:
    """``count`` sampled prompts of the test split, which no head is trained on."""
    return held_out_prompts(count, PROMPT_SEED)


def publish(
    docs: Path, name: str, script: str, section: str, picture: Path | None = None, picture_name: str = ""
) -> None:
    """Print a section and put it between its marker lines in ``docs``, and its picture, if any, with the images."""
    print(f"\n{section}")
    begin, end = f"<!-- results {name}: begin (benchmarks/{script}) -->", f"<!-- results {name}: end -->"
    write_section(docs, begin, end, section, title="# Results")
    if picture is None:
        return
    images = docs.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(picture, images / picture_name)


def ended(run: Callable[[], object]) -> int:
    """The exit code of ``run``, its error printed in one sentence."""
    try:
        run()
    except TopcoatError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; the same command goes on from what is there", file=sys.stderr)
        return 130
    return 0


class Progress:
    """A line on stderr every few seconds."""

    def __init__(self) -> None:
        self._start = self._last = time.monotonic()

    def __call__(self, done: int, total: int, stage: str) -> None:
        """Note that ``done`` of ``total`` images are made, ``stage`` being at work."""
        now = time.monotonic()
        if now - self._last >= 5 or done == total:
            self._last = now
            left = (now - self._start) / done * (total - done)
            print(f"{done:,}/{total:,} images, {stage}, about {left / 60:.1f} min left", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
