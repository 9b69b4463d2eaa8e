"""What a metric is, and what it gives: scores with an interval, and flags where the images are broken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.metrics.embed import Batch, GrowingTensor, ImageBatch

if TYPE_CHECKING:
    from topcoat.metrics.context import Context

LEVEL = 0.95
RESAMPLES = 1000
_BLOCK_NUMBERS = 2**22

Better = Literal["low", "high"]
Need = Literal["pairs", "distilled", "gated", "floor", "quality"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Score:
    """One number: a metric of one arm, that is, of one set of images. Every report is drawn from a list of these."""

    metric: str
    """Such as ``frechet`` or ``gap_closed``."""
    arm: str
    """Such as ``distilled`` (the identity baseline), ``enhanced``, ``gated``, ``floor`` (the noise floor)."""
    value: float
    low: float | None = None
    high: float | None = None
    """95 % interval, where there is one."""
    n: int = 0
    """Images or subjects behind the value."""
    unit: str = ""
    """Empty for a plain number; ``share`` is 0 to 1 and shown in per cent."""
    better: Better | None = None
    """Which direction is good; None where neither is."""
    net: str | None = None
    digest: str | None = None
    """The feature net and its weights; None where the value comes from pixels alone."""
    family: str = ""
    """Scores of one family share a table."""
    label: str = ""
    """What tables and charts call the metric; its name where this is empty."""
    detail: str = ""
    """What the number does not say, such as the period of a grid."""

    @property
    def interval(self) -> Interval | None:
        """Value and ends, or None for a score without an interval."""
        return None if self.low is None or self.high is None else Interval(self.value, self.low, self.high)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON, without those that are None or empty."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "")}


def score_of(scores: Sequence[Score], metric: str, arm: str = "enhanced") -> Score | None:
    """The score of ``metric`` for ``arm``, or None."""
    return next((one for one in scores if (one.metric, one.arm) == (metric, arm)), None)


class Scored:
    """A result that is asked for its `scores` by metric and arm."""

    __slots__ = ()
    scores: tuple[Score, ...]

    def score(self, metric: str, arm: str = "enhanced") -> Score | None:
        """The score of ``metric`` for ``arm``, or None."""
        return score_of(self.scores, metric, arm)

    def value(self, metric: str, arm: str = "enhanced") -> float | None:
        """The value of that score, or None."""
        score = self.score(metric, arm)
        return None if score is None else score.value


@dataclass(frozen=True, slots=True)
class Flag:
    """Something that is wrong with the images."""

    name: str
    sentence: str


@dataclass(frozen=True, slots=True)
class PerImage:
    """One number for every subject: what groups are compared by, and examples chosen by."""

    name: str
    values: Tensor
    """``(N,)``; NaN for a subject without a value."""
    better: Better | None = None
    compared: bool = True
    """Whether groups are compared by it."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A line of one arm, such as its power spectrum."""

    metric: str
    arm: str
    x: tuple[float, ...]
    y: tuple[float, ...]


class Metric:
    """A metric of sets of images that are read as a stream.

    One that is listed in `topcoat.metrics.evaluate.METRICS`, or given to `evaluate`, is in every report. `update` and
    `compute` may raise `UsageError`: the metric is then left out, and the error becomes a note.
    """

    name: ClassVar[str]
    family: ClassVar[str]
    """What ``--metrics`` selects it by, and the table that it is in."""
    label: ClassVar[str] = ""
    unit: ClassVar[str] = ""
    better: ClassVar[Better | None] = None
    needs: ClassVar[frozenset[Need]] = frozenset()
    """Without these it is left out silently; ``pairs`` is a reference of the same subjects."""
    always: ClassVar[bool] = False
    """Whether it is measured whatever families are selected."""
    in_features: ClassVar[bool] = False
    """Whether its scores depend on the feature net, and so name it."""
    keeps_pixels: ClassVar[bool] = False
    """Whether it reads `Context.pixels`."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def update(self, batch: Batch) -> None:
        """Add the next batch of subjects: `ImageBatch` by arm, or of ``floor`` alone."""

    def compute(self) -> list[Score]:
        """The scores, after the last batch."""
        raise NotImplementedError

    def flags(self, scores: Sequence[Score]) -> list[Flag]:
        """What is wrong, from the scores that this metric gave."""
        return []

    def per_image(self) -> list[PerImage]:
        """Numbers of every subject, after the last batch."""
        return []

    def curves(self) -> list[Curve]:
        """Lines to draw, after the last batch."""
        return []

    def settings(self) -> Mapping[str, Any]:
        """JSON values that belong to the settings of the evaluation."""
        return {}

    def score(
        self, arm: str, value: float | Interval, n: int, metric: str = "", label: str = "", **changes: Any
    ) -> Score:
        """A score of this metric, or of another name and label; ``changes`` replace other fields of `Score`."""
        number, low, high = (value.value, value.low, value.high) if isinstance(value, Interval) else (value, None, None)
        values: dict[str, Any] = {
            "metric": metric or self.name,
            "low": low,
            "high": high,
            "unit": self.unit,
            "better": self.better,
            "net": self.context.net_name if self.in_features else None,
            "digest": self.context.net.digest if self.in_features else None,
            "family": self.family,
            "label": label or self.label,
        }
        return Score(arm=arm, value=number, n=n, **(values | changes))


def feature_sets(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Two sets of features ``(N, D)`` and ``(M, D)`` in float64 on the CPU; raises `UsageError` for other shapes."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise UsageError(f"features must have shapes (N, D) and (M, D), not {tuple(a.shape)} and {tuple(b.shape)}")
    return a.detach().to("cpu", torch.float64), b.detach().to("cpu", torch.float64)


class SetMetric(Metric):
    """A metric of two sets of features, `measure`, for every arm against the reference."""

    in_features = True

    def measure(self, images: Tensor, reference: Tensor) -> float | Mapping[str, float]:
        """The value for features ``(N, D)`` and ``(M, D)``, or several by the names of their scores."""
        raise NotImplementedError

    def compute(self) -> list[Score]:
        context, scores = self.context, list[Score]()
        reference = context.embeddings("reference").embedding
        for arm in context.arms:
            images = context.embeddings(arm).embedding
            result = context.attempt(lambda images=images: self.measure(images, reference))
            if isinstance(result, Mapping):
                scores += [self.score(arm, value, len(images), name, name) for name, value in result.items()]
            elif result is not None:
                scores.append(self.score(arm, result, len(images)))
        return scores


def mean_interval(values: Tensor, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The mean of ``(N,)`` values with its 95 % percentile bootstrap interval, seeded; N >= 2.

    In blocks of resamples, so that memory does not grow with N as that of `scipy.stats.bootstrap` does.
    """
    values = values.detach().to("cpu", torch.float64)
    if values.ndim != 1 or len(values) < 2:
        raise UsageError(f"an interval needs 2 or more values (N,), not {tuple(values.shape)}")
    generator = torch.Generator().manual_seed(seed)
    means: list[Tensor] = []
    block = max(1, _BLOCK_NUMBERS // len(values))
    for start in range(0, resamples, block):
        picks = torch.randint(len(values), (min(block, resamples - start), len(values)), generator=generator)
        means.append(values[picks].mean(dim=1))
    ends = torch.cat(means).quantile(torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64))
    return Interval(float(values.mean()), float(ends[0]), float(ends[1]))


class MeanMetric(Metric):
    """The mean of one or more numbers per image, with its interval; images without a number (NaN) are left out."""

    labels: Mapping[str, str] = MappingProxyType({})
    """Labels of the scores of a metric that has more than one."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._values: dict[tuple[str, str], GrowingTensor] = {}

    def add(self, arm: str, values: Tensor, name: str = "") -> None:
        """Add ``(B,)`` numbers of an arm, for the score ``name``."""
        self._values.setdefault((name or self.name, arm), GrowingTensor()).add(values)

    def values(self, arm: str, name: str = "") -> Tensor | None:
        """All ``(N,)`` numbers of an arm, or None where there are none."""
        column = self._values.get((name or self.name, arm))
        return None if column is None else column.rows

    def compute(self) -> list[Score]:
        scores: list[Score] = []
        for (name, arm), column in self._values.items():
            usable = column.rows[column.rows.isfinite()]
            if len(usable) >= 2:
                mean = mean_interval(usable, seed=self.context.seed)
                scores.append(self.score(arm, mean, len(usable), name, self.labels.get(name, "")))
        return scores


class PairedMetric(MeanMetric):
    """The mean over subjects of `measure`, image against the reference of the same subject."""

    family = "paired"
    needs = frozenset({"pairs"})

    def measure(self, images: ImageBatch, reference: ImageBatch) -> Tensor | Mapping[str, Tensor]:
        """``(B,)`` numbers of two batches of one shape, or several by the names of their scores."""
        raise NotImplementedError

    def update(self, batch: Batch) -> None:
        reference = batch.get("reference")
        if reference is None:
            return
        for arm, images in batch.items():
            if arm != "reference" and len(images) == len(reference):
                measured = self.measure(images, reference)
                for name, values in ({"": measured} if isinstance(measured, Tensor) else measured).items():
                    self.add(arm, values, name)
