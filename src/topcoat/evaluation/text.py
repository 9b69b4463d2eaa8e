"""An evaluation in words and Markdown tables, which are readable as plain text too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from topcoat.evaluation.gap import GapClosed, Interval
from topcoat.evaluation.record import Evaluation, SetScores

if TYPE_CHECKING:
    from topcoat.evaluation.groups import Groups

_SETS = (("distilled", "distilled (do nothing)"), ("enhanced", "enhanced"), ("floor", "baseline, other seeds"))


def describe_gap(gap: GapClosed) -> str:
    """The share of the gap closed as a sentence."""
    if gap.value is None or gap.low is None or gap.high is None:
        return "No gap can be measured: the distilled images are as near to the baseline as it is to itself."
    value, low, high = (f"{share * 100:.0f} %" for share in (gap.value, gap.low, gap.high))
    return f"Share of the gap closed: {value} (95 % interval {low} to {high})."


def summary(evaluation: Evaluation) -> str:
    """One paragraph that a person can read."""
    found = evaluation
    parts = [
        f"{found.n:,} enhanced images against {found.n_reference:,} reference images "
        f"(feature net {found.features.net}, {found.features.dimensions} dimensions): "
        f"measured Fréchet distance {found.enhanced.frechet:.3f}"
    ]
    if found.distilled is not None:
        parts.append(f", do-nothing score {found.distilled.frechet:.3f}")
    if found.floor is not None:
        parts.append(f", floor {found.floor.frechet:.3f}")
    parts.append(".")
    if found.gap_closed is not None:
        parts.append(f" {describe_gap(found.gap_closed)}")
    if found.identity is not None:
        parts.append(f" Identity kept: mean {found.identity.mean:.3f}, 5th percentile {found.identity.p05:.3f}.")
    test = found.enhanced.two_sample
    if test is not None:
        parts.append(
            f" A fresh classifier tells enhanced from baseline with {test.accuracy * 100:.0f} % accuracy (chance 50 %)."
        )
    parts += [f" Flagged: {flag.name} ({flag.sentence})." for flag in found.flags]
    return "".join(parts) + "".join(f" Note: {note}." for note in found.notes)


def markdown(evaluation: Evaluation) -> str:
    """All figures: summary, tables, groups, flags and notes."""
    found = evaluation
    features = found.features
    parts = [
        "# Evaluation",
        summary(found),
        f"## Distance to the baseline\nFeature net {features.net} (weights {features.digest}, {features.dimensions} "
        f"dimensions), {found.n_reference:,} reference images.",
        _distances(found),
    ]
    sets = _given(found)
    if any(scores.paired for _, scores in sets):
        parts += ["## Image against image of the same subject\nMeans, with 95 % intervals in brackets.", _paired(sets)]
    parts += [block for block in (_tests(sets), _identity(found), _artefacts(found), _skin(found)) if block]
    if found.groups is not None:
        parts += ["## Groups", _groups(found.groups)]
    if found.flags:
        parts += ["## Flags", "\n".join(f"- **{flag.name}**: {flag.sentence}" for flag in found.flags)]
    if found.notes:
        parts += ["## Notes", "\n".join(f"- {note}" for note in found.notes)]
    return "\n\n".join(parts) + "\n"


def table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns: the first to the left, the others to the right."""
    widths = [max(len(line[index]) for line in [columns, *lines]) for index in range(len(columns))]

    def row(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = [("-" * (width - 1) + ":") if index else "-" * width for index, width in enumerate(widths)]
    return "\n".join([row(columns), f"| {' | '.join(rule)} |", *(row(line) for line in lines)])


def _given(found: Evaluation) -> list[tuple[str, SetScores]]:
    sets = [(label, getattr(found, name)) for name, label in _SETS]
    return [(label, scores) for label, scores in sets if scores is not None]


def _distances(found: Evaluation) -> str:
    columns = ("images", "N", "Fréchet", "FD-inf", "KID", "CMMD", "precision", "recall", "density", "coverage")
    return table(
        columns,
        [
            (
                label,
                f"{scores.n:,}",
                *(
                    _number(value)
                    for value in (
                        scores.frechet,
                        scores.frechet_infinity,
                        scores.kernel,
                        scores.cmmd,
                        scores.precision,
                        scores.recall,
                        scores.density,
                        scores.coverage,
                    )
                ),
            )
            for label, scores in _given(found)
        ],
    )


def _paired(sets: Sequence[tuple[str, SetScores]]) -> str:
    scales = next(scores.paired.ms_ssim_scales for _, scores in sets if scores.paired)
    ms_ssim = "MS-SSIM" if scales == 5 else f"MS-SSIM ({scales} scales)"
    columns = ("images", "N", "perceptual", "PSNR dB", "SSIM", ms_ssim, "gradients", "spectrum dB")
    return table(
        columns,
        [
            (
                label,
                f"{paired.n:,}",
                *(
                    _interval(value)
                    for value in (
                        paired.perceptual,
                        paired.psnr,
                        paired.ssim,
                        paired.ms_ssim,
                        paired.gradient_agreement,
                        paired.spectrum_db,
                    )
                ),
            )
            for label, scores in sets
            if (paired := scores.paired) is not None
        ],
    )


def _tests(sets: Sequence[tuple[str, SetScores]]) -> str:
    lines = [
        (
            label,
            f"{test.n:,}",
            f"{test.accuracy * 100:.1f} % ({test.accuracy_low * 100:.1f} to {test.accuracy_high * 100:.1f})",
            f"{test.auc:.3f}",
        )
        for label, scores in sets
        if (test := scores.two_sample) is not None
    ]
    if not lines:
        return ""
    text = table(("images", "N", "accuracy", "AUC"), lines)
    return (
        f"## Can a fresh classifier tell them from the baseline?\n50 % accuracy and an AUC of 0.5 are chance.\n\n{text}"
    )


def _identity(found: Evaluation) -> str:
    if found.identity is None:
        return ""
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
    return "## Identity\n" + "\n".join(lines)


def _artefacts(found: Evaluation) -> str:
    seen = found.artefacts
    if seen is None:
        return ""
    shift, spread = (" ".join(f"{part:+.2f}" for part in parts) for parts in (seen.colour.shift, seen.colour.spread))
    lines = [
        (
            "checkerboard",
            f"{seen.checkerboard_db:.2f} dB ({seen.checkerboard_period_px} px, {seen.checkerboard_levels:.2f} levels)",
            "0 dB, under 0.5 levels",
        ),
        ("tile seams", f"{seen.seams:.2f}", "1"),
        ("images with a blob", f"{seen.blobs * 100:.1f} %", "1 % or less"),
        ("overshoot at edges", f"{seen.halos:.4f}", f"{seen.halos_baseline:.4f} (baseline)"),
        (
            "high frequencies",
            f"{seen.high_frequency_db:+.2f} dB",
            f"0 dB; distilled {seen.high_frequency_db_do_nothing:+.2f}",
        ),
        ("colour difference", f"{seen.colour.difference:.2f}", f"distilled {seen.colour.difference_do_nothing:.2f}"),
        ("L* a* b* shift", shift, "0"),
        ("L* a* b* spread", spread, ""),
    ]
    jpeg = found.jpeg
    if jpeg is not None and jpeg.gain is not None and jpeg.gain_after is not None:
        lines.append(
            (f"gain after JPEG {jpeg.quality}", f"{jpeg.gain_after * 100:.0f} %", f"{jpeg.gain * 100:.0f} % before")
        )
    return f"## Artefacts\n{seen.n:,} subjects.\n\n" + table(("measure", "enhanced", "beside"), lines)


def _skin(found: Evaluation) -> str:
    skin = found.skin
    if skin is None:
        return ""
    text = (
        f"## Skin tone\n{skin.n:,} images with skin. Distilled to enhanced: {_interval(skin.ita_shift)} ITA degrees, "
        f"CIEDE2000 {_interval(skin.difference)}."
    )
    if skin.ita_to_baseline is not None and skin.ita_to_baseline_do_nothing is not None:
        text += (
            f" Against the baseline: {_interval(skin.ita_to_baseline)} ITA degrees, distilled "
            f"{_interval(skin.ita_to_baseline_do_nothing)}."
        )
    return text


def _groups(groups: Groups) -> str:
    parts = [groups.statement()]
    if groups.findings:
        parts.append("\n".join(f"- {finding.sentence()}" for finding in groups.findings))
    lines = [
        (
            f"{score.attribute} = {score.group}",
            score.score,
            f"{score.n:,}",
            _interval(Interval(score.mean, score.low, score.high)),
            "-" if score.p_value is None else f"{score.p_value:.2g}",
        )
        for score in groups.scores
    ]
    if lines:
        parts.append(table(("group", "score", "N", "mean", "corrected p"), lines))
    gaps = [
        (
            f"{gap.attribute} = {gap.group}",
            f"{gap.n:,}",
            "-"
            if gap.value is None or gap.low is None or gap.high is None
            else f"{gap.value * 100:.0f} % ({gap.low * 100:.0f} to {gap.high * 100:.0f})",
        )
        for gap in groups.gaps
    ]
    if gaps:
        parts.append(table(("group", "N", "share of the gap closed"), gaps))
    return "\n\n".join(parts)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _interval(value: Interval | None) -> str:
    return "-" if value is None else f"{value.value:.4g} ({value.low:.4g} to {value.high:.4g})"
