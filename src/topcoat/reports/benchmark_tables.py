"""A benchmark as text: its table (one row for each arm), headline, summary, notes and Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from topcoat.benchmark.frontier import Target, pareto_front, points_of
from topcoat.benchmark.record import BASELINE, CONTROLS, DISTILLED, ENHANCED, EXTRA, FLOOR, BenchmarkResult
from topcoat.cost.flops import EXTRA_STEPS
from topcoat.cost.table import count_steps, format_tflop
from topcoat.metrics.base import Score
from topcoat.metrics.evaluate import ENOUGH_IMAGES
from topcoat.metrics.evaluation import percent, row_label, share_text, value_text
from topcoat.metrics.table import Table

SHORT = ("arm", "gap", "frechet", "p05", "c2st", "parameters", "tflop", "ms", "tflop_saving", "seconds_saving")
"""The columns that fit a terminal."""
_NONE = "-"
_LABELS = {
    ENHANCED: "distilled + head",
    "unsharp": "distilled + unsharp mask",
    "colour": "distilled + colour matrix",
    FLOOR: "noise floor (other seeds)",
}


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of scores of one metric, or of a fact on the head."""

    heading: str
    metric: str = ""
    form: str | Callable[[Score], str] = ".3f"
    ends: str = ""
    """The form of an interval's ends; empty where they are not shown."""
    times: float = 1

    def text(self, score: Score) -> str:
        """The score in this column."""
        if not isinstance(self.form, str):
            return self.form(score)
        value, *ends = (
            f"{number * self.times:{form}}".replace("%", " %")
            for number, form in ((score.value, self.form), (score.low, self.ends), (score.high, self.ends))
            if number is not None and form
        )
        return value if len(ends) < 2 or score.n == 1 else f"{value} ({ends[0]} to {ends[1]})"


_COLUMNS = {
    "gap": _Column("gap closed", "gap_closed", ".0%", ".0%"),
    "gap_extrapolated": _Column("gap closed, extrapolated", "gap_closed_extrapolated", ".0%", ".0%"),
    "frechet": _Column("Fréchet", "frechet", ".4g", ".3g"),
    "perceptual": _Column("perceptual", "perceptual", ".4f"),
    "identity": _Column("identity, mean", "identity_mean"),
    "p05": _Column("identity, 5th percentile", "identity_p05"),
    "c2st": _Column("two-sample accuracy", "c2st_accuracy", ".1%"),
    "auc": _Column("AUC", "c2st_auc"),
    "grid": _Column("grid, dB", "grid_db", "+.1f"),
    "energy": _Column("gradient energy", "gradient_energy", ".4f"),
    "images_seen": _Column("images seen"),
    "parameters": _Column("parameters"),
    "head_tflop": _Column("TFLOP head", "head_tflop", lambda score: format_tflop(score.value)),
    "tflop": _Column("TFLOP", "tflop", lambda score: format_tflop(score.value)),
    "head_ms": _Column("ms head", "head_seconds", ".4g", ".4g", 1e3),
    "ms": _Column("ms", "seconds", ".4g", ".4g", 1e3),
    **{
        f"{metric}_saving{key}": _Column(f"less {word}{than}", f"{metric}_saving{suffix}", ".1%")
        for metric, word in (("tflop", "TFLOP"), ("seconds", "time"))
        for key, than, suffix in (("", "", ""), ("_extra", f" than {EXTRA_STEPS} steps", f"_at_{EXTRA_STEPS}_steps"))
    },
}


_NO_COLUMN = {
    "frechet_extrapolated", "generator_seconds", "identity_mismatched_mean", "identity_mismatched_p95",
    "frechet_infinity", "kernel", "cmmd", "precision", "recall", "density", "coverage",
    "identity_same_share", "identity_unsure_share", "identity_different_share",
    "psnr", "ssim", "ms_ssim", "gradient_agreement", "spectrum_db",
    "changed", "checkerboard_db", "checkerboard_levels", "seam_ratio", "blob_share", "halo_luma", "high_frequency_db",
    "foreign_db", "colour_difference", "l_shift", "a_shift", "b_shift", "gain", "gain_after_jpeg",
    "ita_shift", "skin_difference", "ita_to_baseline",
}  # fmt: skip
"""Metrics that tables leave to the JSON file, for their width."""


def label(result: BenchmarkResult, name: str) -> str:
    """What tables call an arm; a star marks a run that a study changed."""
    if name in (DISTILLED, BASELINE, EXTRA):
        return f"{result.arms[name].model}, {count_steps(result.arms[name].steps)}"
    return _LABELS.get(name, name) + ("*" if result.heads.get(name, {}).get("changed") else "")


def arm_order(result: BenchmarkResult) -> list[str]:
    """The arms as tables list them: a frontier's by cost, others as distilled, controls, heads, floor, baseline."""

    def place(name: str) -> float:
        arm = result.arms[name]
        if result.kind == "frontier":
            return result.value("tflop", name) or float("inf")
        if arm.model == "baseline":
            return 3 if arm.other_seeds else 4
        return 0 if arm.head is None else 1 if name in CONTROLS else 2

    return sorted(result.names, key=place)


def table(
    result: BenchmarkResult, keys: Sequence[str] | None = None, *, chosen: str | None = None, ends: bool = True
) -> Table:
    """One row for each arm; columns without any value are left out. Rows of a frontier are numbered.

    A metric that has no column of its own gets one at the end.

    ``keys`` are some of the columns; the rows of the Pareto set and of the arm ``chosen`` are marked. Without ``ends``
    only the share of the gap has its interval, for a terminal.
    """
    front = {point.name for point in pareto_front(points_of(result))} if result.kind == "frontier" else set[str]()
    best = chosen or (result.best_head() if result.kind == "study" else None)
    names = arm_order(result)
    columns = {"arm": [label(result, name) for name in names]}
    if result.kind == "frontier":
        columns["arm"] = [f"{number}. {text}" for number, text in enumerate(columns["arm"], start=1)]
    known = _COLUMNS if keys else {**_COLUMNS, **_other_columns(result)}
    for key in keys or known:
        if key != "arm":
            cells = [_cell(result, name, known[key], key) for name in names]
            if not ends and key != "gap":
                cells = [cell.partition(" (")[0] for cell in cells]
            if any(cell != _NONE for cell in cells):
                columns[key] = cells
    headings = ["", *(known[key].heading for key in columns if key != "arm")]
    marks = [" ".join(["front"] * (name in front) + ["chosen"] * (name == best)) for name in names]
    return Table(headings, list(zip(*columns.values(), strict=True)), marks)


def headline(result: BenchmarkResult, chosen: str | None = None, target: Target | None = None) -> str:
    """One line: what an arm closes, and what it saves against the baseline.

    The arm is the demo's head, the study's best head or the chosen arm of a frontier; without one the line says so.
    """
    if result.kind == "frontier" and chosen is None:
        return f"No arm meets {target}" if target else f"{len(points_of(result))} arms of {result.pair}"
    arm = chosen or (ENHANCED if result.kind == "demo" else result.best_head() or DISTILLED)
    gap = shown_gap(result, arm)
    unknown = "too few subjects to tell the gap" if result.n < ENOUGH_IMAGES else "no measurable gap to close"
    closed = unknown if gap is None else f"{percent(gap.value)} of the gap closed"
    tflop, seconds = (saving_text(result.value(f"{metric}_saving", arm) or 0.0) for metric in ("tflop", "seconds"))
    steps = count_steps(result.arms[result.baseline].steps)
    return f"{label(result, arm)}: {closed} for {tflop} TFLOP (computed) and {seconds} time (measured) than {steps}"


def summary(result: BenchmarkResult) -> str:
    """A paragraph on a demo that a person can read."""
    arms, value = result.arms, result.value
    size = f"{result.width_px}x{result.height_px}"
    fast, slow = (count_steps(arms[name].steps) for name in (DISTILLED, BASELINE))
    head_ms, ours, theirs = (
        (value(metric, arm) or 0.0) * 1e3
        for metric, arm in (("head_seconds", ENHANCED), ("seconds", ENHANCED), ("seconds", BASELINE))
    )
    parts = [
        f"Pair {result.pair}, {result.n:,} subjects, {size}: distilled ({fast}) + head against the baseline ({slow}).",
        _gap_sentence(result),
        f"Identity from the head's input to its output, measured: mean {value('identity_mean', ENHANCED):.3f}, 5th "
        f"percentile {value('identity_p05', ENHANCED):.3f} (the same subject in both models "
        f"{value('identity_mean', BASELINE):.3f}, different subjects "
        f"{value('identity_mismatched_mean', BASELINE):.3f}).",
        f"An image takes {ours:.4g} ms (head {head_ms:.3g} ms) instead of {theirs:.4g} ms, measured in batches of "
        f"{result.settings['batch_size']}.",
    ]
    for suffix, steps in (("", slow), (f"_at_{EXTRA_STEPS}_steps", count_steps(EXTRA_STEPS))):
        tflop, seconds = (value(f"{metric}_saving{suffix}", ENHANCED) for metric in ("tflop", "seconds"))
        if tflop is not None and seconds is not None:
            parts.append(
                f"{fast} + head against {steps}, whole pipeline at {size}: {saving_text(tflop)} TFLOP (computed), "
                f"{saving_text(seconds)} time (measured)."
            )
    return " ".join([*parts, *_rough(result)])


def _rough(result: BenchmarkResult) -> list[str]:
    few = result.n < ENOUGH_IMAGES
    return [f"Set distances of {result.n} images are rough: use {ENOUGH_IMAGES:,} or more to quote one."] * few


def notes(result: BenchmarkResult) -> list[str]:
    """What a reader of the table must know, a sentence or two each."""
    machine, net = result.settings["hardware"], result.settings["features"]
    trained = result.settings.get("training_pairs")
    unseen = ", which no training used" if net["net"] in ("embedded", "eval") else ""
    sentences = [
        f"Pair {result.pair} at {result.width_px}x{result.height_px} px, {result.n:,} held-out subjects (a prompt and "
        "a seed each), the same for every arm"
        + (f"; heads trained on {trained:,} pairs. " if trained else ". ")
        + "Computed: TFLOP, 2 FLOP per multiply-add, for the whole pipeline: text encoders, steps, decode, head. "
        "Measured: everything else. Brackets hold 95 % bootstrap intervals over subjects, for ms the 10th and 90th "
        "percentile.",
        f"Set distances and identity are in the features of the net {net['net']} ({net['digest']}, "
        f"{net['dimensions']} dimensions{unseen}). Identity: cosine to the distilled image of the same subject.",
        f"Milliseconds are medians per image in batches of {result.settings['batch_size']} on "
        f"{machine['gpu'] or machine['cpu']}, {machine['cores']} cores, {machine['torch_threads']} torch threads, "
        f"torch {machine['torch']}; the arms took turns. Savings are against {label(result, result.baseline)}.",
    ]
    if any(facts["input"] == "latent" for facts in result.heads.values()):
        sentences.append("A head that takes latents stands in place of the VAE decode, which its arms do not pay for.")
    if any(score.metric == "c2st_accuracy" for score in result.scores):
        sentences.append(
            "Two-sample accuracy: how often a fresh classifier tells held-out images from the baseline's; 50 % is "
            "chance."
        )
    if any(score.metric == "grid_db" for score in result.scores):
        sentences.append(
            "Grid: the most power that a head's change has over the change to the baseline at any frequency of "
            "up-sampling (periods of 2, 4 and 8 px)."
        )
    sentences += _rough(result)
    for name, facts in result.heads.items():
        if facts.get("changed"):
            sentences.append(f"{name} is not the run of that name: {', '.join(facts['changed'])} ({facts['reason']}).")
        if facts.get("base"):
            sentences.append(f"{name} went on from the head of {facts['base']}; the images that it saw come on top.")
    return [*sentences, *result.notes]


def markdown(
    result: BenchmarkResult,
    *,
    heading: str | None = None,
    keys: Sequence[str] | None = None,
    chosen: str | None = None,
    target: Target | None = None,
) -> str:
    """The result as Markdown: a heading, the headline, the table and the notes."""
    lines = [
        heading or f"# {result.kind.capitalize()} of the pair {result.pair}",
        "",
        f"{headline(result, chosen, target)}.",
        "",
        table(result, keys, chosen=chosen).markdown(),
        "",
        *(f"- {note}" for note in notes(result)),
    ]
    return "\n".join(lines) + "\n"


def shown_gap(result: BenchmarkResult, arm: str) -> Score | None:
    """The share of the gap to lead with: the plain one at 1,000 subjects or more, else the extrapolated one.

    None where there is no gap, or too few subjects to extrapolate.
    """
    if result.n < ENOUGH_IMAGES and result.score("frechet_extrapolated", arm) is not None:
        return result.score("gap_closed_extrapolated", arm)
    return result.score("gap_closed", arm)


def saving_text(share: float) -> str:
    """``87.0 % less`` or, where it is negative, ``12.0 % more``."""
    return f"{share * 100:.1f} % less" if share >= 0 else f"{-share * 100:.1f} % more"


def _other_columns(result: BenchmarkResult) -> dict[str, _Column]:
    """Columns of the metrics that have none of their own, by metric."""
    known = {column.metric for column in _COLUMNS.values()} | _NO_COLUMN
    others = {score.metric: score for score in result.scores if score.metric not in known}
    return {metric: _Column(row_label(score), metric, value_text) for metric, score in others.items()}


def _cell(result: BenchmarkResult, name: str, column: _Column, key: str) -> str:
    if not column.metric:
        fact = result.heads.get(result.arms[name].head or "", {}).get(key)
        return _NONE if fact is None else f"{fact:,}"
    score = result.score(column.metric, name)
    return _NONE if score is None else column.text(score)


def _gap_sentence(result: BenchmarkResult) -> str:
    def distances(suffix: str) -> str:
        before, after, floor = (result.value(f"frechet{suffix}", arm) for arm in (DISTILLED, ENHANCED, FLOOR))
        return f"{before:.3g} before, {after:.3g} after, noise floor {floor:.3g}"

    gaps = [shown_gap(result, arm) for arm in CONTROLS]
    unsharp, colour = ("" if gap is None else percent(gap.value) for gap in gaps)
    controls = (
        f"; an unsharp mask made as sharp as the baseline closes {unsharp}, one colour matrix for all images {colour}"
        if unsharp and colour
        else ""
    )
    gap, plain = shown_gap(result, ENHANCED), distances("")
    if result.n < ENOUGH_IMAGES and result.score("frechet_extrapolated", ENHANCED) is not None:
        closed = (
            f"{result.n:,} subjects are too few to tell the share of the gap"
            if gap is None
            else f"The head closes {share_text(gap)} of the gap"
        )
        return (
            f"{closed}, extrapolated to endless subjects (Fréchet distance {distances('_extrapolated')}; measured at "
            f"{result.n:,} subjects: {plain}){controls}."
        )
    if gap is None:
        return f"There is no measurable gap to close (measured Fréchet distance {plain})."
    return f"The head closes {share_text(gap)} of the gap; measured Fréchet distance {plain}{controls}."
