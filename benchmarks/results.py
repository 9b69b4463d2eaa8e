"""Make the figures of docs/results.md: the main job on 1,000 or more held-out prompts and seeds.

    python benchmarks/results.py                 # mini pair, embedded head, 1,000 subjects, about 15 minutes on 2 cores
    python benchmarks/results.py --count 2000 --head runs/unet

Painted batches are kept in ``out/results/cache``, so that a stopped run goes on where it stopped and a new head is
judged without painting again. Writes the report into ``out/results``, ``benchmarks/results.json``, the pair's
section of docs/results.md between its two marker lines, and the contact sheet into docs/images.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from topcoat import files
from topcoat.cost import count_steps, format_tflop
from topcoat.errors import TopcoatError
from topcoat.files import read_json, write_json
from topcoat.generators.presets import model_pair
from topcoat.heads import Head
from topcoat.prompts import Prompt, held_out_prompts
from topcoat.proof import Proof, prove
from topcoat.proof.record import percent, saving_words

ROOT = Path(__file__).parent.parent
PROMPT_SEED = 77
"""Seed of the sampled prompts: neither the one that pairs are built with nor the demo's."""
FIRST_SEED = 50_000_000
"""First noise seed, far from those of training pairs and of the demo."""


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


def run(chosen: argparse.Namespace) -> Proof:
    """Prove, print, and write JSON and the section of the docs."""
    head = Head.default() if chosen.head is None else Head.from_pretrained(chosen.head)
    prompts = held_out(chosen.count)
    proof = prove(
        model_pair(chosen.pair),
        head,
        prompts,
        range(FIRST_SEED, FIRST_SEED + len(prompts)),
        output=chosen.output,
        on_progress=Progress(),
        batch_size=chosen.batch_size,
        cache=chosen.output / "cache",
    )
    section = markdown(proof)
    print(f"\n{section}\n\n{proof.summary()}")
    known: dict[str, Any] = read_json(chosen.json) if chosen.json.is_file() else {}
    write_json(chosen.json, known | {proof.pair: proof.as_dict()})
    write_section(chosen.docs, proof.pair, section)
    picture = chosen.docs.parent / "images" / "contact.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(chosen.output / "contact.png", picture)
    return proof


def held_out(count: int) -> list[Prompt]:
    """``count`` sampled prompts of the test split, which no head is trained on."""
    return held_out_prompts(count, PROMPT_SEED)


def markdown(proof: Proof) -> str:
    """The section of docs/results.md: every figure with N, intervals, kind and settings beside it."""
    ends, settings, frechet = proof.settings["frechet_intervals"], proof.settings, proof.frechet
    seconds, tflop, pairs = proof.seconds_per_image, proof.tflop_per_image, proof.identity_pairs
    spread = settings["seconds_spread"]

    def distance(key: str, value: float) -> str:
        return f"{value:.4g} ({ends[key]['low']:.4g} to {ends[key]['high']:.4g})"

    def time_of(key: str, value: float) -> str:
        return f"{value:.4f} ({spread[key]['low']:.4f} to {spread[key]['high']:.4f})"

    floors = settings["gap_in_floors"]
    rows = [
        ("Fréchet, distilled (do-nothing score)", distance("distilled", frechet.distilled), "measured"),
        ("Fréchet, distilled + unsharp mask (control)", distance("unsharp", frechet.unsharp), "measured"),
        ("Fréchet, distilled + colour matrix (control)", distance("colour", frechet.colour), "measured"),
        ("Fréchet, distilled + head", distance("enhanced", frechet.enhanced), "measured"),
        ("Fréchet, baseline at other seeds (floor)", distance("baseline_floor", frechet.baseline_floor), "measured"),
        ("Do-nothing score in floors", "n/a" if floors is None else f"{floors:.1f}", "measured"),
        ("**Share of the gap closed**", f"**{proof.gap_closed}**", "measured"),
        *_extrapolated(proof),
        ("Share closed by the unsharp mask", _share(settings["gap_closed_by_unsharp"]), "measured"),
        ("Share closed by the colour matrix", _share(settings["gap_closed_by_colour"]), "measured"),
        ("Identity, head's input to output", _identity(proof.identity.mean, "5th", proof.identity.p05), "measured"),
        ("Identity, same subject in both models", _identity(pairs.same_mean, "5th", pairs.same_p05), "measured"),
        ("Identity, different subjects", _identity(pairs.different_mean, "95th", pairs.different_p95), "measured"),
        (
            f"Seconds, distilled, {count_steps(proof.steps.distilled)}",
            time_of("distilled", seconds.distilled),
            "measured",
        ),
        ("Seconds, head", time_of("head", seconds.head), "measured"),
        (f"Seconds, baseline, {count_steps(proof.steps.baseline)}", time_of("baseline", seconds.baseline), "measured"),
        (f"TFLOP, distilled, {count_steps(proof.steps.distilled)}", format_tflop(tflop.distilled), "computed"),
        ("TFLOP, head", format_tflop(tflop.head), "computed"),
        (f"TFLOP, baseline, {count_steps(proof.steps.baseline)}", format_tflop(tflop.baseline), "computed"),
        *_savings(proof),
    ]
    table = "\n".join(f"| {name} | {figure} | {kind} |" for name, figure, kind in rows)
    net, machine, fitted = proof.features, proof.hardware, settings["control"]
    size = f"{settings['width_px']}x{settings['height_px']} px"
    return f"""## Pair {proof.pair}

N = {proof.n:,} held-out subjects (prompts of the test split, noise seeds of their own), {size}. Feature net {net.net}
({net.digest}, {net.dimensions} dimensions). Brackets hold 95 % bootstrap intervals over subjects, for seconds the 10th
and 90th percentile. Seconds are medians per image in batches of {settings["batch_size"]}, the stages in turns, on
{machine["gpu"] or machine["cpu"]} ({machine["cores"]} cores, torch {machine["torch"]}). The unsharp mask (amount
{fitted["amount"]:.2f}, sigma {fitted["sigma_px"]:g} px) matches the baseline's gradient energy on the first
{fitted["calibration_images"]} of these subjects; the colour matrix, one affine map of RGB for all images, is as near to
the baseline as there is one on the same. Head {settings["head_digest"]}. Made by `benchmarks/results.py`.

| figure | value | kind |
|---|---|---|
{table}"""


def write_section(path: Path, pair: str, section: str) -> None:
    """Put ``section`` between the pair's marker lines in ``path``, or at its end; the rest of the file is kept."""
    begin, end = f"<!-- results {pair}: begin (benchmarks/results.py) -->", f"<!-- results {pair}: end -->"
    files.write_section(path, begin, end, section, title="# Results")


def _savings(proof: Proof) -> list[tuple[str, str, str]]:
    found = []
    for saving, steps in ((proof.saving, proof.steps.baseline), (proof.saving_at_28_steps, 28)):
        what = f"{count_steps(proof.steps.distilled)} + head against {count_steps(steps)}, whole pipeline"
        found.append((f"TFLOP, {what}", saving_words(saving.tflop), "computed"))
        found.append((f"Time, {what}", saving_words(saving.seconds), "measured"))
    return found


def _extrapolated(proof: Proof) -> list[tuple[str, str, str]]:
    gap = proof.gap_extrapolated
    if gap is None:
        return []
    distances = ", ".join(f"{value:.3g}" for value in (gap.distilled, gap.enhanced, gap.baseline_floor))
    return [
        ("Fréchet extrapolated to endless subjects: distilled, + head, floor", distances, "measured"),
        ("Share of that gap closed", str(gap.share), "measured"),
    ]


def _share(share: dict[str, float | None]) -> str:
    value, low, high = share["value"], share["low"], share["high"]
    if value is None or low is None or high is None:
        return "not measurable"
    return f"{percent(value)} ({percent(low)} to {percent(high)})"


def _identity(mean: float, percentile: str, value: float) -> str:
    return f"{mean:.4f} ({percentile} percentile {value:.4f})"


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
