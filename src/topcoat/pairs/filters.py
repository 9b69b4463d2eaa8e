"""Filters: which generated pairs are kept, each checked by itself, with a reason and a score."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from topcoat.config import import_named
from topcoat.errors import UsageError
from topcoat.features import FeatureNet, load_feature_net
from topcoat.pairs.similarity import Calibration, default_calibration, pair_similarity, read_calibration

FILTERS = ("blank", "same-subject")
"""Filters known by name; any other name must be ``module:function``."""

BLANK_STD = 0.01
"""An image whose values have less standard deviation than this (full scale 1) is blank."""
SATURATED_SHARE = 0.9
"""An image with more than this share of its values at 0 or 1 is saturated."""

_END = 0.5 / 255  # values that an 8-bit file holds as 0 or 255


@dataclass(frozen=True, slots=True)
class FilterResult:
    """Whether one pair is kept; ``reason`` is empty where it is, ``score`` is what was compared."""

    keep: bool
    reason: str
    score: float


@runtime_checkable
class PairFilter(Protocol):
    """Checks pairs one by one; a result never depends on the other pairs of a batch."""

    @property
    def name(self) -> str:
        """What it is called on the command line and in the manifest."""
        ...

    def check(self, distilled: Tensor, baseline: Tensor) -> list[FilterResult]:
        """One result for each pair of images ``(N, 3, H, W)`` in [0, 1]."""
        ...


class BlankFilter:
    """Drops a pair with an image that is blank, saturated or not finite.

    The score is the standard deviation, or the share of saturated values.
    """

    name = "blank"

    def check(self, distilled: Tensor, baseline: Tensor) -> list[FilterResult]:
        """See `PairFilter.check`; images may hold NaN here."""
        return [self._check(one, other) for one, other in zip(distilled, baseline, strict=True)]

    def _check(self, distilled: Tensor, baseline: Tensor) -> FilterResult:
        lowest = math.inf
        for side, image in (("distilled", distilled), ("baseline", baseline)):
            image = image.detach().to("cpu", torch.float64)
            if not bool(image.isfinite().all()):
                return FilterResult(False, f"{side} holds NaN or infinite values", 0.0)
            std = float(image.std(correction=0))
            if std < BLANK_STD:
                return FilterResult(False, f"{side} is blank (standard deviation {std:.4f})", std)
            share = float(((image <= _END) | (image >= 1 - _END)).double().mean())
            if share > SATURATED_SHARE:
                return FilterResult(False, f"{side} is saturated ({share:.0%} of its values are 0 or 1)", share)
            lowest = min(lowest, std)
        return FilterResult(True, "", lowest)


class SameSubjectFilter:
    """Drops a pair whose images do not show one subject: feature or structural similarity under its threshold.

    The score is the smaller distance above a threshold (negative where the pair is dropped). The features are those of
    the net ``loss``: the net ``eval`` evaluates heads and must not choose what they are trained on.
    """

    name = "same-subject"

    def __init__(self, calibration: Calibration | None = None, net: FeatureNet | None = None) -> None:
        """With the thresholds of ``calibration`` (by default the embedded one) and its net.

        Raises `DataError` if the calibration was measured with another net.
        """
        self._net = load_feature_net("loss") if net is None else net
        self.calibration = default_calibration() if calibration is None else calibration
        self.calibration.check_net(self._net.digest)

    @property
    def label(self) -> str:
        """The name with both thresholds, as a manifest has it."""
        features, structure = self._thresholds
        return f"{self.name} (features {features:.6g}, structure {structure:.6g})"

    @property
    def _thresholds(self) -> tuple[float, float]:
        return self.calibration.features.threshold, self.calibration.structure.threshold

    def check(self, distilled: Tensor, baseline: Tensor) -> list[FilterResult]:
        """See `PairFilter.check`."""
        features, structure = pair_similarity(self._net, distilled, baseline)
        return [self._result(*both) for both in zip(features.tolist(), structure.tolist(), strict=True)]

    def _result(self, features: float, structure: float) -> FilterResult:
        limits = self._thresholds
        score, kind, similarity, threshold = min(
            (features - limits[0], "feature", features, limits[0]),
            (structure - limits[1], "structural", structure, limits[1]),
        )
        if score >= 0:
            return FilterResult(True, "", score)
        reason = f"not the same subject: {kind} similarity {similarity:.3f} is under {threshold:.3f}"
        return FilterResult(False, reason, score)


class UserFilter:
    """A user's own function, named ``module:function``.

    It is called with the distilled and the baseline image as float32 numpy arrays ``(3, H, W)``, RGB in [0, 1], and
    returns True to keep the pair, or ``(keep, reason, score)``. The module is looked for in the working folder, too.
    """

    def __init__(self, name: str) -> None:
        """Import the function; raises `UsageError` if there is none."""
        self.name = name
        self._function = import_named(name, "filter", "quality:is_sharp")

    def check(self, distilled: Tensor, baseline: Tensor) -> list[FilterResult]:
        """See `PairFilter.check`; raises `UsageError` if the function raises or returns anything else."""
        pairs = zip(_as_arrays(distilled), _as_arrays(baseline), strict=True)
        return [self._check(one, other) for one, other in pairs]

    def __reduce__(self) -> tuple[type[UserFilter], tuple[str]]:
        """Travels to worker processes by its name."""
        return UserFilter, (self.name,)

    def _check(self, distilled: np.ndarray[Any, Any], baseline: np.ndarray[Any, Any]) -> FilterResult:
        try:
            answer = self._function(distilled, baseline)
        except Exception as error:  # a user's code may raise anything; it must not look like a defect of topcoat
            reason = textwrap.shorten(str(error), 200, placeholder="...")
            raise UsageError(f"the filter {self.name} raised {type(error).__name__}: {reason}; correct it") from error
        match answer:
            case bool() | np.bool_():
                keep, reason, score = bool(answer), "", float(bool(answer))
            case (bool() | np.bool_() as keep, str() as reason, int() | float() | np.number() as score):
                keep, score = bool(keep), float(score)
            case _:
                shown = textwrap.shorten(repr(answer), 60, placeholder="...")
                raise UsageError(
                    f"the filter {self.name} returned {shown}; return True to keep a pair, False to drop it, or (keep, "
                    "reason, score)"
                )
        if not math.isfinite(score):
            raise UsageError(f"the filter {self.name} returned the score {score}; return a finite number")
        return (
            FilterResult(True, "", score)
            if keep
            else FilterResult(False, reason or f"{self.name} returned False", score)
        )


def open_filters(filters: Sequence[str | PairFilter], *, calibration: str | Path | None = None) -> list[PairFilter]:
    """The filters, those given by name loaded.

    ``calibration`` is a file of `topcoat pairs inspect --calibrate` for ``same-subject``; without it the embedded
    thresholds hold. Raises `UsageError` for an unknown name, one that comes twice, or a calibration that no filter
    reads; `DataError` for an unusable calibration.
    """
    opened: list[PairFilter] = []
    for item in filters:
        opened.append(_named_filter(item, calibration) if isinstance(item, str) else item)
        if opened[-1].name in [earlier.name for earlier in opened[:-1]]:
            raise UsageError(f"the filter {opened[-1].name} is given twice; give each once")
    if calibration is not None and "same-subject" not in filters:
        raise UsageError(f"the calibration {calibration} is for the filter same-subject; add it or leave the file out")
    return opened


def filter_labels(filters: Sequence[str | PairFilter]) -> tuple[str, ...]:
    """What tells filters apart in a manifest: their names, and the thresholds of ``same-subject``.

    Raises `UsageError` as `open_filters` does.
    """
    return tuple(item.label if isinstance(item, SameSubjectFilter) else item.name for item in open_filters(filters))


def _named_filter(name: str, calibration: str | Path | None) -> PairFilter:
    if name == "blank":
        return BlankFilter()
    if name == "same-subject":
        return SameSubjectFilter(None if calibration is None else read_calibration(calibration))
    if ":" in name:
        return UserFilter(name)
    hint = "; near-duplicates need the whole set, use: topcoat pairs dedupe" if "duplicate" in name else ""
    raise UsageError(f"no filter is called {name!r}; use {', '.join(FILTERS)} or your own module:function{hint}")


def _as_arrays(images: Tensor) -> np.ndarray[Any, Any]:
    return images.detach().to("cpu", torch.float32).numpy()
