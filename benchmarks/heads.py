"""What every head costs: parameters, TFLOP by size, its share of a FLUX.1-schnell image, milliseconds on this machine.

    python benchmarks/heads.py                       # a few minutes on 2 cores
    python benchmarks/heads.py --timed-px 128 --runs 3

Prints a table, writes ``benchmarks/heads.json`` and the section of docs/results.md between its two marker lines. TFLOP
are computed on the meta device, at 2 FLOP per multiply-add; milliseconds are measured, with untrained weights, which
take the same time as trained ones.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from topcoat.cost.flops import components_of, generator_rows
from topcoat.cost.machine import hardware
from topcoat.cost.measure import Timing, summarise, timed
from topcoat.cost.table import format_tflop
from topcoat.errors import TopcoatError
from topcoat.files import write_json, write_section
from topcoat.generators.presets import model_pair
from topcoat.heads import (
    CycleGANConfig,
    DecoderConfig,
    ESACycleGANConfig,
    Head,
    NAFNetConfig,
    UNetConfig,
)
from topcoat.heads.network import HeadConfig
from topcoat.training import run_config
from topcoat.training.start import fitted

ROOT = Path(__file__).parent.parent
SIZES_PX = (128, 512, 1024)
"""Sizes at which FLOP are counted."""
HEADS: dict[str, HeadConfig] = {
    "unet, small": UNetConfig.model_validate({"size": "small"}),
    "unet": UNetConfig(),
    "unet, large": UNetConfig.model_validate({"size": "large"}),
    "nafnet": NAFNetConfig(),
    "cyclegan": CycleGANConfig(),
    "esa-cyclegan": ESACycleGANConfig(),
    "decoder, small": DecoderConfig(),
    "decoder, base": DecoderConfig.model_validate({"size": "base"}),
}
BEGIN, END = "<!-- heads: begin (benchmarks/heads.py) -->", "<!-- heads: end -->"


@dataclass(frozen=True, slots=True)
class HeadCost:
    """One head: computed TFLOP by side in pixels, and measured milliseconds."""

    name: str
    takes: str
    parameters: int
    tflop: dict[int, float]
    milliseconds: dict[int, Timing]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PairCost:
    """What a head stands beside: the whole distilled image and the VAE decoding in it, in TFLOP."""

    pair: str
    size_px: int
    steps: int
    image_tflop: float
    vae_tflop: float


def main(arguments: list[str] | None = None) -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--timed-px", type=int, nargs="+", default=[128, 512], help="sizes at which heads are timed")
    parser.add_argument("--runs", type=int, default=10, help="timed runs of each head and size, after one to warm up")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs" / "results.md", help="file whose section is written")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "heads.json", help="figures")
    chosen = parser.parse_args(arguments)
    try:
        run(chosen)
    except TopcoatError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def run(chosen: argparse.Namespace) -> list[HeadCost]:
    """Count, time, print and write."""
    beside = [pair_cost("flux1", 1024), pair_cost("mini", 128)]
    costs: list[HeadCost] = []
    for name, config in {**HEADS, **latent_heads()}.items():
        print(f"{name} ...", file=sys.stderr, flush=True)
        costs.append(head_cost(name, config, chosen.timed_px, chosen.runs))
    section = markdown(costs, beside, chosen.timed_px, chosen.runs)
    print(section)
    write_json(
        chosen.json,
        {
            "unit": "TFLOP per image, computed; milliseconds per image, measured",
            "heads": [cost.as_dict() for cost in costs],
            "beside": [asdict(pair) for pair in beside],
            "hardware": hardware().as_dict(),
        },
    )
    write_section(chosen.docs, BEGIN, END, section, title="# Results")
    return costs


def latent_heads() -> dict[str, HeadConfig]:
    """Heads that change latents, with the VAE of each pair, which is most of their cost."""
    found: dict[str, HeadConfig] = {}
    for pair in ("flux1", "mini"):
        vae = components_of(model_pair(pair).distilled).configs["vae"]
        found[_latent_name(pair)] = fitted(run_config("latent-unet"), vae).head
        found[f"refiner, VAE of {pair}"] = fitted(run_config("refiner"), vae).head
    return found


def _latent_name(pair: str) -> str:
    return f"latent-unet, VAE of {pair}"


def pair_cost(pair: str, size_px: int) -> PairCost:
    """The computed cost of the distilled model of ``pair``."""
    spec = model_pair(pair).distilled
    rows = generator_rows(spec, size_px, size_px)
    (vae,) = (row.tflop for row in rows if row.piece == "VAE decode")
    return PairCost(pair, size_px, spec.steps, sum(row.tflop for row in rows), vae)


def head_cost(name: str, config: HeadConfig, timed_px: Sequence[int], runs: int) -> HeadCost:
    """Counted and timed, one image at a time."""
    described = config
    torch.manual_seed(0)
    head = Head(config.build(), config)
    milliseconds: dict[int, Timing] = {}
    for size_px in timed_px:
        inputs = torch.rand(1, *config.input_shape(size_px, size_px))
        head(inputs)
        taken = summarise([timed(lambda given=inputs: head(given)) for _ in range(runs)])
        milliseconds[size_px] = Timing(taken.median_seconds * 1e3, taken.low * 1e3, taken.high * 1e3, taken.runs)
    tflop = {size_px: described.flops(size_px, size_px) / 1e12 for size_px in SIZES_PX}
    return HeadCost(name, described.input, described.parameters(), tflop, milliseconds)


def markdown(costs: Sequence[HeadCost], beside: Sequence[PairCost], timed_px: Sequence[int], runs: int) -> str:
    """The section of docs/results.md."""
    flux, mini = beside
    columns = ["head", "parameters", *(f"TFLOP at {size_px} px" for size_px in SIZES_PX)]
    columns += [f"of a {flux.steps}-step FLUX.1-schnell image", *(f"ms at {size_px} px" for size_px in timed_px)]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for cost in costs:
        cells = [cost.name, f"{cost.parameters / 1e6:.2f} M", *(format_tflop(value) for value in cost.tflop.values())]
        cells.append(f"{cost.tflop[flux.size_px] / flux.image_tflop:.3%}")
        cells += [f"{one.median_seconds:.1f} ({one.low:.1f} to {one.high:.1f})" for one in cost.milliseconds.values()]
        lines.append("| " + " | ".join(cells) + " |")
    decoders = [cost for cost in costs if cost.takes == "latent"]
    others = {_latent_name(pair.pair): pair for pair in beside}
    places = [(pair, decoder) for pair in beside for decoder in decoders if others.get(decoder.name, pair) is pair]
    table = "\n".join(lines)
    rows = "\n".join(_in_place(pair, decoder) for pair, decoder in places)
    machine = hardware()
    return f"""## What heads cost

TFLOP per image are computed (2 FLOP per multiply-add); milliseconds are measured, medians of {runs} runs of one image
with their spread, on {machine.gpu or machine.cpu} ({machine.cores} cores, {machine.torch_threads} threads, torch
{machine.torch}), with untrained weights. The {flux.steps}-step FLUX.1-schnell image has
{format_tflop(flux.image_tflop)} TFLOP at {flux.size_px} px, text encoders and VAE included; the {mini.steps}-step image
of the mini pair has {format_tflop(mini.image_tflop)} at {mini.size_px} px. Made by `benchmarks/heads.py`.

{table}

A head that takes latents stands in the place of the VAE decoder. A decoder's pipeline costs less than the distilled
model alone wherever it costs less than that decoder; a latent-unet has that decoder in it, and adds its change alone:

| pair | VAE decode, TFLOP | head | TFLOP | pipeline against the distilled model alone |
|---|---|---|---|---|
{rows}"""


def _in_place(pair: PairCost, decoder: HeadCost) -> str:
    with_head = pair.image_tflop - pair.vae_tflop + decoder.tflop[pair.size_px]
    return (
        f"| {pair.pair}, {pair.size_px} px | {format_tflop(pair.vae_tflop)} | {decoder.name} | "
        f"{format_tflop(decoder.tflop[pair.size_px])} | {with_head / pair.image_tflop - 1:+.1%} |"
    )


if __name__ == "__main__":
    sys.exit(main())
