"""Identity: is the person in two images the same? Cosine of L2-normalised identity vectors, per image.

What a cosine means depends on the feature net, so thresholds are calibrated on it: on matched pairs (distilled and
baseline at the same seed) and mismatched pairs (of different subjects).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from topcoat.errors import UsageError
from topcoat.metrics.base import Better, Flag, Metric, PerImage, Score, score_of
from topcoat.metrics.context import Context
from topcoat.metrics.embed import Batch

CALIBRATION_PAIRS = 20
"""Fewer same-subject pairs give no threshold."""
ERROR_RATE = 0.05
"""Share of different subjects above the threshold of "same", and of same subjects below that of "different"."""
SAME_PERSON_SHARE = 0.8
"""Fewer images that are surely of the same person are flagged."""


@dataclass(frozen=True, slots=True)
class IdentityThresholds:
    """Cosines that part one person from another, calibrated on pairs of known identity."""

    same: float
    """At or above: the same person; 5 % of different subjects reach it."""
    different: float
    """Below: another person; 5 % of the same subjects fall below it."""
    equal_error: float
    """The cosine at which as large a share of different subjects is taken for one person as of one person for two."""
    equal_error_rate: float
    """That share: 0 where the net parts all pairs, 0.5 where it is blind."""
    pairs: int

    def shares(self, cosines: Tensor) -> tuple[float, float, float]:
        """Shares of ``(N,)`` cosines that say the same person, unsure and another person; they sum to 1."""
        same = float((cosines >= self.same).double().mean())
        different = float((cosines < self.different).double().mean())
        return same, max(0.0, 1 - same - different), different


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """``(N,)`` float64 cosines in [-1, 1] of the rows of two ``(N, D)`` tensors of identity vectors."""
    if a.shape != b.shape or a.ndim != 2:
        raise UsageError(f"identity vectors must have one shape (N, D), not {tuple(a.shape)} and {tuple(b.shape)}")
    if len(a) == 0:
        raise UsageError("identity needs 1 or more images on each side; none were given")
    a, b = (functional.normalize(part.detach().to("cpu", torch.float64), dim=1) for part in (a, b))
    return (a * b).sum(dim=1).clamp(-1, 1)


def different_subjects(distilled: Tensor, baseline: Tensor) -> Tensor:
    """``(N,)`` cosines of subject i (distilled) with subject i + 1 (baseline), the last with the first."""
    if len(baseline) < 2:
        raise UsageError(f"different subjects can only be compared among 2 or more, not {len(baseline)}")
    return cosine(distilled, baseline.roll(-1, dims=0))


def identity_thresholds(same: Tensor, different: Tensor) -> IdentityThresholds:
    """Thresholds from the cosines ``(N,)`` of pairs that are one subject and ``(M,)`` of pairs that are not.

    Raises `UsageError` for fewer than 20 of either.
    """
    if min(len(same), len(different)) < CALIBRATION_PAIRS:
        counts = f"{len(same)} and {len(different)}"
        raise UsageError(f"identity thresholds need {CALIBRATION_PAIRS} or more pairs of each kind, not {counts}")
    same, different = (part.detach().to("cpu", torch.float64).sort().values for part in (same, different))
    candidates = torch.cat([same, different]).unique()
    missed = torch.searchsorted(same, candidates) / len(same)  # the same subject below the threshold
    taken = 1 - torch.searchsorted(different, candidates) / len(different)  # different subjects at or above it
    best = int((missed - taken).abs().argmin())
    accept, reject = different.quantile(1 - ERROR_RATE), same.quantile(ERROR_RATE)
    # Where the net parts the two kinds so well that the limits cross, there is no doubt between them.
    if accept < reject:
        accept = reject = (accept + reject) / 2
    return IdentityThresholds(
        same=float(accept),
        different=float(reject),
        equal_error=float(candidates[best]),
        equal_error_rate=float((missed[best] + taken[best]) / 2),
        pairs=len(same),
    )


class IdentityMetric(Metric):
    """Cosines to the distilled image of the same subject; those of the baseline are matched pairs, for comparison."""

    name, family, label, better = "identity", "identity", "identity", "high"
    needs = frozenset({"distilled"})
    always = in_features = True

    def compute(self) -> list[Score]:
        context = self.context
        x = context.embeddings("distilled").identity
        arms = [arm for arm in ("enhanced", "gated") if arm in context.arms]
        scores: list[Score] = []
        for arm in [*arms, *(["reference"] if context.paired else [])]:
            cosines = cosine(x, context.embeddings(arm).identity)
            mean, p05 = float(cosines.mean()), float(cosines.quantile(0.05))
            scores += [
                self.score(arm, mean, len(x), "identity_mean", "identity, mean"),
                self.score(arm, p05, len(x), "identity_p05", "identity, 5th percentile"),
            ]
        if context.paired:
            others = different_subjects(x, context.embeddings("reference").identity)
            for name, how, value in (
                ("mean", "mean", others.mean()),
                ("p95", "95th percentile", others.quantile(0.95)),
            ):
                metric, label = f"identity_mismatched_{name}", f"mismatched pairs, {how}"
                scores.append(self.score("reference", float(value), len(x), metric, label, better=None))
        return scores

    def per_image(self) -> list[PerImage]:
        x, z = (self.context.embeddings(arm).identity for arm in ("distilled", "enhanced"))
        return [PerImage("identity", cosine(x, z), "high")]


class IdentityThresholdMetric(Metric):
    """Thresholds of this net for the same and another person, and the shares of enhanced images by them."""

    name, family = "identity_thresholds", "identity"
    needs = frozenset({"distilled", "pairs"})
    in_features = True

    def compute(self) -> list[Score]:
        x, z, y = (self.context.embeddings(arm).identity for arm in ("distilled", "enhanced", "reference"))
        limits = identity_thresholds(cosine(x, y), different_subjects(x, y))
        same, unsure, different = limits.shares(cosine(x, z))
        rows: tuple[tuple[str, str, str, float, str, Better | None], ...] = (
            ("distilled", "same_threshold", "threshold of the same person", limits.same, "", None),
            ("distilled", "different_threshold", "threshold of another person", limits.different, "", None),
            ("distilled", "equal_error", "threshold of equal error", limits.equal_error, "", None),
            ("distilled", "equal_error_rate", "equal error rate", limits.equal_error_rate, "share", "low"),
            ("enhanced", "same_share", "surely the same person", same, "share", "high"),
            ("enhanced", "unsure_share", "unsure", unsure, "share", None),
            ("enhanced", "different_share", "surely another person", different, "share", "low"),
        )
        return [
            self.score(arm, value, len(x), f"identity_{name}", label, unit=unit, better=better)
            for arm, name, label, value, unit, better in rows
        ]

    def flags(self, scores: Sequence[Score]) -> list[Flag]:
        same = score_of(scores, "identity_same_share")
        if same is None or same.value >= SAME_PERSON_SHARE:
            return []
        share = f"{same.value * 100:.0f} %"
        return [Flag("wrong identity", f"only {share} of the images are surely of the person they were")]


class GatesMetric(Metric):
    """Shares of the gated images; the three sum to 1. A gate leaves an image as it is or mixes two, so they show."""

    name, family, unit = "gates", "gates", "share"
    needs = frozenset({"distilled", "gated", "pairs"})
    always = True

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._counts = {"enhanced": 0, "weakened": 0, "distilled": 0}

    def update(self, batch: Batch) -> None:
        if not {"distilled", "enhanced", "gated"} <= set(batch):
            return
        distilled, enhanced, gated = (batch[arm].images for arm in ("distilled", "enhanced", "gated"))
        if not len(distilled) == len(enhanced) == len(gated):
            return
        full, none = ((gated == other).flatten(1).all(dim=1) for other in (enhanced, distilled))
        self._counts["enhanced"] += int(full.sum())
        self._counts["distilled"] += int((none & ~full).sum())
        self._counts["weakened"] += int((~none & ~full).sum())

    def compute(self) -> list[Score]:
        n = self.context.count("gated")
        labels = {
            "enhanced": "as the head made them",
            "weakened": "with less of the head",
            "distilled": "left distilled",
        }
        return [
            self.score("gated", count / n, n, f"{name}_share", labels[name]) for name, count in self._counts.items()
        ]
