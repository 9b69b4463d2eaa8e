"""What every head costs: parameters, TFLOP by size, its share of a FLUX.1-schnell image, milliseconds on this machine.

    python benchmarks/heads.py                       # a few minutes on 2 cores
    python benchmarks/heads.py --timed-px 128 --runs 3

Writes ``benchmarks/heads.json`` and the section of docs/results.md between its two marker lines. TFLOP are computed on
the meta device, at 2 FLOP per multiply-add; milliseconds are measured, with untrained weights, which take the same time
as trained ones.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from results import ROOT, ended, publish

import topcoat
from topcoat.cost.flops import TERA, components_of, generator_rows
from topcoat.cost.machine import hardware
from topcoat.cost.measure import Timing, summarise, timed
from topcoat.cost.table import DECODE_ROW, format_tflop
from topcoat.files import write_json
from topcoat.heads import CycleGANConfig, DecoderConfig, ESACycleGANConfig, Head, NAFNetConfig, UNetConfig
from topcoat.heads.network import HeadConfig
from topcoat.metrics.table import Table
from topcoat.training import run_config

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


@dataclass(frozen=True, slots=True)
class HeadCost:
    """One head: computed TFLOP by side in pixels, and measured seconds."""

    name: str
    input: str
    parameters: int
    tflop: dict[int, float]
    seconds: dict[int, Timing]
    vae_of: str | None
    """The pair whose VAE is in the head."""


@dataclass(frozen=True, slots=True)
class PairCost:
    """The distilled image that a head belongs to, and the VAE decode in it, in TFLOP."""

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
    return ended(lambda: run(parser.parse_args(arguments)))


def run(chosen: argparse.Namespace) -> None:
    """Count, time, print and write."""
    pairs = [pair_cost("flux1", 1024), pair_cost("mini", 128)]
    configs: dict[tuple[str, str | None], HeadConfig] = {(name, None): config for name, config in HEADS.items()}
    for pair in ("flux1", "mini"):  # heads that change latents hold the VAE of a pair, which is most of their cost
        vae = components_of(topcoat.model_pair(pair).distilled).configs["vae"]
        for name in ("latent-unet", "refiner"):
            configs[f"{name}, VAE of {pair}", pair] = run_config(name).fitted(vae).last.head
    costs = [
        head_cost(name, config, vae_of, chosen.timed_px, chosen.runs) for (name, vae_of), config in configs.items()
    ]
    record = {
        "unit": "TFLOP per image, computed; seconds per image, measured",
        "heads": [asdict(cost) for cost in costs],
        "pairs": [asdict(pair) for pair in pairs],
        "hardware": hardware().as_dict(),
    }
    write_json(chosen.json, record)
    publish(chosen.docs, "heads", "heads.py", markdown(costs, pairs, chosen.runs))


def pair_cost(pair: str, size_px: int) -> PairCost:
    """The computed cost of the distilled model of ``pair``."""
    spec = topcoat.model_pair(pair).distilled
    rows = generator_rows(spec, size_px, size_px)
    (vae,) = (row.tflop for row in rows if row.piece == DECODE_ROW)
    return PairCost(pair, size_px, spec.steps, sum(row.tflop for row in rows), vae)


def head_cost(name: str, config: HeadConfig, vae_of: str | None, timed_px: Sequence[int], runs: int) -> HeadCost:
    """Counted and timed, one image at a time."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    torch.manual_seed(0)
    head = Head(config.build(), config)
    seconds: dict[int, Timing] = {}
    for size_px in timed_px:
        inputs = torch.rand(1, *config.input_shape(size_px, size_px))
        head(inputs)
        seconds[size_px] = summarise([timed(lambda given=inputs: head(given))[1] for _ in range(runs)])
    tflop = {size_px: config.flops(size_px, size_px) / TERA for size_px in SIZES_PX}
    return HeadCost(name, config.input, config.parameters(), tflop, seconds, vae_of)


def markdown(costs: Sequence[HeadCost], pairs: Sequence[PairCost], runs: int) -> str:
    """The section of docs/results.md."""
    flux, mini = pairs
    columns = ["head", "parameters", *(f"TFLOP at {size_px} px" for size_px in SIZES_PX)]
    columns += [
        f"of a {flux.steps}-step FLUX.1-schnell image",
        *(f"ms at {size_px} px" for size_px in costs[0].seconds),
    ]
    rows = [
        [
            cost.name,
            f"{cost.parameters / 1e6:.2f} M",
            *(format_tflop(value) for value in cost.tflop.values()),
            f"{cost.tflop[flux.size_px] / flux.image_tflop:.3%}",
            *(f"{t.median_seconds * 1e3:.1f} ({t.low * 1e3:.1f} to {t.high * 1e3:.1f})" for t in cost.seconds.values()),
        ]
        for cost in costs
    ]
    in_place = [
        [
            f"{pair.pair}, {pair.size_px} px",
            format_tflop(pair.vae_tflop),
            cost.name,
            format_tflop(cost.tflop[pair.size_px]),
            f"{(cost.tflop[pair.size_px] - pair.vae_tflop) / pair.image_tflop:+.1%}",
        ]
        for pair in pairs
        for cost in costs
        if cost.input == "latent" and cost.vae_of in (None, pair.pair)
    ]
    machine = hardware()
    second = ["pair", "VAE decode, TFLOP", "head", "TFLOP", "pipeline against the distilled model alone"]
    return f"""## What heads cost

TFLOP per image are computed (2 FLOP per multiply-add); milliseconds are measured, medians of {runs} runs of one image
with their spread, on {machine.gpu or machine.cpu} ({machine.cores} cores, {machine.torch_threads} threads, torch
{machine.torch}), with untrained weights. The {flux.steps}-step FLUX.1-schnell image has
{format_tflop(flux.image_tflop)} TFLOP at {flux.size_px} px, text encoders and VAE included; the {mini.steps}-step image
of the mini pair has {format_tflop(mini.image_tflop)} at {mini.size_px} px. Made by `benchmarks/heads.py`.

{Table(columns, rows).markdown()}

A head that takes latents stands in place of the VAE decode. A decoder's pipeline costs less than the distilled model
alone wherever it costs less than that VAE decode; a latent-unet has the VAE decode in it, and adds its change alone:

{Table(second, in_place).markdown()}"""


if __name__ == "__main__":
    sys.exit(main())
