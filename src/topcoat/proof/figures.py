"""The figures of a proof as parts of the page: cards, charts and the table."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from topcoat.charts import Bar, bars, histogram
from topcoat.cost import BASELINE_STEPS_BESIDE, count_steps, format_tflop
from topcoat.page import card, table
from topcoat.proof.record import Proof, percent, saving_words


def cards(proof: Proof) -> str:
    """The main figures, one card each."""
    gap = proof.shown_gap
    steps, seconds = proof.steps, proof.seconds_per_image
    interval = (
        "no gap to close"
        if gap.low is None or gap.high is None
        else f"95 % interval {percent(gap.low)} to {percent(gap.high)}"
    )
    controls = {"unsharp mask": proof.shown_share_of("unsharp"), "colour matrix": proof.shown_share_of("colour")}
    against = [f"{label}: {percent(value)}" for label, value in controls.items() if value is not None]
    both = f"{count_steps(steps.distilled)} + head against {count_steps(steps.baseline)}"
    beside = proof.saving_at_28_steps
    return "".join(
        (
            card(
                "Gap",
                "n/a" if gap.value is None else f"{percent(gap.value)} closed",
                [interval, *against],
                "measured",
            ),
            card("Identity", f"{proof.identity.mean:.3f}", [f"5th percentile {proof.identity.p05:.3f}"], "measured"),
            card(
                "Compute",
                saving_words(proof.saving.tflop),
                [both, f"{saving_words(beside.tflop)} against {BASELINE_STEPS_BESIDE}"],
                "computed",
            ),
            card(
                "Time",
                saving_words(proof.saving.seconds),
                [both, f"{saving_words(beside.seconds)} against {BASELINE_STEPS_BESIDE}"],
                "measured",
            ),
            card(
                "Per image",
                f"{seconds.enhanced:.3f} s",
                [f"baseline {seconds.baseline:.3f} s", f"head {seconds.head:.4f} s"],
                "measured",
            ),
        )
    )


def distance_chart(proof: Proof) -> str:
    """Fréchet distances with their intervals."""
    found, ends = proof.frechet, proof.settings["frechet_intervals"]
    rows = [
        Bar(label, value, f"{value:.3g}", colour, ends[key]["low"], ends[key]["high"])
        for label, key, value, colour in (
            ("distilled", "distilled", found.distilled, "distilled"),
            ("+ unsharp mask", "unsharp", found.unsharp, "control"),
            ("+ colour matrix", "colour", found.colour, "control"),
            ("+ head", "enhanced", found.enhanced, "enhanced"),
            ("baseline, other seeds", "baseline_floor", found.baseline_floor, "baseline"),
        )
    ]
    return bars(rows, title="Fréchet distance to the baseline", marker=(found.baseline_floor, "floor"))


def identity_chart(kept: Tensor, same: Tensor, different: Tensor) -> str:
    """Cosines ``(N,)`` of identity: the head's input to its output, one subject in both models, different subjects."""
    series = (
        ("different subjects", different, "control"),
        ("same, distilled to baseline", same, "distilled"),
        ("head's input to output", kept, "enhanced"),
    )
    return histogram(series, title="Identity cosines")


def tflop_chart(proof: Proof) -> str:
    """TFLOP per image of distilled + head and of the baseline."""
    found = proof.tflop_per_image
    beside = proof.settings["baseline_at_28_steps"]["tflop"]
    rows = _cost_rows(proof, found.enhanced, beside, found.baseline, lambda value: f"{format_tflop(value)} TFLOP")
    return bars(rows, title="TFLOP per image")


def seconds_chart(proof: Proof) -> str:
    """Seconds per image of the same."""
    found = proof.seconds_per_image
    beside = proof.settings["baseline_at_28_steps"]["seconds"]
    rows = _cost_rows(proof, found.enhanced, beside, found.baseline, lambda value: f"{value:.3f} s")
    return bars(rows, title="Seconds per image")


def _cost_rows(proof: Proof, ours: float, beside: float, baseline: float, text: Callable[[float], str]) -> list[Bar]:
    rows = [Bar(f"{count_steps(proof.steps.distilled)} + head", ours, text(ours), "enhanced")]
    counts = {BASELINE_STEPS_BESIDE: beside, proof.steps.baseline: baseline}
    return rows + [
        Bar(f"baseline, {count_steps(count)}", value, text(value), "baseline") for count, value in counts.items()
    ]


def figures_table(proof: Proof) -> str:
    """All figures as rows: what, how much, measured or computed, a note."""
    frechet, kept, pairs = proof.frechet, proof.identity, proof.identity_pairs
    seconds, tflop, spread = proof.seconds_per_image, proof.tflop_per_image, proof.settings["seconds_spread"]
    energy, steps = proof.settings["gradient_energy"], proof.steps

    def timing(name: str) -> str:
        return f"{spread[name]['low']:.4f} to {spread[name]['high']:.4f} s over {spread[name]['batches']} batches"

    gap = proof.settings["gap_in_floors"]
    rows = [
        ("Fréchet distance, distilled (do-nothing score)", f"{frechet.distilled:.4g}", "measured", ""),
        ("Fréchet distance, distilled + unsharp mask", f"{frechet.unsharp:.4g}", "measured", _control(proof)),
        (
            "Fréchet distance, distilled + colour matrix",
            f"{frechet.colour:.4g}",
            "measured",
            "one affine map of RGB for all images, fitted to the baseline on the same subjects",
        ),
        ("Fréchet distance, distilled + head", f"{frechet.enhanced:.4g}", "measured", ""),
        (
            "Fréchet distance, baseline at other seeds (floor)",
            f"{frechet.baseline_floor:.4g}",
            "measured",
            "" if gap is None else f"the do-nothing score is {gap:.1f} times the floor",
        ),
        ("Share of the gap closed", str(proof.gap_closed), "measured", "bootstrap over subjects"),
        *_extrapolated(proof),
        ("Identity, input to output of the head", f"{kept.mean:.4f}", "measured", f"5th percentile {kept.p05:.4f}"),
        (
            "Identity, same subject in both models",
            f"{pairs.same_mean:.4f}",
            "measured",
            f"5th percentile {pairs.same_p05:.4f}",
        ),
        (
            "Identity, different subjects",
            f"{pairs.different_mean:.4f}",
            "measured",
            f"95th percentile {pairs.different_p95:.4f}",
        ),
        (
            "Gradient energy, distilled / unsharp / colour / head / baseline",
            " / ".join(f"{energy[name]:.4f}" for name in ("distilled", "unsharp", "colour", "enhanced", "baseline")),
            "measured",
            "mean absolute forward difference",
        ),
        (
            f"Seconds, distilled, {count_steps(steps.distilled)}",
            f"{seconds.distilled:.4f}",
            "measured",
            timing("distilled"),
        ),
        ("Seconds, head", f"{seconds.head:.4f}", "measured", timing("head")),
        (
            f"Seconds, distilled + head, {count_steps(steps.distilled)}",
            f"{seconds.enhanced:.4f}",
            "measured",
            f"decoded by the head; latents {timing('distilled_latents')}" if "distilled_latents" in spread else "",
        ),
        (
            f"Seconds, baseline, {count_steps(steps.baseline)}",
            f"{seconds.baseline:.4f}",
            "measured",
            timing("baseline"),
        ),
        (
            f"TFLOP, distilled, {count_steps(steps.distilled)}",
            format_tflop(tflop.distilled),
            "computed",
            "whole pipeline",
        ),
        ("TFLOP, head", format_tflop(tflop.head), "computed", ""),
        (
            f"TFLOP, distilled + head, {count_steps(steps.distilled)}",
            format_tflop(tflop.enhanced),
            "computed",
            "whole pipeline; the head stands in place of the VAE decode" if "distilled_latents" in spread else "",
        ),
        (f"TFLOP, baseline, {count_steps(steps.baseline)}", format_tflop(tflop.baseline), "computed", "whole pipeline"),
    ]
    return table(("What", "Figure", "Kind", "Beside it"), rows, "facts")


def _extrapolated(proof: Proof) -> list[tuple[str, str, str, str]]:
    gap = proof.gap_extrapolated
    if gap is None:
        return []
    distances = " / ".join(f"{value:.3g}" for value in (gap.distilled, gap.enhanced, gap.baseline_floor))
    beside = f"distilled / head / floor: {distances}"
    return [("Share of the gap closed, extrapolated to endless subjects", str(gap.share), "measured", beside)]


def _control(proof: Proof) -> str:
    control = proof.settings["control"]
    return (
        f"amount {control['amount']:.2f}, sigma {control['sigma_px']:g} px, fitted to the baseline's gradient energy "
        f"on the first {control['calibration_images']} of these subjects (in the control's favour)"
    )
