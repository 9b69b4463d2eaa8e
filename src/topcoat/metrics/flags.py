"""Which figures say that a head is broken, in words. Each fault is caught by the measure that was made for it."""

from __future__ import annotations

from topcoat.metrics.artefacts import Artefacts
from topcoat.metrics.record import Evaluation, Flag, SetScores

CHECKERBOARD_DB, CHECKERBOARD_LEVELS = 3.0, 0.5
BLUR_DB = 1.0
FOREIGN_DB = 3.0
SEAM_RATIO = 1.5
BLOB_SHARE = 0.05
HALO_RATIO, HALO_LUMA = 1.25, 0.002
COLOUR_DIFFERENCE = 2.0
SAME_PERSON_SHARE = 0.8
DIVERSITY_SHARE = 0.5
JPEG_SHARE = 0.5
SMALLEST_GAIN = 0.05
_HALF_A_LEVEL = 0.5 / 255


def find_flags(evaluation: Evaluation) -> tuple[Flag, ...]:
    """Everything that is wrong with the enhanced images, by the limits at the top of this module."""
    found = _pixels(evaluation.artefacts) + _colour(evaluation) + _person(evaluation) + _sets(evaluation)
    return tuple(Flag(name, sentence) for name, sentence in found)


def _pixels(artefacts: Artefacts | None) -> list[tuple[str, str]]:
    if artefacts is None:
        return []
    if artefacts.changed < _HALF_A_LEVEL:
        return [("identity map", "the enhanced images are the distilled ones: the head does nothing")]
    found: list[tuple[str, str]] = []
    if artefacts.checkerboard_db > CHECKERBOARD_DB and artefacts.checkerboard_levels > CHECKERBOARD_LEVELS:
        strength = (
            f"{artefacts.checkerboard_levels:.1f} levels of 255, {artefacts.checkerboard_db:.1f} dB out of the change"
        )
        found.append(("checkerboard", f"a grid of {artefacts.checkerboard_period_px} px stands about {strength}"))
    if artefacts.high_frequency_db < min(0.0, artefacts.high_frequency_db_do_nothing) - BLUR_DB:
        found.append(
            (
                "blur",
                f"fine detail is {artefacts.high_frequency_db:.1f} dB against the baseline's, less than that of the "
                f"distilled images ({artefacts.high_frequency_db_do_nothing:.1f} dB)",
            )
        )
    if artefacts.foreign_db > FOREIGN_DB:
        where = "inside" if artefacts.foreign_place == "middle" else f"at the {artefacts.foreign_place}"
        found.append(
            (
                "foreign detail",
                f"{where}, at periods of {artefacts.foreign_period_px:.1f} px, the enhanced images have "
                f"{artefacts.foreign_db:.1f} dB more power than the baseline and the distilled ones",
            )
        )
    if artefacts.seams > SEAM_RATIO:
        found.append(
            ("tile seams", f"steps every {artefacts.seam_period_px} px are {artefacts.seams:.1f} times others")
        )
    if artefacts.blobs > BLOB_SHARE and artefacts.n >= 1 / BLOB_SHARE:
        found.append(("blobs", f"{artefacts.blobs * 100:.0f} % of the images have a spot that the baseline lacks"))
    if artefacts.halos > HALO_RATIO * artefacts.halos_baseline + HALO_LUMA:
        times = artefacts.halos / max(artefacts.halos_baseline, 1e-6)
        found.append(("halos", f"edges overshoot {times:.1f} times as far as the baseline's"))
    return found


def _colour(evaluation: Evaluation) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    if evaluation.artefacts is not None:
        colour = evaluation.artefacts.colour
        if colour.difference > colour.difference_do_nothing + COLOUR_DIFFERENCE:
            found.append(
                (
                    "colour shift",
                    f"colours are {colour.difference:.1f} CIEDE2000 off the baseline's, the distilled images' "
                    f"{colour.difference_do_nothing:.1f}",
                )
            )
    paired = evaluation.enhanced.paired
    if paired is not None and paired.gradient_agreement.high < 0:
        found.append(("inverted contrast", f"edges run against the baseline's ({paired.gradient_agreement.value:.2f})"))
    return found


def _person(evaluation: Evaluation) -> list[tuple[str, str]]:
    verdict = evaluation.identity_verdict
    if verdict is None or verdict.same >= SAME_PERSON_SHARE:
        return []
    return [("wrong identity", f"only {verdict.same * 100:.0f} % of the images are surely of the person they were")]


def _sets(evaluation: Evaluation) -> list[tuple[str, str]]:
    enhanced, distilled, found = evaluation.enhanced, evaluation.distilled, list[tuple[str, str]]()
    if distilled is not None:
        if enhanced.frechet > distilled.frechet:
            found.append(
                ("worse than nothing", f"Fréchet {enhanced.frechet:.3g}, the distilled images {distilled.frechet:.3g}")
            )
        lost = _lost(enhanced, distilled)
        if lost:
            found.append(("mode collapse", lost))
    jpeg = evaluation.jpeg
    if jpeg is not None and jpeg.gain is not None and jpeg.gain_after is not None:
        fallen = f"the gain falls from {jpeg.gain * 100:.0f} % to {jpeg.gain_after * 100:.0f} %"
        if jpeg.gain > SMALLEST_GAIN and jpeg.gain_after < JPEG_SHARE * jpeg.gain:
            found.append(("lost in JPEG", f"{fallen} after JPEG of quality {jpeg.quality}"))
    floor = None if evaluation.floor is None else evaluation.floor.two_sample
    if floor is not None and not floor.chance and floor.accuracy > 0.5:
        found.append(
            (
                "floor not at chance",
                f"a classifier tells the baseline from itself at other seeds ({floor.accuracy * 100:.0f} %), so its "
                "other verdicts cannot be trusted",
            )
        )
    return found


def _lost(enhanced: SetScores, distilled: SetScores) -> str:
    for name, ours, before in (
        ("recall", enhanced.recall, distilled.recall),
        ("coverage", enhanced.coverage, distilled.coverage),
    ):
        if ours is not None and before is not None and before > 0.1 and ours < DIVERSITY_SHARE * before:
            return f"{name} of the baseline's variety falls from {before:.2f} to {ours:.2f}"
    return ""
