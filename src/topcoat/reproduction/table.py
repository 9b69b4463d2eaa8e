"""The study's table: one row for each head, and for what the heads stand beside."""

from __future__ import annotations

from collections.abc import Sequence

from topcoat.cost import count_steps, format_tflop
from topcoat.metrics.c2st import TwoSample
from topcoat.metrics.evaluate import ENOUGH_IMAGES
from topcoat.proof.record import percent, saving_words
from topcoat.reproduction.record import Costs, HeadResult, Judged, Study

SHORT = (
    "name",
    "gap",
    "interval",
    "frechet",
    "p05",
    "accuracy",
    "parameters",
    "tflop",
    "ms",
    "less_tflop",
    "less_time",
)
"""The columns that fit a terminal."""
_NONE = "-"
_QUALITY = {
    "gap": "gap closed",
    "interval": "95 % interval",
    "frechet": "Fréchet",
    "perceptual": "perceptual to y",
    "identity": "identity z-x",
    "p05": "5th percentile",
    "accuracy": "told from y",
    "auc": "AUC",
    "grid": "grid, dB",
}


def columns(study: Study) -> dict[str, str]:
    """The columns as key and heading, in their order."""
    slow, beside = count_steps(study.baseline.steps), study.baseline_at_28_steps.steps
    return {
        "name": "",
        "images": "images seen",
        **_QUALITY,
        "parameters": "parameters",
        "head_tflop": "TFLOP head",
        "tflop": "TFLOP",
        "head_ms": "ms head",
        "ms": "ms",
        "less_tflop": f"less TFLOP than {slow}",
        "less_tflop_beside": f"than {beside}",
        "less_time": f"less time than {slow}",
        "less_time_beside": f"than {beside}",
    }


def rows(study: Study, keys: Sequence[str] | None = None) -> list[tuple[str, ...]]:
    """A cell for each of the columns, or of those that ``keys`` name.

    The rows are the distilled images, every head, the floor, and the baseline at both step counts.
    """
    floor, kept = study.do_nothing.gap.floor, study.identity_pairs
    steps = count_steps(study.distilled.steps)
    found = [
        {"name": f"x: distilled, {steps}", **_quality(study.do_nothing), **_per_image(study.distilled)},
        *(_head(head) for head in study.heads),
        {
            "name": "floor: the baseline at other seeds",
            "frechet": f"{floor.value:.3g}",
            **_told(study.floor_two_sample),
        },
        {
            "name": f"y: baseline, {count_steps(study.baseline.steps)}",
            "identity": f"{kept.same_mean:.3f}",
            "p05": f"{kept.same_p05:.3f}",
            **_per_image(study.baseline),
        },
    ]
    if study.baseline_at_28_steps.steps != study.baseline.steps:
        beside = study.baseline_at_28_steps
        found.append({"name": f"baseline, {count_steps(beside.steps)}", **_per_image(beside)})
    return [tuple(row.get(key, _NONE) for key in keys or columns(study)) for row in found]


def notes(study: Study) -> list[str]:
    """What a reader of the table must know, a sentence or two each."""
    machine = study.hardware
    found = [
        f"Pair {study.pair} at {study.width_px}x{study.height_px} px, {study.n:,} held-out subjects (prompts and seeds "
        f"that no head was trained on), heads trained on {study.training_pairs:,} pairs. Measured: gap, distances, "
        f"identity, told from y, ms. Computed: TFLOP, whole pipelines but for the column of the head.",
        f"Set distances and identity are in the features of the net {study.features.net} ({study.features.digest}, "
        f"{study.features.dimensions} dimensions), which no training used. x is the distilled image, y the baseline's, "
        "z a head's. The identity of the baseline's row is that of x and y.",
        "Told from y: accuracy and area under the curve of a fresh classifier on held-out images; 50 % is chance.",
        "Grid: the most power that z - x has over y - x at any frequency of up-sampling (periods of 2, 4 and 8 px).",
        f"Milliseconds are medians per image in batches of {study.settings['batch_size']} on "
        f"{machine['gpu'] or machine['cpu']}, {machine['cores']} cores, {machine['torch_threads']} torch threads.",
    ]
    if study.n < ENOUGH_IMAGES:
        found.append(f"Set distances of {study.n} images are rough: use {ENOUGH_IMAGES:,} or more to quote one.")
    for head in study.heads:
        if head.changed:
            found.append(f"{head.run} is not the run of that name: {', '.join(head.changed)} ({head.reason}).")
    for head in study.heads:
        if head.starts_from:
            found.append(f"{head.run} went on from the head of {head.starts_from}; the images that it saw come on top.")
        if head.teacher:
            found.append(f"{head.run} learnt from what the head of {head.teacher} makes of x, not from y.")
    for head in study.heads:
        found += [f"{head.run}: {flag}" for flag in head.judged.flags]
    return found


def markdown(study: Study) -> str:
    """``study.md``."""
    header = list(columns(study).values())
    lines = [
        f"# Study of the pair {study.pair}",
        "",
        f"| {' | '.join(header)} |",
        f"|{'---|' + '---:|' * (len(header) - 1)}",
        *(f"| {' | '.join(row)} |" for row in rows(study)),
        "",
        *(f"- {note}" for note in notes(study)),
    ]
    return "\n".join(lines) + "\n"


def headline(study: Study) -> str:
    """One line: the head that is nearest to the baseline, what it closes and what it saves."""
    best = study.best
    gap = best.judged.gap
    bought = "no measurable gap to close" if gap.value is None else f"{percent(gap.value)} of the gap closed"
    tflop, time = saving_words(best.saving.tflop), saving_words(best.saving.seconds)
    return f"{best.run}: {bought}, {tflop} TFLOP and {time} time than {count_steps(study.baseline.steps)}"


def _head(head: HeadResult) -> dict[str, str]:
    return {
        "name": head.run + ("*" if head.changed else ""),
        "images": f"{head.images_seen:,}",
        **_quality(head.judged),
        "parameters": f"{head.parameters:,}",
        "head_tflop": format_tflop(head.head_tflop),
        "tflop": format_tflop(head.pipeline_tflop),
        "head_ms": f"{head.head_seconds * 1000:.2f}",
        "ms": f"{head.pipeline_seconds * 1000:.2f}",
        "less_tflop": _share(head.saving.tflop),
        "less_tflop_beside": _share(head.saving_at_28_steps.tflop),
        "less_time": _share(head.saving.seconds),
        "less_time_beside": _share(head.saving_at_28_steps.seconds),
    }


def _quality(judged: Judged) -> dict[str, str]:
    gap, kept = judged.gap, judged.identity
    found = {
        "frechet": f"{gap.enhanced.value:.3g}",
        "identity": f"{kept.mean:.3f}",
        "p05": f"{kept.p05:.3f}",
        **_told(judged.two_sample),
    }
    if gap.value is not None and gap.low is not None and gap.high is not None:
        found |= {"gap": percent(gap.value), "interval": f"{percent(gap.low)} to {percent(gap.high)}"}
    if judged.grid_db is not None:
        found["grid"] = f"{judged.grid_db:+.1f}"
    if judged.perceptual is not None:
        found["perceptual"] = f"{judged.perceptual.value:.4g}"
    return found


def _told(found: TwoSample | None) -> dict[str, str]:
    return {} if found is None else {"accuracy": _share(found.accuracy), "auc": f"{found.auc:.3f}"}


def _per_image(cost: Costs) -> dict[str, str]:
    return {"tflop": format_tflop(cost.tflop), "ms": f"{cost.seconds * 1000:.2f}"}


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"
