"""The result of an evaluation: typed, as ``report.json`` holds it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from topcoat.metrics.artefacts import Artefacts
from topcoat.metrics.base import Interval
from topcoat.metrics.c2st import TwoSample
from topcoat.metrics.gap import GapClosed
from topcoat.metrics.groups import Groups
from topcoat.metrics.identity import Identity, IdentityPairs, IdentityThresholds, IdentityVerdict
from topcoat.metrics.jpeg import JpegRobustness


@dataclass(frozen=True, slots=True)
class FeatureRecord:
    """Which feature net the figures come from."""

    net: str
    digest: str
    dimensions: int


@dataclass(frozen=True, slots=True)
class PairedScores:
    """Means over subjects of image against reference of the same subject, each with a 95 % bootstrap interval."""

    n: int
    perceptual: Interval | None
    """None for a net without feature maps."""
    psnr: Interval
    """dB; equal images count as 100."""
    ssim: Interval | None
    """None, as `ms_ssim`, for images under 11 px a side."""
    ms_ssim: Interval | None
    ms_ssim_scales: int
    gradient_agreement: Interval
    spectrum_db: Interval


@dataclass(frozen=True, slots=True)
class SetScores:
    """One set of images against the reference; what was not asked for, or needs more images, is None."""

    n: int
    frechet: float
    kernel: float
    """KID."""
    gradient_energy: float
    psnr: float | None
    """Mean dB to the reference of the same subject; None where the sets are not of one length."""
    frechet_infinity: float | None = None
    cmmd: float | None = None
    precision: float | None = None
    recall: float | None = None
    density: float | None = None
    coverage: float | None = None
    paired: PairedScores | None = None
    two_sample: TwoSample | None = None
    quality: Interval | None = None
    """Mean quality without a reference, 0 to 1, where a net for it was given."""


@dataclass(frozen=True, slots=True)
class Skin:
    """What happened to the tone of skin, over the images in which skin was found."""

    n: int
    ita_shift: Interval
    """Degrees of the individual typology angle, enhanced minus distilled, on the distilled image's skin pixels."""
    difference: Interval
    """CIEDE2000 of the same."""
    ita_to_baseline: Interval | None
    """Degrees, enhanced minus baseline, each on its own skin pixels."""
    ita_to_baseline_do_nothing: Interval | None
    n_to_baseline: int
    """Images in which skin was found in the baseline's version and the enhanced one."""


@dataclass(frozen=True, slots=True)
class Flag:
    """Something that is wrong with the enhanced images."""

    name: str
    sentence: str


@dataclass(frozen=True, slots=True)
class GatesEffect:
    """What gates change, measured on the images that passed them; the three shares sum to 1."""

    gap_closed: GapClosed | None
    """None where it is not measured without gates either."""
    identity: Identity
    enhanced: float
    """Share of the images that are as the head made them."""
    weakened: float
    """Share made with less of the head."""
    distilled: float
    """Share left as they were."""


@dataclass(frozen=True, slots=True)
class Spectra:
    """Mean power of the luma by spatial frequency, in rings of equal width."""

    cycles_per_px: tuple[float, ...]
    """Middles of the rings."""
    power: dict[str, tuple[float, ...]]
    """By set; ``reference`` is the baseline. White noise of variance v has the power v."""


@dataclass(frozen=True, slots=True)
class Example:
    """A subject to look at, chosen by a figure."""

    measure: str
    """``identity`` (cosine of distilled and enhanced) or what the distance to the baseline is measured by."""
    place: str
    """``best``, ``median`` or ``worst``."""
    index: int
    """Position in the streams, from 0."""
    value: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of `evaluate`; parts that need images which were not given, or metrics not asked for, are None."""

    n: int
    n_reference: int
    features: FeatureRecord
    enhanced: SetScores
    distilled: SetScores | None
    """The do-nothing score."""
    floor: SetScores | None
    """The baseline at other seeds."""
    reference_gradient_energy: float
    gap_closed: GapClosed | None
    identity: Identity | None
    identity_pairs: IdentityPairs | None
    notes: tuple[str, ...]
    identity_thresholds: IdentityThresholds | None = None
    identity_verdict: IdentityVerdict | None = None
    artefacts: Artefacts | None = None
    jpeg: JpegRobustness | None = None
    skin: Skin | None = None
    groups: Groups | None = None
    gated: SetScores | None = None
    """The enhanced images with gates."""
    gates: GatesEffect | None = None
    reference_quality: Interval | None = None
    """Quality of the baseline's own images, without which that of the others says little."""
    spectra: Spectra | None = None
    examples: tuple[Example, ...] = ()
    """Best, median and worst subjects by identity and by distance to the baseline."""
    flags: tuple[Flag, ...] = ()
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What repeats it: metrics, seed, batch and image sizes, and the numbers behind FD-infinity."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; ``rows`` has every figure with its net, weights digest and N."""
        from topcoat.metrics.rows import rows

        return dataclasses.asdict(self) | {"rows": [dataclasses.asdict(row) for row in rows(self)]}

    def summary(self) -> str:
        """One paragraph that a person can read."""
        from topcoat.metrics.text import summary

        return summary(self)

    def markdown(self) -> str:
        """All figures as Markdown tables, readable as plain text."""
        from topcoat.metrics.text import markdown

        return markdown(self)
