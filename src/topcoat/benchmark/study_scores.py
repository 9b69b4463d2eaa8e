"""Scores of a study's arms: each arm is evaluated once, and kept until anything that decides its scores changes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from topcoat import __version__
from topcoat.benchmark.arms import Arm
from topcoat.benchmark.record import BASELINE, DISTILLED, FLOOR
from topcoat.benchmark.run import ArmSeconds, Benchmark, Progress
from topcoat.benchmark.store import to_floats
from topcoat.benchmark.study_folder import StudyFolder
from topcoat.cost.machine import hardware
from topcoat.generators.base import ModelPair
from topcoat.metrics.base import Metric, Score
from topcoat.metrics.c2st import TwoSampleMetric
from topcoat.metrics.embed import FeatureNetLike
from topcoat.metrics.evaluate import evaluate
from topcoat.metrics.evaluation import Evaluation, FeatureRecord
from topcoat.pairs.manifest import pair_identity

_REPORTED = (
    "frechet",
    "gap_closed",
    "identity_mean",
    "identity_p05",
    "identity_mismatched_mean",
    "identity_mismatched_p95",
    "perceptual",
    "grid_db",
    "c2st_accuracy",
    "c2st_auc",
)
"""Scores of an evaluation that a study keeps."""


class _TwoSample(TwoSampleMetric):
    """Of the evaluated arm alone: the noise floor is tested once."""

    @property
    def tested(self) -> list[str]:
        return ["enhanced"]


class _TwoSampleWithFloor(TwoSampleMetric):
    """Of the evaluated arm and of the noise floor."""

    @property
    def tested(self) -> list[str]:
        return ["enhanced", "floor"]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What was measured of one arm, or of the references together."""

    scores: tuple[Score, ...]
    flags: tuple[str, ...]
    """Sentences on what is wrong with the images."""
    seconds: tuple[tuple[float, float | None], ...]
    """Per image of generator and head, a batch at a time."""

    @property
    def timing(self) -> ArmSeconds:
        """The seconds of the arm."""
        return ArmSeconds.of(self.seconds)


class StudyEvaluator:
    """Evaluates arms whose batches were generated; results are kept in the study's folder."""

    def __init__(
        self, pair: ModelPair, folder: StudyFolder, work: Benchmark, net: FeatureNetLike, net_name: str
    ) -> None:
        self._folder, self._work, self._net = folder, work, net
        self._distilled = Arm("distilled", pair.distilled.steps)
        self._baseline = Arm("baseline", pair.baseline.steps)
        self._floor = dataclasses.replace(self._baseline, other_seeds=True)
        dimensions = net(to_floats(work.first(self._baseline, 1))).embedding.shape[1]
        self.features = FeatureRecord(net_name, net.digest, dimensions)
        self._key = {
            "topcoat": __version__,
            "models": _digest(pair_identity(pair)),
            "subjects": work.subjects.digest,
            "features": net.digest,
            "machine": str(hardware()),  # its seconds belong to this machine
        }

    def references(self, on_progress: Progress) -> Evaluated:
        """The distilled images evaluated like a head's, and the baseline against itself."""
        kept = self._kept("references", self._key)
        if kept is not None:
            return kept
        metrics = ("paired", "identity", _TwoSampleWithFloor)
        evaluation, _ = self._evaluate(DISTILLED, self._distilled, metrics, on_progress)
        arms = {"enhanced": DISTILLED, "floor": FLOOR, "reference": BASELINE}
        return self._keep("references", self._key, Evaluated(_scores(evaluation, arms), (), ()))

    def head(self, name: str, arm: Arm, digest: str, on_progress: Progress) -> Evaluated:
        """The images of an arm with a head, and its time; ``digest`` is the head's."""
        key = {**self._key, "head": digest}
        kept = self._kept(name, key)
        if kept is not None:
            return kept
        metrics = ("paired", "identity", "artefacts", _TwoSample)
        evaluation, seconds = self._evaluate(name, arm, metrics, on_progress)
        flags = tuple(flag.sentence for flag in evaluation.flags)
        return self._keep(name, key, Evaluated(_scores(evaluation, {"enhanced": name}), flags, tuple(seconds)))

    def _evaluate(
        self, name: str, arm: Arm, metrics: Sequence[str | type[Metric]], on_progress: Progress
    ) -> tuple[Evaluation, list[tuple[float, float | None]]]:
        """The evaluation of an arm, and its seconds."""
        seconds: list[tuple[float, float | None]] = []

        def stream() -> Iterator[Tensor]:
            done = 0
            for batch in self._work.images(arm, seconds):
                done += len(batch)
                yield to_floats(batch)
                on_progress(done, len(self._work.subjects), name)

        reference, distilled, floor = (
            map(to_floats, self._work.images(one)) for one in (self._baseline, self._distilled, self._floor)
        )
        evaluation = evaluate(
            stream(), reference=reference, distilled=distilled, floor=floor, features=self._net, metrics=metrics,
            cache=self._folder.features,
        )  # fmt: skip
        return evaluation, seconds

    def _kept(self, name: str, key: dict[str, Any]) -> Evaluated | None:
        kept = self._folder.measured(name, key)
        if kept is None:
            return None
        return Evaluated(
            tuple(Score(**score) for score in kept["scores"]), tuple(kept["flags"]),
            tuple((generator, head) for generator, head in kept["seconds"]),
        )  # fmt: skip

    def _keep(self, name: str, key: dict[str, Any], evaluated: Evaluated) -> Evaluated:
        self._folder.keep(name, key, dataclasses.asdict(evaluated))
        return evaluated


def _scores(evaluation: Evaluation, names: Mapping[str, str]) -> tuple[Score, ...]:
    """The scores that a study keeps of the arms in ``names``, by their names in the study."""
    return tuple(
        dataclasses.replace(score, arm=names[score.arm])
        for score in evaluation.scores
        if score.arm in names and score.metric in _REPORTED
    )


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
