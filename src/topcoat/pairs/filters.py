"""Filters: which painted pairs are kept, each judged by itself, with a reason and a score."""

from __future__ import annotations

import importlib
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.features import FeatureNet, load_feature_net
from topcoat.pairs.calibration import Calibration, default_calibration, read_calibration
from topcoat.pairs.similarity import pair_similarity

FILTERS = ("blank", "same-subject")
"""Filters known by name; any other name must be ``module:function``."""

BLANK_DEVIATION = 0.01
"""An image whose values deviate by less than this (standard deviation, full scale 1) shows nothing."""
SATURATED_SHARE = 0.9
"""An image with more than this share of its values at 0 or 1 is burnt out."""

_END = 0.5 / 255  # values that an 8-bit file holds as 0 or 255


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a filter says of one pair; ``reason`` is empty where it is kept, ``score`` is what was compared."""

    keep: bool
    reason: str
    score: float


@runtime_checkable
class PairFilter(Protocol):
    """Judges pairs one by one; a verdict never depends on the other pairs of a batch."""

    @property
    def name(self) -> str:
        """What it is called on the command line and in the manifest."""
        ...

    def judge(self, distilled: Tensor, baseline: Tensor) -> list[Verdict]:
        """One verdict for each pair of images ``(N, 3, H, W)`` in [0, 1]."""
        ...


class BlankFilter:
    """Drops a pair with an image that is blank, saturated or not finite; the score is its deviation or its share."""

    name = "blank"

    def judge(self, distilled: Tensor, baseline: Tensor) -> list[Verdict]:
        """See `PairFilter.judge`; images may hold NaN here."""
        return [self._judge(one, other) for one, other in zip(distilled, baseline, strict=True)]

    def _judge(self, distilled: Tensor, baseline: Tensor) -> Verdict:
        lowest = math.inf
        for side, image in (("distilled", distilled), ("baseline", baseline)):
            image = image.detach().to("cpu", torch.float64)
            if not bool(image.isfinite().all()):
                return Verdict(False, f"{side} holds NaN or infinite values", 0.0)
            deviation = float(image.std(correction=0))
            if deviation < BLANK_DEVIATION:
                return Verdict(False, f"{side} is blank (deviation {deviation:.4f})", deviation)
            share = float(((image <= _END) | (image >= 1 - _END)).double().mean())
            if share > SATURATED_SHARE:
                return Verdict(False, f"{side} is saturated ({share:.0%} of its values are 0 or 1)", share)
            lowest = min(lowest, deviation)
        return Verdict(True, "", lowest)


class SameSubjectFilter:
    """Drops a pair whose images do not show one subject: feature or structural similarity under its threshold.

    The score is the smaller distance above a threshold (negative where the pair is dropped). The features are those of
    the net ``loss``: the net ``eval`` judges heads and must not choose what they are trained on.
    """

    name = "same-subject"

    def __init__(self, calibration: Calibration | None = None, net: FeatureNet | None = None) -> None:
        """With the thresholds of ``calibration`` (by default the embedded one) and its net.

        Raises `DataError` if the calibration was measured with another net.
        """
        self._net = load_feature_net("loss") if net is None else net
        self.calibration = default_calibration() if calibration is None else calibration
        self.calibration.check_net(self._net.digest)

    def judge(self, distilled: Tensor, baseline: Tensor) -> list[Verdict]:
        """See `PairFilter.judge`."""
        features, structure = pair_similarity(self._net, distilled, baseline)
        limits = (self.calibration.features.threshold, self.calibration.structure.threshold)
        return [
            self._verdict(float(one) - limits[0], float(other) - limits[1], float(one), float(other))
            for one, other in zip(features, structure, strict=True)
        ]

    def _verdict(self, above_features: float, above_structure: float, features: float, structure: float) -> Verdict:
        score = min(above_features, above_structure)
        if score >= 0:
            return Verdict(True, "", score)
        if above_features < above_structure:
            return Verdict(False, _under("feature", features, self.calibration.features.threshold), score)
        return Verdict(False, _under("structural", structure, self.calibration.structure.threshold), score)


class UserFilter:
    """A user's own function, named ``module:function``.

    It is called with the distilled and the baseline image as float32 numpy arrays ``(3, H, W)``, RGB in [0, 1], and
    returns True to keep the pair, or ``(keep, reason, score)``. The module is looked for in the working folder, too.
    """

    def __init__(self, name: str) -> None:
        """Import the function; raises `UsageError` if there is none."""
        self.name = name
        self._function = _imported(name)

    def judge(self, distilled: Tensor, baseline: Tensor) -> list[Verdict]:
        """See `PairFilter.judge`; raises `UsageError` if the function raises or returns anything else."""
        pairs = zip(_as_arrays(distilled), _as_arrays(baseline), strict=True)
        return [self._judge(one, other) for one, other in pairs]

    def __reduce__(self) -> tuple[type[UserFilter], tuple[str]]:
        """Travels to worker processes by its name."""
        return UserFilter, (self.name,)

    def _judge(self, distilled: np.ndarray[Any, Any], baseline: np.ndarray[Any, Any]) -> Verdict:
        try:
            answer = self._function(distilled, baseline)
        except Exception as error:  # a user's code may raise anything; it must not look like a defect of topcoat
            what = " ".join(str(error).split())[:200]
            raise UsageError(f"the filter {self.name} raised {type(error).__name__}: {what}; correct it") from error
        match answer:
            case bool() | np.bool_():
                keep, reason, score = bool(answer), "", float(bool(answer))
            case (bool() | np.bool_() as keep, str() as reason, int() | float() | np.number() as score):
                keep, score = bool(keep), float(score)
            case _:
                shown = repr(answer)
                raise UsageError(
                    f"the filter {self.name} returned {shown if len(shown) <= 60 else shown[:57] + '...'}; return True "
                    "to keep a pair, False to drop it, or (keep, reason, score)"
                )
        if not math.isfinite(score):
            raise UsageError(f"the filter {self.name} returned the score {score}; return a finite number")
        return Verdict(True, "", score) if keep else Verdict(False, reason or f"{self.name} said no", score)


def load_filters(
    names: Sequence[str], *, calibration: str | Path | None = None, net: FeatureNet | None = None
) -> list[PairFilter]:
    """The filters called ``names``, in that order.

    ``calibration`` is a file of `topcoat pairs inspect --calibrate` for ``same-subject``; without it the embedded
    thresholds hold. ``net`` replaces the embedded feature net. Raises `UsageError` for an unknown name, one that comes
    twice, or a calibration that no filter reads; `DataError` for an unusable calibration.
    """
    found: list[PairFilter] = []
    for name in names:
        if name in [filter.name for filter in found]:
            raise UsageError(f"the filter {name} is given twice; give each once")
        if name == "blank":
            found.append(BlankFilter())
        elif name == "same-subject":
            found.append(SameSubjectFilter(None if calibration is None else read_calibration(calibration), net))
        elif ":" in name:
            found.append(UserFilter(name))
        else:
            hint = "; near-duplicates need the whole set, use: topcoat pairs dedupe" if "duplicate" in name else ""
            raise UsageError(
                f"no filter is called {name!r}; use {', '.join(FILTERS)} or your own module:function{hint}"
            )
    if calibration is not None and "same-subject" not in names:
        raise UsageError(f"the calibration {calibration} is for the filter same-subject; add it or leave the file out")
    return found


def _under(kind: str, value: float, threshold: float) -> str:
    return f"not the same subject: {kind} similarity {value:.3f} is under {threshold:.3f}"


def _as_arrays(images: Tensor) -> np.ndarray[Any, Any]:
    return images.detach().to("cpu", torch.float32).numpy()


def _imported(name: str) -> Callable[..., Any]:
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise UsageError(f"the filter {name!r} is incomplete; write module:function, for example quality:is_sharp")
    folder = os.getcwd()
    sys.path.insert(0, folder)  # a console script's path lacks the folder that the user stands in
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # importing runs a user's code, which may raise anything
        what = " ".join(str(error).split())[:200]
        raise UsageError(
            f"the filter {name} cannot be imported ({type(error).__name__}: {what}); check the name, and that the "
            "module lies in this folder or is installed"
        ) from error
    finally:
        sys.path.remove(folder)
    function = module
    for part in function_name.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        raise UsageError(f"the filter {name} names no function: {module_name} has no callable {function_name}")
    return function
