"""From what a pass over images found to the result of an evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from torch import Tensor

from topcoat.errors import UsageError
from topcoat.metrics.artefacts import Artefacts
from topcoat.metrics.base import Interval
from topcoat.metrics.c2st import two_sample
from topcoat.metrics.cache import FeatureCache
from topcoat.metrics.embed import Embeddings, FeatureNetLike
from topcoat.metrics.examples import choose_examples
from topcoat.metrics.flags import find_flags
from topcoat.metrics.frechet import FrechetInfinity, GaussianStatistics, frechet_distance, frechet_infinity
from topcoat.metrics.gap import RESAMPLES, GapClosed, gap_closed
from topcoat.metrics.groups import Groups, compare_groups, group_gaps, mean_interval
from topcoat.metrics.identity import (
    IdentityThresholds,
    cosine,
    different_subjects,
    identity,
    identity_pairs,
    identity_thresholds,
    identity_verdict,
)
from topcoat.metrics.jpeg import JpegRobustness, jpeg_robustness
from topcoat.metrics.kernel import cmmd, kernel_distance
from topcoat.metrics.prdc import DensityCoverage, PrecisionRecall, density_coverage, precision_recall
from topcoat.metrics.reading import Reading
from topcoat.metrics.record import (
    Evaluation,
    Example,
    FeatureRecord,
    GatesEffect,
    PairedScores,
    SetScores,
    Skin,
    Spectra,
)
from topcoat.metrics.spectrum import ring_middles
from topcoat.metrics.structure import ms_ssim_scales

ENOUGH_IMAGES = 1000
"""Below this a set distance is printed with a warning: its bias is of the size of what it measures."""

METRICS = ("distances", "diversity", "paired", "identity", "artefacts", "groups", "two-sample")
"""Families of metrics; Fréchet distance, KID, PSNR and the share of the gap closed are always measured."""

_WIDE = 256
_RESAMPLES_OF_WIDE = 50
"""Bootstrap draws for features of more than 256 dimensions: each draw takes eigenvalues of D x D matrices."""
_JPEG_IMAGES = 500
_Found = TypeVar("_Found")


class Judge:
    """From what a pass found to the result."""

    def __init__(
        self,
        reading: Reading,
        net: FeatureNetLike,
        cache: FeatureCache | None,
        metrics: frozenset[str],
        groups: Sequence[Mapping[str, str]] | None,
        given: set[str],
        seed: int,
    ) -> None:
        self._reading, self._net, self._cache, self._metrics, self._seed = reading, net, cache, metrics, seed
        self._notes = list(reading.notes)
        self._infinity: dict[str, FrechetInfinity] = {}
        self.z, self.y = reading.embeddings("enhanced"), reading.embeddings("reference")
        self.x, self.gated = (reading.embeddings(name) if name in given else None for name in ("distilled", "gated"))
        self.floor = reading.embeddings("floor") if "floor" in given else None
        for name, found in (("distilled", self.x), ("gated", self.gated)):
            if found is not None and len(found) != len(self.z):
                raise UsageError(
                    f"{len(found)} {name} and {len(self.z)} enhanced images are not pairs; give as many of each"
                )
        self.paired = len(self.y) == len(self.z)
        if groups is not None and len(groups) != len(self.z):
            raise UsageError(f"{len(groups)} groups do not fit {len(self.z)} enhanced images; give one for each image")
        self._groups = groups
        self._statistics = GaussianStatistics.of(self.y.embedding)

    def evaluation(self, net_name: str, batch_size: int) -> Evaluation:
        """Everything, flags last."""
        enhanced = self._scores("enhanced", self.z)
        distilled = None if self.x is None else self._scores("distilled", self.x)
        floor = None if self.floor is None else self._scores("floor", self.floor)
        thresholds = self._thresholds()
        found = Evaluation(
            n=len(self.z),
            n_reference=len(self.y),
            features=FeatureRecord(net_name, self._net.digest, self.y.embedding.shape[1]),
            enhanced=enhanced,
            distilled=distilled,
            floor=floor,
            reference_gradient_energy=self._reading.energy("reference"),
            gap_closed=self._gap(self.z),
            identity=None if self.x is None else identity(self.x.identity, self.z.identity),
            identity_pairs=self._paired_only(lambda x: identity_pairs(x.identity, self.y.identity)),
            identity_thresholds=thresholds,
            identity_verdict=None if thresholds is None else identity_verdict(self._kept_identity(), thresholds),
            artefacts=self._artefacts(),
            jpeg=self._jpeg(),
            skin=self._skin(),
            groups=self._compare_groups(),
            gated=None if self.gated is None else self._scores("gated", self.gated),
            gates=self._gates(),
            reference_quality=self._mean("reference quality"),
            spectra=self._spectra(),
            examples=self._examples(),
            notes=(),
        )
        few = _few(min(len(self.z), len(self.y)), self.y.embedding.shape[1])
        return dataclasses.replace(
            found, notes=(*few, *self._notes), flags=find_flags(found), settings=self._settings(batch_size)
        )

    def _attempt(self, measure: Callable[[], _Found]) -> _Found | None:
        """A measure, or None and a note where it needs other or more images."""
        try:
            return measure()
        except UsageError as error:
            if str(error) not in self._notes:
                self._notes.append(str(error))
            return None

    def _paired_only(self, measure: Callable[[Embeddings], _Found]) -> _Found | None:
        x = self.x
        return None if x is None or not self.paired else self._attempt(lambda: measure(x))

    def _scores(self, name: str, found: Embeddings) -> SetScores:
        y, ours = self.y.embedding, found.embedding
        infinity: FrechetInfinity | None = None
        spread: PrecisionRecall | None = None
        cover: DensityCoverage | None = None
        if "distances" in self._metrics:
            infinity = self._attempt(lambda: frechet_infinity(ours, y, seed=self._seed))
            if infinity is not None:
                self._infinity[name] = infinity
        if "diversity" in self._metrics:
            spread = self._attempt(lambda: precision_recall(ours, y))
            cover = self._attempt(lambda: density_coverage(ours, y))
        decibels = self._reading.score(f"{name} psnr")
        return SetScores(
            n=len(found),
            frechet=frechet_distance(self._statistics, GaussianStatistics.of(ours)),
            kernel=kernel_distance(y, ours),
            gradient_energy=self._reading.energy(name),
            psnr=float(decibels.mean()) if decibels is not None and self.paired else None,
            frechet_infinity=None if infinity is None else infinity.value,
            cmmd=cmmd(ours, y) if "distances" in self._metrics else None,
            precision=None if spread is None else spread.precision,
            recall=None if spread is None else spread.recall,
            density=None if cover is None else cover.density,
            coverage=None if cover is None else cover.coverage,
            paired=self._paired(name) if self.paired and "paired" in self._metrics else None,
            two_sample=self._two_sample(name) if "two-sample" in self._metrics else None,
            quality=self._mean(f"{name} quality"),
        )

    def _paired(self, name: str) -> PairedScores | None:
        decibels, gradient, spectrum = (self._mean(f"{name} {what}") for what in ("psnr", "gradient", "spectrum"))
        if decibels is None or gradient is None or spectrum is None:
            return None
        return PairedScores(
            n=len(self.z),
            perceptual=self._mean(f"{name} perceptual"),
            psnr=decibels,
            ssim=self._mean(f"{name} ssim"),
            ms_ssim=self._mean(f"{name} ms_ssim"),
            ms_ssim_scales=ms_ssim_scales(*self._reading.size),
            gradient_agreement=gradient,
            spectrum_db=spectrum,
        )

    def _mean(self, name: str) -> Interval | None:
        values = self._reading.score(name)
        if values is None:
            return None
        values = values[values.isfinite()]
        return mean_interval(values, seed=self._seed) if len(values) >= 2 else None

    def _two_sample(self, name: str) -> Any:
        ours, reference = self._reading.kept(name), self._reading.kept("reference")
        if ours is None or reference is None:
            return None
        count = min(len(ours), len(reference))
        return self._attempt(lambda: two_sample(ours[:count], reference[:count], seed=self._seed))

    def _gap(self, enhanced: Embeddings) -> GapClosed | None:
        floor = self.floor
        if floor is None:
            return None
        resamples = RESAMPLES if self.y.embedding.shape[1] <= _WIDE else _RESAMPLES_OF_WIDE
        parts = (enhanced.embedding, self.y.embedding, floor.embedding)
        return self._paired_only(lambda x: gap_closed(x.embedding, *parts, resamples=resamples, seed=self._seed))

    def _kept_identity(self) -> Tensor:
        assert self.x is not None
        return cosine(self.x.identity, self.z.identity)

    def _thresholds(self) -> IdentityThresholds | None:
        if "identity" not in self._metrics:
            return None
        y = self.y.identity
        return self._paired_only(
            lambda x: identity_thresholds(cosine(x.identity, y), different_subjects(x.identity, y))
        )

    def _artefacts(self) -> Artefacts | None:
        scan = self._reading.scan if self.paired else None
        return None if scan is None or scan.n == 0 else self._attempt(scan.result)

    def _jpeg(self) -> JpegRobustness | None:
        if "artefacts" not in self._metrics or self.x is None or not self.paired:
            return None
        kept = [self._reading.kept(name) for name in ("distilled", "enhanced", "reference")]
        x, z, y = (None if part is None else part[:_JPEG_IMAGES] for part in kept)
        if x is None or z is None or y is None:
            return None
        seen = [found.embedding[: len(x)] for found in (self.x, self.z, self.y)]
        return self._attempt(lambda: jpeg_robustness(x, z, y, self._net, seen=seen, cache=self._cache))

    def _gates(self) -> GatesEffect | None:
        gated, x, decided = self.gated, self.x, self._reading.decided
        if gated is None or x is None or not self.paired:
            return None
        shares = {name: count / len(gated) for name, count in decided.items()}
        return GatesEffect(self._gap(gated), identity(x.identity, gated.identity), **shares)

    def _spectra(self) -> Spectra | None:
        power = {name: self._reading.power(name) for name in ("distilled", "enhanced", "gated", "reference")}
        found = {name: tuple(one.tolist()) for name, one in power.items() if one is not None}
        return Spectra(ring_middles(), found) if found else None

    def _examples(self) -> tuple[Example, ...]:
        if not self.paired:
            return ()
        kept = () if self.x is None else choose_examples("identity", self._kept_identity(), best_is_high=True)
        distance = self._reading.score("enhanced perceptual")
        if distance is not None:
            return kept + choose_examples("perceptual distance", distance, best_is_high=False)
        decibels = self._reading.score("enhanced psnr")
        return kept if decibels is None else kept + choose_examples("PSNR", decibels, best_is_high=True)

    def _skin(self) -> Skin | None:
        shift, difference = self._mean("enhanced ita"), self._mean("enhanced skin")
        values, own = self._reading.score("enhanced ita"), self._reading.score("enhanced ita to baseline")
        if shift is None or difference is None or values is None or own is None:
            return None
        return Skin(
            n=int(values.isfinite().sum()),
            n_to_baseline=int(own.isfinite().sum()),
            ita_shift=shift,
            difference=difference,
            ita_to_baseline=self._mean("enhanced ita to baseline"),
            ita_to_baseline_do_nothing=self._mean("distilled ita to baseline"),
        )

    def _compare_groups(self) -> Groups | None:
        groups, x = self._groups, self.x
        if groups is None or x is None or not self.paired or "groups" not in self._metrics:
            return None
        scores: dict[str, Tensor] = {"identity": self._kept_identity()}
        after, before = (self._reading.score(f"{name} perceptual") for name in ("enhanced", "distilled"))
        if after is not None and before is not None:
            scores |= {"perceptual distance": after, "perceptual gain": before - after}
        for score, name in (("skin tone shift (ITA degrees)", "ita"), ("skin colour change (CIEDE2000)", "skin")):
            values = self._reading.score(f"enhanced {name}")
            if values is not None:
                scores[score] = values
        found = compare_groups(scores, groups, seed=self._seed)
        floor = self.floor
        if floor is None or len(floor) != len(self.y):
            return found
        features = [part.embedding for part in (x, self.z, self.y, floor)]
        gaps = group_gaps(features[0], features[1], features[2], features[3], groups, seed=self._seed)
        return dataclasses.replace(found, gaps=gaps)

    def _settings(self, batch_size: int) -> dict[str, Any]:
        height, width = self._reading.size
        return {
            "metrics": [name for name in METRICS if name in self._metrics],
            "seed": self._seed,
            "batch_size": batch_size,
            "quality_digest": self._reading.quality_digest,
            "width_px": width,
            "height_px": height,
            "frechet_infinity": {
                name: {"sizes": list(found.sizes), "distances": list(found.distances)}
                for name, found in self._infinity.items()
            },
        }


def _few(n: int, dimensions: int) -> tuple[str, ...]:
    if n >= ENOUGH_IMAGES:
        return ()
    return (
        f"set distances of {n} images in {dimensions} dimensions are biased upwards and only comparable at the same "
        f"number; use {ENOUGH_IMAGES:,} or more for a figure to quote",
    )
