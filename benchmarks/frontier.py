"""Make the frontier of docs/results.md: many arms of the mini pair on the subjects of benchmarks/results.py.

    python benchmarks/frontier.py                    # 1,000 subjects; run benchmarks/results.py first, it makes most
    python benchmarks/frontier.py --count 64 --heads runs/unet --heads runs/decoder

It shares the generated batches of ``out/results/cache``. Writes what `topcoat frontier` writes into ``out/frontier``,
the section of docs/results.md between its two marker lines, and the chart into docs/images.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from results import ROOT, Progress, ended, held_out, publish

import topcoat
from topcoat.benchmark.arms import grid
from topcoat.benchmark.compare import sweep
from topcoat.benchmark.frontier import Target, points_of
from topcoat.benchmark.record import BenchmarkResult
from topcoat.reports.benchmark_tables import markdown
from topcoat.seeds import noise_seeds

COLUMNS = ("gap", "frechet", "p05", "tflop", "ms", "tflop_saving", "seconds_saving")


def main(arguments: list[str] | None = None) -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pair", default="mini", help="preset name or pair file")
    parser.add_argument("--heads", action="append", help="head folder; once for each; both embedded ones by default")
    parser.add_argument("--count", type=int, default=1000, help="held-out subjects, 1,000 or more to quote")
    parser.add_argument("--distilled-steps", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--baseline-steps", type=int, nargs="+", default=[2, 3, 4, 8, 14, 28])
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.5, 1.0])
    parser.add_argument("--target-gap", type=float, default=0.5, help="share of the gap that the choice must close")
    parser.add_argument("--output", type=Path, default=ROOT / "out" / "frontier", help="folder of the report")
    parser.add_argument("--cache", type=Path, default=ROOT / "out" / "results" / "cache", help="generated batches")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs" / "results.md", help="file whose section is written")
    return ended(lambda: run(parser.parse_args(arguments)))


def run(chosen: argparse.Namespace) -> BenchmarkResult:
    """Sweep, print, and write the report and the section of the docs."""
    heads = (
        {"head": topcoat.Head.default(), "decoder": topcoat.Head.load("embedded-decoder")}
        if chosen.heads is None
        else {Path(folder).name: topcoat.Head.from_pretrained(folder) for folder in chosen.heads}
    )
    decoders = [name for name, head in heads.items() if head.input == "latent"]
    others = [name for name in heads if name not in decoders]
    result = sweep(
        topcoat.model_pair(chosen.pair),
        heads,
        grid(chosen.distilled_steps, others, chosen.strengths, chosen.baseline_steps, decoders),
        held_out(chosen.count),
        noise_seeds("results", chosen.count),
        cache=chosen.cache,
        on_progress=Progress(),
    )
    target = Target(chosen.target_gap)
    choice = target.choose(points_of(result, to_choose=True))
    best = None if choice is None else choice.name
    topcoat.write_benchmark(chosen.output, result, chosen=best, target=target)
    heading = (
        f"## Quality against cost, pair {result.pair}\n\n![Quality against cost of every arm](images/frontier.svg)"
    )
    section = markdown(result, heading=heading, keys=COLUMNS, chosen=best, target=target)
    section += "- Bold: the Pareto set and the chosen arm. Made by `benchmarks/frontier.py`."
    publish(chosen.docs, "frontier", "frontier.py", section, chosen.output / "frontier.svg", "frontier.svg")
    return result


if __name__ == "__main__":
    sys.exit(main())
