"""An evaluation as sections of sentences and tables: what `report.md` and `report.html` both show."""

from __future__ import annotations

from dataclasses import dataclass

from topcoat.metrics.base import Interval
from topcoat.metrics.gap import GapClosed
from topcoat.metrics.groups import Groups
from topcoat.metrics.record import Evaluation, SetScores

SETS = (
    ("distilled", "distilled (do nothing)"),
    ("enhanced", "enhanced"),
    ("gated", "enhanced, with gates"),
    ("floor", "baseline, other seeds"),
)
"""The sets that are compared with the baseline, and what they are called."""


@dataclass(frozen=True, slots=True)
class Section:
    """A title, sentences (a line each) and a table, of which the first column is text."""

    title: str
    lines: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def sections(found: Evaluation) -> list[Section]:
    """All figures; a part that was not measured has no section."""
    parts = [
        _distances(found),
        _paired(found),
        _tests(found),
        _quality(found),
        _identity(found),
        _gates(found),
        _artefacts(found),
        _skin(found),
    ]
    if found.groups is not None:
        parts += [_group_scores(found.groups), _group_gaps(found.groups)]
    return [part for part in parts if part is not None]


def given_sets(found: Evaluation) -> list[tuple[str, str, SetScores]]:
    """Key, name and scores of the sets that were given."""
    sets = [(key, name, getattr(found, key)) for key, name in SETS]
    return [(key, name, scores) for key, name, scores in sets if scores is not None]


def percent(share: float) -> str:
    """``0.63`` as ``63 %``."""
    return f"{share * 100:.0f} %"


def gap_text(gap: GapClosed) -> str:
    """The share of the gap closed with its interval, or a dash."""
    if gap.value is None or gap.low is None or gap.high is None:
        return "-"
    return f"{percent(gap.value)} ({gap.low * 100:.0f} to {gap.high * 100:.0f})"


def _distances(found: Evaluation) -> Section:
    features = found.features
    columns = ("images", "N", "Fréchet", "FD-inf", "KID", "CMMD", "precision", "recall", "density", "coverage")
    names = ("frechet", "frechet_infinity", "kernel", "cmmd", "precision", "recall", "density", "coverage")
    rows = tuple(
        (label, f"{scores.n:,}", *(_number(getattr(scores, name)) for name in names))
        for _, label, scores in given_sets(found)
    )
    line = (
        f"Feature net {features.net} (weights {features.digest}, {features.dimensions} dimensions), "
        f"{found.n_reference:,} reference images."
    )
    return Section("Distance to the baseline", (line,), columns, rows)


def _paired(found: Evaluation) -> Section | None:
    pairs = [(label, scores.paired) for _, label, scores in given_sets(found) if scores.paired is not None]
    if not pairs:
        return None
    scales = pairs[0][1].ms_ssim_scales
    ms_ssim = "MS-SSIM" if scales == 5 else f"MS-SSIM ({scales} scales)"
    columns = ("images", "N", "perceptual", "PSNR dB", "SSIM", ms_ssim, "gradients", "spectrum dB")
    names = ("perceptual", "psnr", "ssim", "ms_ssim", "gradient_agreement", "spectrum_db")
    rows = tuple((label, f"{one.n:,}", *(_interval(getattr(one, name)) for name in names)) for label, one in pairs)
    return Section(
        "Image against image of the same subject", ("Means, with 95 % intervals in brackets.",), columns, rows
    )


def _tests(found: Evaluation) -> Section | None:
    rows = tuple(
        (
            label,
            f"{test.n:,}",
            f"{test.accuracy * 100:.1f} % ({test.accuracy_low * 100:.1f} to {test.accuracy_high * 100:.1f})",
            f"{test.auc:.3f}",
        )
        for _, label, scores in given_sets(found)
        if (test := scores.two_sample) is not None
    )
    if not rows:
        return None
    title = "Can a fresh classifier tell them from the baseline?"
    return Section(title, ("50 % accuracy and an AUC of 0.5 are chance.",), ("images", "N", "accuracy", "AUC"), rows)


def _quality(found: Evaluation) -> Section | None:
    if found.reference_quality is None:
        return None
    sets = [(label, scores.n, scores.quality) for _, label, scores in given_sets(found)]
    sets.append(("baseline", found.n_reference, found.reference_quality))
    rows = tuple((label, f"{n:,}", _interval(value)) for label, n, value in sets)
    line = f"CLIP-IQA, 0 to 1, higher is better (net {found.settings['quality_digest']})."
    return Section("Quality without a reference", (line,), ("images", "N", "mean"), rows)


def _identity(found: Evaluation) -> Section | None:
    if found.identity is None:
        return None
    lines = [f"Distilled to enhanced: mean {found.identity.mean:.4f}, 5th percentile {found.identity.p05:.4f}."]
    pairs = found.identity_pairs
    if pairs is not None:
        lines.append(
            f"Same subject in both models: mean {pairs.same_mean:.4f}; different subjects: mean "
            f"{pairs.different_mean:.4f}, 95th percentile {pairs.different_p95:.4f}."
        )
    limits, verdict = found.identity_thresholds, found.identity_verdict
    if limits is not None and verdict is not None:
        lines.append(
            f"Calibrated on {limits.pairs:,} pairs of each kind, equal error {limits.equal_error_rate * 100:.1f} %: "
            f"same person from {limits.same:.3f} ({verdict.same * 100:.1f} % of the images), another below "
            f"{limits.different:.3f} ({verdict.different * 100:.1f} %)."
        )
    return Section("Identity", tuple(lines))


def _gates(found: Evaluation) -> Section | None:
    gates, scores, kept = found.gates, found.gated, found.identity
    if gates is None or scores is None or kept is None:
        return None
    rows = [
        ("Fréchet distance", f"{found.enhanced.frechet:.4g}", f"{scores.frechet:.4g}"),
        ("identity, mean", f"{kept.mean:.4f}", f"{gates.identity.mean:.4f}"),
        ("identity, 5th percentile", f"{kept.p05:.4f}", f"{gates.identity.p05:.4f}"),
    ]
    if found.gap_closed is not None and gates.gap_closed is not None:
        rows.insert(1, ("share of the gap closed", gap_text(found.gap_closed), gap_text(gates.gap_closed)))
    line = (
        f"Of {scores.n:,} images {gates.enhanced * 100:.1f} % stayed as the head made them, "
        f"{gates.weakened * 100:.1f} % were made with less of it, and {gates.distilled * 100:.1f} % were left "
        "distilled."
    )
    return Section("With and without gates", (line,), ("measure", "without gates", "with gates"), tuple(rows))


def _artefacts(found: Evaluation) -> Section | None:
    seen = found.artefacts
    if seen is None:
        return None
    shift, spread = (" ".join(f"{part:+.2f}" for part in parts) for parts in (seen.colour.shift, seen.colour.spread))
    rows = [
        (
            "checkerboard",
            f"{seen.checkerboard_db:.2f} dB ({seen.checkerboard_period_px} px, {seen.checkerboard_levels:.2f} levels)",
            "0 dB, under 0.5 levels",
        ),
        ("power at up-sampling frequencies", f"{seen.grid_db:+.1f} dB beside y - x", "0 dB or less"),
        ("tile seams", f"{seen.seams:.2f}", "1"),
        ("images with a blob", f"{seen.blobs * 100:.1f} %", "1 % or less"),
        ("overshoot at edges", f"{seen.halos:.4f}", f"{seen.halos_baseline:.4f} (baseline)"),
        (
            "high frequencies",
            f"{seen.high_frequency_db:+.2f} dB",
            f"0 dB; distilled {seen.high_frequency_db_do_nothing:+.2f}",
        ),
        (
            "foreign detail",
            f"{seen.foreign_db:.1f} dB ({seen.foreign_place}, {seen.foreign_period_px:.1f} px)",
            "0 dB",
        ),
        ("colour difference", f"{seen.colour.difference:.2f}", f"distilled {seen.colour.difference_do_nothing:.2f}"),
        ("L* a* b* shift", shift, "0"),
        ("L* a* b* spread", spread, ""),
    ]
    jpeg = found.jpeg
    if jpeg is not None and jpeg.gain is not None and jpeg.gain_after is not None:
        rows.append((f"gain after JPEG {jpeg.quality}", percent(jpeg.gain_after), f"{percent(jpeg.gain)} before"))
    return Section("Artefacts", (f"{seen.n:,} subjects.",), ("measure", "enhanced", "beside"), tuple(rows))


def _skin(found: Evaluation) -> Section | None:
    skin = found.skin
    if skin is None:
        return None
    line = (
        f"{skin.n:,} images with skin. Distilled to enhanced: {_interval(skin.ita_shift)} ITA degrees, "
        f"CIEDE2000 {_interval(skin.difference)}."
    )
    if skin.ita_to_baseline is not None and skin.ita_to_baseline_do_nothing is not None:
        line += (
            f" Against the baseline: {_interval(skin.ita_to_baseline)} ITA degrees, distilled "
            f"{_interval(skin.ita_to_baseline_do_nothing)}."
        )
    return Section("Skin tone", (line,))


def _group_scores(groups: Groups) -> Section:
    rows = tuple(
        (
            f"{score.attribute} = {score.group}",
            score.score,
            f"{score.n:,}",
            _interval(Interval(score.mean, score.low, score.high)),
            "-" if score.p_value is None else f"{score.p_value:.2g}",
        )
        for score in groups.scores
    )
    lines = (groups.statement(), *(f"{finding.sentence()}." for finding in groups.findings))
    columns = ("group", "score", "N", "mean", "corrected p") if rows else ()
    return Section("Groups", lines, columns, rows)


def _group_gaps(groups: Groups) -> Section | None:
    rows = tuple(
        (
            f"{gap.attribute} = {gap.group}",
            f"{gap.n:,}",
            "-"
            if gap.value is None or gap.low is None or gap.high is None
            else f"{percent(gap.value)} ({gap.low * 100:.0f} to {gap.high * 100:.0f})",
        )
        for gap in groups.gaps
    )
    columns = ("group", "N", "share of the gap closed")
    return Section("Gap closed within groups", (), columns, rows) if rows else None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _interval(value: Interval | None) -> str:
    return "-" if value is None else f"{value.value:.4g} ({value.low:.4g} to {value.high:.4g})"
