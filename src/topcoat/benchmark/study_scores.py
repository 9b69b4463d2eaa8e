"""Scores of a study's arms: each arm is evaluated once, and kept until anything that decides its scores changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from topcoat import __version__
from topcoat.benchmark.arms import Arm, own_arms
from topcoat.benchmark.record import BASELINE, DISTILLED, FLOOR
from topcoat.benchmark.run import Benchmark, Progress, Seconds
from topcoat.benchmark.store import Store, to_floats
from topcoat.cost.machine import hardware
from topcoat.generators.base import ModelPair
from topcoat.metrics.base import Metric, Score
from topcoat.metrics.c2st import TwoSampleMetric
from topcoat.metrics.embed import FeatureNetLike
from topcoat.metrics.evaluate import OUT_OF_DOMAIN, evaluate, families
from topcoat.metrics.evaluation import FeatureRecord
from topcoat.pairs.manifest import pair_identity


class _TwoSampleOfHead(TwoSampleMetric):
    """Of the head's images alone: the references are tested once, not with every head."""

    tested = ("enhanced",)


class _TwoSampleOfReferences(TwoSampleMetric):
    """Of the distilled images, which are evaluated as a head's are, and of the noise floor."""

    tested = ("enhanced", "floor")


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What was measured of one arm, or of the references together."""

    scores: tuple[Score, ...]
    flags: tuple[str, ...]
    """Sentences on what is wrong with the images."""
    seconds: tuple[Seconds, ...]
    """Of the full batches of the arm."""


class StudyEvaluator:
    """Evaluates arms whose batches were generated; ``cache`` keeps the evaluations and the features."""

    def __init__(self, pair: ModelPair, cache: Path, work: Benchmark, net: FeatureNetLike, net_name: str) -> None:
        self._work, self._net, self._store, self._features = work, net, Store(cache), cache / "features"
        self._distilled, self._baseline, self._floor = own_arms(pair)
        dimensions = net(to_floats(work.first(self._baseline, 1))).embedding.shape[1]
        self.features = FeatureRecord(net_name, net.digest, dimensions)
        self._key = {
            "topcoat": __version__,
            "models": pair_identity(pair),
            "subjects": work.subjects.digest,
            "features": net.digest,
            "machine": str(hardware()),  # its seconds belong to this machine
        }

    def references(self, on_progress: Progress) -> Evaluated:
        """The distilled images evaluated like a head's, and the baseline against itself."""
        names = {"enhanced": DISTILLED, "floor": FLOOR, "reference": BASELINE}
        return self._evaluated(self._distilled, names, "", _TwoSampleOfReferences, on_progress)

    def head(self, name: str, arm: Arm, digest: str, on_progress: Progress) -> Evaluated:
        """The images of an arm with a head, and its time; ``digest`` is the head's."""
        return self._evaluated(arm, {"enhanced": name}, digest, _TwoSampleOfHead, on_progress)

    def _evaluated(
        self, arm: Arm, names: Mapping[str, str], digest: str, two_sample: type[Metric], on_progress: Progress
    ) -> Evaluated:
        """Every score of the arms in ``names``, by their names in the study; from the store, or measured now."""
        key = {**self._key, "arm": names["enhanced"], "head": digest}
        kept = self._store.evaluation(key)
        if kept is not None:
            scores = tuple(Score(**score) for score in kept["scores"])
            return Evaluated(
                scores, tuple(kept["flags"]), tuple((of_model, head) for of_model, head in kept["seconds"])
            )
        seconds: list[Seconds] = []

        def enhanced() -> Iterator[Tensor]:
            done = 0
            for batch in self._work.images(arm, seconds):
                done += len(batch)
                yield to_floats(batch)
                on_progress(done, len(self._work.subjects), names["enhanced"])

        reference, distilled, floor = (
            map(to_floats, self._work.images(one)) for one in (self._baseline, self._distilled, self._floor)
        )
        evaluation = evaluate(
            enhanced(), reference=reference, distilled=distilled, floor=floor, features=self._net, cache=self._features,
            metrics=[*(family for family in families() if family != TwoSampleMetric.family), two_sample],
        )  # fmt: skip
        evaluated = Evaluated(
            tuple(dataclasses.replace(one, arm=names[one.arm]) for one in evaluation.scores if one.arm in names),
            tuple(flag.sentence for flag in evaluation.flags if flag.name != OUT_OF_DOMAIN),  # the study says it once
            tuple(seconds),
        )
        self._store.keep_evaluation(key, dataclasses.asdict(evaluated))
        return evaluated
