"""Write the hours and the money of the runbooks, docs/runbook-flux.md and docs/runbook-sdxl.md, between their marks.

    python benchmarks/runbooks.py

The arithmetic of `topcoat pairs plan`, `topcoat cost --tco` and benchmarks/real_unet.py, on the stored counts of
`topcoat presets`: computed, no model is run. Run benchmarks/memory.py first where models have changed.
"""

from __future__ import annotations

from pathlib import Path

from sections import write_section

from topcoat.cost.presets import PairFigures, preset_figures
from topcoat.cost.pricing import Rate, computed_usage, find_gpu, load_prices, plan_pairs, rate_of
from topcoat.files import read_json
from topcoat.generators.base import ModelPair
from topcoat.generators.presets import model_pair

ROOT = Path(__file__).resolve().parent.parent
RUNBOOKS = {"flux": ("flux1", "flux2-klein", "z-image"), "sdxl": ("sdxl",)}
GPUS = {"rtx4090": "RTX 4090", "a100": "A100 SXM", "h100": "H100 SXM"}
"""Name in the price table -> name in real_unet.json."""
COUNTS = (5_000, 28_000, 280_000)
BEGIN, END = "<!-- plan: begin (benchmarks/runbooks.py) -->", "<!-- plan: end -->"


def section(pairs: tuple[str, ...]) -> str:
    """The tables of one runbook."""
    figures, rates = preset_figures()[0], {gpu: rate_of(find_gpu(gpu, load_prices()), None) for gpu in GPUS}
    blocks = [building(model_pair(name), figures[name], rates) for name in pairs]
    return "\n\n".join([*blocks, training(rates), using(pairs[0], figures[pairs[0]], rates), sources(rates)])


def building(pair: ModelPair, figures: PairFigures, rates: dict[str, Rate]) -> str:
    """What `topcoat pairs plan` says for each count and GPU."""
    tflop = figures.distilled_tflop + figures.baseline_tflop
    lines = [
        f"**Building pairs, `{pair.name}`** ({pair.distilled.steps} and {pair.baseline.steps} steps, "
        f"{pair.distilled.width_px}x{pair.distilled.height_px}, {tflop:,.0f} TFLOP a pair; computed)\n",
        "| pairs | disk | RTX 4090, hours | USD | A100, hours | USD | H100, hours | USD |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for count in COUNTS:
        bills = [
            plan_pairs(count, computed_usage(pair, tflop, rate), rate, rate.known_gpu.name, 1)
            for rate in rates.values()
        ]
        cells = [f"{count:,}", bills[0]["disk_bytes"].text]
        for bill in bills:
            cells += [f"{bill['gpu_hours'].value:,.0f}", f"{bill['usd'].value:,.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def training(rates: dict[str, Rate]) -> str:
    """Hours and money of the run real-unet, which do not depend on the number of pairs."""
    hours = read_json(ROOT / "benchmarks" / "real_unet.json")["computed_hours"]
    lines = [
        "**Training, `real-unet`** (420,000 images seen, whatever the number of pairs; computed)\n",
        "| GPU | hours | USD |",
        "|---|---:|---:|",
    ]
    for gpu, name in GPUS.items():
        low, high = hours[name]
        price = rates[gpu].usd_per_hour
        lines.append(f"| {name} | {low:.1f} to {high:.1f} | {low * price:.2f} to {high * price:.2f} |")
    return "\n".join(lines)


def using(name: str, figures: PairFigures, rates: dict[str, Rate]) -> str:
    """Seconds and money of an image, and after how many images the pairs are paid off."""
    pair = model_pair(name)
    head = read_json(ROOT / "benchmarks" / "real_unet.json")["whole_px_tflop"]
    enhanced, baseline = figures.distilled_tflop + head, figures.baseline_tflop
    saved = baseline - enhanced
    built = figures.distilled_tflop + baseline
    lines = [
        f"**An image, `{name}`** (distilled at {pair.distilled.steps} steps + the head of `real-unet`, {enhanced:,.2f} "
        f"TFLOP, against {pair.baseline.steps} steps of the baseline, {baseline:,.2f} TFLOP; computed)\n",
        "| GPU | distilled + head, s | baseline, s | USD saved on 1,000 images |",
        "|---|---:|---:|---:|",
    ]
    for gpu, rate in rates.items():
        seconds = [rate.seconds(tflop) for tflop in (enhanced, baseline)]
        money = 1_000 * rate.usd(seconds[1] - seconds[0])
        lines.append(f"| {GPUS[gpu]} | {seconds[0]:.2f} | {seconds[1]:.2f} | {money:.2f} |")
    after = ", ".join(f"{count:,} pairs after {count * built / saved:,.0f} images" for count in COUNTS)
    return "\n".join(lines) + f"\n\nOn any GPU the cost of building is earned back: {after}."


def sources(rates: dict[str, Rate]) -> str:
    """The assumptions under all of it."""
    lines = [
        f"- {GPUS[gpu]}: {rate.known_gpu.bf16_tflops:g} TFLOP/s dense bf16, {rate.usd_per_hour:g} USD an hour, "
        f"{rate.known_gpu.date}"
        for gpu, rate in rates.items()
    ]
    share = next(iter(rates.values())).utilisation
    return (
        f"Assumed: {share:.0%} of the peak where models generate, less where a head is trained "
        "([how much](training.md#a-run-for-1024-px)), 1.8 bytes a pixel. Offloading, starting and loading are not in "
        f"it. Peaks and prices are cited in `src/topcoat/cost/prices.toml`:\n\n" + "\n".join(lines)
    )


def main() -> None:
    """Write both pages."""
    for name, pairs in RUNBOOKS.items():
        page = ROOT / "docs" / f"runbook-{name}.md"
        write_section(page, BEGIN, END, section(pairs), title=f"# Runbook: {name}")
        print(f"written to {page}")


if __name__ == "__main__":
    main()
