"""The result of a proof: typed, as ``report.json`` holds it, and as a paragraph."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from topcoat.cost import BASELINE_STEPS_BESIDE, count_steps
from topcoat.metrics.evaluate import ENOUGH_IMAGES
from topcoat.metrics.identity import Identity, IdentityPairs
from topcoat.metrics.record import FeatureRecord

CONTROLS = ("unsharp", "colour")
"""What stands beside the head: an unsharp mask, and one colour matrix for all images."""


@dataclass(frozen=True, slots=True)
class Steps:
    """Denoising steps of both models."""

    distilled: int
    baseline: int


@dataclass(frozen=True, slots=True)
class Distances:
    """Fréchet distances to the baseline."""

    distilled: float
    """The do-nothing score."""
    enhanced: float
    unsharp: float
    """A control: an unsharp mask of the distilled images, as sharp as the baseline."""
    colour: float
    """A control: one affine map of colour for all distilled images, as near to the baseline as there is one."""
    baseline_floor: float
    """The baseline at other seeds."""


@dataclass(frozen=True, slots=True)
class Share:
    """Share of the gap closed with its 95 % bootstrap interval; None where there is no gap to close."""

    value: float | None
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.value is None or self.low is None or self.high is None:
            return "not measurable"
        return f"{percent(self.value)} (95 % interval {percent(self.low)} to {percent(self.high)})"


@dataclass(frozen=True, slots=True)
class ExtrapolatedGap:
    """The gap at endlessly many subjects: `topcoat.metrics.extrapolated_gap`."""

    share: Share
    distilled: float
    """Fréchet distances to the baseline."""
    enhanced: float
    baseline_floor: float


@dataclass(frozen=True, slots=True)
class PerImage:
    """One figure per image: distilled without head, head alone, baseline at its default steps, distilled + head.

    The last is not the sum of the first two where a head decodes latents: then nothing else decodes.
    """

    distilled: float
    head: float
    baseline: float
    enhanced: float


@dataclass(frozen=True, slots=True)
class Saving:
    """Share saved by distilled + head, whole pipeline against whole pipeline; negative where it costs more."""

    tflop: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Proof:
    """What `prove` found; the fields are the keys of ``report.json``."""

    pair: str
    n: int
    steps: Steps
    frechet: Distances
    gap_closed: Share
    gap_extrapolated: ExtrapolatedGap | None
    """What to go by where there are too few subjects for `gap_closed`."""
    identity: Identity
    identity_pairs: IdentityPairs
    seconds_per_image: PerImage
    """Measured medians."""
    tflop_per_image: PerImage
    """Computed."""
    saving: Saving
    saving_at_28_steps: Saving
    hardware: dict[str, Any]
    features: FeatureRecord
    versions: dict[str, str]
    settings: dict[str, Any]
    """What is needed to repeat it, and figures beside the main ones (spreads, intervals, the control's settings)."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dataclasses.asdict(self)

    @property
    def shown_gap(self) -> Share:
        """The share to lead with: the plain one at 1,000 subjects or more, else the extrapolated one."""
        if self.n >= ENOUGH_IMAGES or self.gap_extrapolated is None:
            return self.gap_closed
        return self.gap_extrapolated.share

    def shown_share_of(self, control: str) -> float | None:
        """The share that one of `CONTROLS` closes, extrapolated where `shown_gap` is; None where it is unknown."""
        plain = self.shown_gap is self.gap_closed
        by = self.settings[f"gap_closed_by_{control}"] if plain else self.settings["gap_extrapolated_by"][control]
        return by["value"]

    @property
    def headline(self) -> str:
        """One line: what was bought, at which price."""
        gap = self.shown_gap.value
        unknown = "Too few subjects to tell the gap" if self.n < ENOUGH_IMAGES else "No measurable gap to close"
        bought = unknown if gap is None else f"{percent(gap)} of the gap closed"
        cost = f"{saving_words(self.saving.tflop)} compute: {count_steps(self.steps.distilled)} + head"
        return f"{bought} for {cost} against {count_steps(self.steps.baseline)}"

    def summary(self) -> str:
        """A paragraph that a person can read."""
        size = f"{self.settings['width_px']}x{self.settings['height_px']}"
        seconds = self.seconds_per_image
        parts = [
            f"Pair {self.pair}, {self.n:,} subjects, {size}: distilled ({count_steps(self.steps.distilled)}) + head "
            f"against the baseline ({count_steps(self.steps.baseline)}).",
            _gap_sentence(self),
            f"Identity from the head's input to its output, measured: mean {self.identity.mean:.3f}, 5th percentile "
            f"{self.identity.p05:.3f} (the same subject in both models {self.identity_pairs.same_mean:.3f}, different "
            f"subjects {self.identity_pairs.different_mean:.3f}).",
            f"An image takes {seconds.enhanced:.3f} s (head {seconds.head:.4f} s) instead of "
            f"{seconds.baseline:.3f} s, measured in batches of {self.settings['batch_size']}.",
            _saving_sentence(self.saving, self.steps.distilled, self.steps.baseline, size),
            _saving_sentence(self.saving_at_28_steps, self.steps.distilled, BASELINE_STEPS_BESIDE, size),
        ]
        if self.n < ENOUGH_IMAGES:
            parts.append(f"Set distances of {self.n} images are rough: use {ENOUGH_IMAGES:,} or more to quote one.")
        return " ".join(parts)


def percent(share: float) -> str:
    """``0.63`` as ``63 %``."""
    return f"{share * 100:.0f} %"


def saving_words(share: float) -> str:
    """``87 % less`` or, where it is negative, ``12 % more``."""
    return f"{share * 100:.1f} % less" if share >= 0 else f"{-share * 100:.1f} % more"


def _gap_sentence(proof: Proof) -> str:
    found = proof.frechet
    endless = proof.gap_extrapolated
    unsharp, colour = (proof.shown_share_of(name) for name in CONTROLS)
    controls = (
        ""
        if unsharp is None or colour is None
        else f"; an unsharp mask made as sharp as the baseline closes {percent(unsharp)}, one colour matrix for all "
        f"images {percent(colour)}"
    )
    if proof.n < ENOUGH_IMAGES and endless is not None:
        found_share = (
            f"{proof.n:,} subjects are too few to tell the share of the gap"
            if endless.share.value is None
            else f"The head closes {endless.share} of the gap"
        )
        return (
            f"{found_share}, extrapolated to endless subjects (Fréchet distance "
            f"{endless.distilled:.3g} before, {endless.enhanced:.3g} after, floor {endless.baseline_floor:.3g}; "
            f"measured at {proof.n:,} subjects: {found.distilled:.3g}, {found.enhanced:.3g} and "
            f"{found.baseline_floor:.3g}){controls}."
        )
    distances = (
        f"measured Fréchet distance {found.distilled:.3g} before, {found.enhanced:.3g} after, floor "
        f"{found.baseline_floor:.3g}"
    )
    if proof.gap_closed.value is None:
        return f"There is no measurable gap to close ({distances})."
    return f"The head closes {proof.gap_closed} of the gap; {distances}{controls}."


def _saving_sentence(saving: Saving, distilled_steps: int, baseline_steps: int, size: str) -> str:
    return (
        f"{count_steps(distilled_steps)} + head against {count_steps(baseline_steps)}, whole pipeline at {size}: "
        f"{saving_words(saving.tflop)} TFLOP (computed), {saving_words(saving.seconds)} time (measured)."
    )
