"""Every figure of an evaluation as one row, with its interval, N, feature net and weights digest."""

from __future__ import annotations

from dataclasses import dataclass

from topcoat.metrics.base import Interval
from topcoat.metrics.gap import GapClosed
from topcoat.metrics.identity import Identity
from topcoat.metrics.record import Evaluation, PairedScores, SetScores


@dataclass(frozen=True, slots=True)
class Row:
    """One figure; ``net`` and ``digest`` are None where it comes from pixels alone."""

    metric: str
    images: str
    """Which set: ``distilled`` is the do-nothing score, ``gated`` what gates let through, ``floor`` the baseline at
    other seeds."""
    value: float
    low: float | None
    high: float | None
    """95 % interval, where there is one."""
    n: int
    net: str | None
    digest: str | None


def rows(evaluation: Evaluation) -> list[Row]:
    """All rows, set by set."""
    found = _Rows(evaluation)
    for name in ("distilled", "enhanced", "gated", "floor"):
        scores: SetScores | None = getattr(evaluation, name)
        if scores is not None:
            found.scores(name, scores)
    found.whole()
    return found.rows


class _Rows:
    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation
        self.rows: list[Row] = []

    def add(self, metric: str, images: str, value: float | Interval | None, n: int, *, net: bool) -> None:
        if value is None:
            return
        features = self._evaluation.features
        low, high = (value.low, value.high) if isinstance(value, Interval) else (None, None)
        number = value.value if isinstance(value, Interval) else value
        named = (features.net, features.digest) if net else (None, None)
        self.rows.append(Row(metric, images, number, low, high, n, *named))

    def scores(self, name: str, scores: SetScores) -> None:
        for metric in (
            "frechet",
            "frechet_infinity",
            "kernel",
            "cmmd",
            "precision",
            "recall",
            "density",
            "coverage",
        ):
            self.add(metric, name, getattr(scores, metric), scores.n, net=True)
        self.add("gradient_energy", name, scores.gradient_energy, scores.n, net=False)
        self.quality(name, scores.quality, scores.n)
        if scores.paired is not None:
            self.paired(name, scores.paired)
        elif scores.psnr is not None:
            self.add("psnr", name, scores.psnr, scores.n, net=False)
        test = scores.two_sample
        if test is not None:
            accuracy = Interval(test.accuracy, test.accuracy_low, test.accuracy_high)
            self.add("two_sample_accuracy", name, accuracy, test.n, net=False)
            self.add("two_sample_auc", name, test.auc, test.n, net=False)

    def paired(self, name: str, paired: PairedScores) -> None:
        self.add("perceptual", name, paired.perceptual, paired.n, net=True)
        for metric in ("psnr", "ssim", "ms_ssim", "gradient_agreement", "spectrum_db"):
            self.add(metric, name, getattr(paired, metric), paired.n, net=False)

    def quality(self, name: str, value: Interval | None, n: int) -> None:
        """A row of the net that judges quality, not of the feature net."""
        if value is not None:
            digest = self._evaluation.settings["quality_digest"]
            self.rows.append(Row("quality", name, value.value, value.low, value.high, n, "quality", digest))

    def gap_and_identity(self, name: str, gap: GapClosed | None, identity: Identity | None) -> None:
        n = self._evaluation.n
        if gap is not None and gap.value is not None and gap.low is not None and gap.high is not None:
            self.add("gap_closed", name, Interval(gap.value, gap.low, gap.high), n, net=True)
        if identity is not None:
            self.add("identity_mean", name, identity.mean, n, net=True)
            self.add("identity_p05", name, identity.p05, n, net=True)

    def whole(self) -> None:
        found = self._evaluation
        n = found.n
        self.quality("reference", found.reference_quality, found.n_reference)
        self.gap_and_identity("enhanced", found.gap_closed, found.identity)
        if found.gates is not None:
            self.gap_and_identity("gated", found.gates.gap_closed, found.gates.identity)
            for share in ("enhanced", "weakened", "distilled"):
                self.add(f"{share}_share", "gated", getattr(found.gates, share), n, net=False)
        if found.identity_verdict is not None:
            self.add("identity_same_share", "enhanced", found.identity_verdict.same, n, net=True)
        if found.artefacts is not None:
            seen = found.artefacts
            for metric in (
                "changed",
                "checkerboard_db",
                "checkerboard_levels",
                "grid_db",
                "seams",
                "blobs",
                "halos",
                "high_frequency_db",
                "foreign_db",
            ):
                self.add(metric, "enhanced", getattr(seen, metric), seen.n, net=False)
            self.add("high_frequency_db", "distilled", seen.high_frequency_db_do_nothing, seen.n, net=False)
            self.add("colour_difference", "enhanced", seen.colour.difference, seen.n, net=False)
            self.add("colour_difference", "distilled", seen.colour.difference_do_nothing, seen.n, net=False)
        if found.jpeg is not None:
            self.add("gain", "enhanced", found.jpeg.gain, found.jpeg.n, net=True)
            self.add("gain_after_jpeg", "enhanced", found.jpeg.gain_after, found.jpeg.n, net=True)
        if found.skin is not None:
            self.add("ita_shift", "enhanced", found.skin.ita_shift, found.skin.n, net=False)
            self.add("skin_difference", "enhanced", found.skin.difference, found.skin.n, net=False)
            others = found.skin.n_to_baseline
            self.add("ita_to_baseline", "enhanced", found.skin.ita_to_baseline, others, net=False)
            self.add("ita_to_baseline", "distilled", found.skin.ita_to_baseline_do_nothing, others, net=False)
