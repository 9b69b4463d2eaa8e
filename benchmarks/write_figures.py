"""Write the mini pair's figures of benchmarks/results.json into README.md, between its two figure marks.

Run: python benchmarks/write_figures.py (after benchmarks/results.py). No figure in the README is typed by hand.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from topcoat.cost import count_steps

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- figures:begin -->", "<!-- figures:end -->"


def render(results: Mapping[str, Any]) -> str:
    """The figures as Markdown; ``results`` has the keys of a proof's report.json."""
    frechet, seconds, tflop = results["frechet"], results["seconds_per_image"], results["tflop_per_image"]
    gap, identity, features = results["gap_closed"], results["identity"], results["features"]
    fast, slow = (count_steps(results["steps"][model]) for model in ("distilled", "baseline"))
    n = results["n"]
    return f"""\
The {results["pair"]} pair at {n:,} held-out prompts and seeds (distances and seconds measured, TFLOP computed):

| | distilled, {fast} | distilled + head | baseline, {slow} |
|---|---|---|---|
| Fréchet distance to the baseline | {frechet["distilled"]:.2f} | **{frechet["enhanced"]:.2f}** | \
{frechet["baseline_floor"]:.2f} (other seeds) |
| seconds per image | {seconds["distilled"]:.3g} | **{seconds["distilled"] + seconds["head"]:.3g}** | \
{seconds["baseline"]:.3g} |
| TFLOP per image | {tflop["distilled"]:.3g} | **{tflop["distilled"] + tflop["head"]:.3g}** | {tflop["baseline"]:.3g} |

- **Share of the gap closed: {_share(gap)}**; an unsharp mask of the same images reaches a distance of \
{frechet["unsharp"]:.2f}, one colour matrix for all of them {frechet["colour"]:.2f}.
{_extrapolated(results["gap_extrapolated"])}\
- Identity kept: cosine of head output and its input {identity["mean"]:.3f} on average, {identity["p05"]:.3f} at the \
5th percentile.
- Against a baseline of {slow} distilled + head saves **{results["saving"]["tflop"]:.1%} of the TFLOP and \
{results["saving"]["seconds"]:.1%} of the time**; against 28 steps {results["saving_at_28_steps"]["tflop"]:.1%} and \
{results["saving_at_28_steps"]["seconds"]:.1%}.

Whole pipelines: text encoders, steps, decode, head. Features: {features["net"]}, {features["dimensions"]} dimensions.
Hardware: {_hardware(results["hardware"])}."""


def fill(text: str, figures: str) -> str:
    """``text`` with ``figures`` between its marks; raises `ValueError` if a mark is missing."""
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    return f"{text[:start]}\n{figures}\n{text[end:]}"


def _extrapolated(gap: Mapping[str, Any] | None) -> str:
    if gap is None:
        return ""
    return (
        f"- Extrapolated to endless subjects the distances are {gap['distilled']:.2f} before, {gap['enhanced']:.2f} "
        f"after and {gap['baseline_floor']:.2f} for other seeds: {_share(gap['share'])} of the gap.\n"
    )


def _share(gap: Mapping[str, float | None]) -> str:
    value, low, high = gap["value"], gap["low"], gap["high"]
    if value is None or low is None or high is None:
        return "not measurable"
    return f"{value:.0%} (95 % interval {low:.0%} to {high:.0%})"


def _hardware(hardware: Mapping[str, Any]) -> str:
    return f"{hardware['gpu'] or hardware['cpu']}, {hardware['cores']} cores, torch {hardware['torch']}"


def main() -> int:
    """Fill README.md; returns the exit code."""
    source, target = ROOT / "benchmarks" / "results.json", ROOT / "README.md"
    if not source.is_file():
        print(f"error: {source} is missing; run benchmarks/results.py first", file=sys.stderr)
        return 1
    figures = render(json.loads(source.read_text(encoding="utf-8"))["mini"])
    target.write_text(fill(target.read_text(encoding="utf-8"), figures), encoding="utf-8")
    print(f"wrote the figures of {source.name} into {target.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
