"""Make the frontier of docs/results.md: every setting of the mini pair on the subjects of benchmarks/results.py.

    python benchmarks/frontier.py                    # 1,000 subjects; run benchmarks/results.py first, it paints most
    python benchmarks/frontier.py --count 64 --heads runs/unet --heads runs/decoder

It shares the painted batches of ``out/results/cache``. Writes what `topcoat frontier` writes into ``out/frontier``, the
section of docs/results.md between its two marker lines, and the chart into docs/images.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from results import FIRST_SEED, ROOT, Progress, held_out

from topcoat.errors import TopcoatError
from topcoat.files import write_section
from topcoat.frontier import Frontier, choose, pareto_front, settings_of, sweep
from topcoat.frontier.report import headline, table_rows, write_frontier
from topcoat.generators.presets import model_pair
from topcoat.heads import Head

BEGIN, END = "<!-- results frontier: begin (benchmarks/frontier.py) -->", "<!-- results frontier: end -->"


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
    parser.add_argument("--cache", type=Path, default=ROOT / "out" / "results" / "cache", help="painted batches")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs" / "results.md", help="file whose section is written")
    chosen = parser.parse_args(arguments)
    try:
        run(chosen)
    except TopcoatError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; the same command goes on from what is painted", file=sys.stderr)
        return 130
    return 0


def run(chosen: argparse.Namespace) -> Frontier:
    """Sweep, print, and write the report and the section of the docs."""
    heads = (
        {"head": Head.default(), "decoder": Head.load("embedded-decoder")}
        if chosen.heads is None
        else {Path(h).name: Head.from_pretrained(h) for h in chosen.heads}
    )
    decoders = [name for name, head in heads.items() if head.input == "latent"]
    pixel_heads = [name for name in heads if name not in decoders]
    settings = settings_of(chosen.distilled_steps, pixel_heads, chosen.strengths, chosen.baseline_steps, decoders)
    prompts = held_out(chosen.count)
    found = sweep(
        model_pair(chosen.pair),
        heads,
        settings,
        prompts,
        range(FIRST_SEED, FIRST_SEED + len(prompts)),
        cache=chosen.cache,
        on_progress=Progress(),
    )
    ours = [point for point in found.points if point.setting.model == "distilled"]
    choice = choose(ours, target_gap=chosen.target_gap)
    wanted = f"{chosen.target_gap:.0%} of the gap closed"
    write_frontier(chosen.output, found, choice, wanted)
    section = markdown(found, headline(found, choice, wanted))
    print(f"\n{section}")
    write_section(chosen.docs, BEGIN, END, section, title="# Results")
    picture = chosen.docs.parent / "images" / "frontier.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(chosen.output / "frontier.png", picture)
    return found


def markdown(found: Frontier, line: str) -> str:
    """The section of docs/results.md."""
    front = {point.setting.label for point in pareto_front(found.points)}
    machine = found.settings["hardware"]
    rows = [
        "| " + " | ".join((f"**{row[0]}**" if row[0] in front else row[0], *row[1:])) + " |"
        for row in table_rows(found)
    ]
    table = "\n".join(rows)
    return f"""## Quality against cost, pair {found.pair}

![Fréchet distance against TFLOP of every setting](images/frontier.png)

{line}.

N = {found.n:,} held-out subjects, the same for every setting, {found.width_px}x{found.height_px} px; floor (the
baseline at other seeds) {found.floor:.3g}. Distances and seconds are measured (medians per image in batches of
{found.settings["batch_size"]}, {machine["gpu"] or machine["cpu"]}, {machine["cores"]} cores, torch
{machine["torch"]}), TFLOP computed, whole pipelines; savings against {found.baseline.setting.label}. Bold: the Pareto
set. Made by `benchmarks/frontier.py`.

| setting | gap closed | 95 % interval | Fréchet | identity, p05 | TFLOP | s | less TFLOP | less time |
|---|---|---|---|---|---|---|---|---|
{table}"""


if __name__ == "__main__":
    sys.exit(main())
