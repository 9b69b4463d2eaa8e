"""Scores of a study's arms: each arm is evaluated once, and kept until anything that decides its scores changes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from topcoat import __version__
from topcoat.benchmark.arms import Arm
from topcoat.benchmark.record import BASELINE, DISTILLED, FLOOR
from topcoat.benchmark.run import ArmSeconds, Benchmark, Progress
from topcoat.benchmark.store import to_floats
from topcoat.benchmark.study_folder import StudyFolder
from topcoat.cost.machine import hardware
from topcoat.errors import UsageError
from topcoat.generators.base import ModelPair
from topcoat.metrics.base import Score
from topcoat.metrics.c2st import MOST_IMAGES, two_sample
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
)
"""Scores of an evaluation that a study keeps."""
_METRICS = ("paired", "identity", "artefacts")
_MOST_NUMBERS = 2**29
"""Pixels of one set that the two-sample test holds at most: 512 MiB."""


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
        self._most = min(MOST_IMAGES, _MOST_NUMBERS // (3 * pair.distilled.width_px * pair.distilled.height_px))
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
        evaluation, _, _ = self._evaluate(DISTILLED, self._distilled, ("paired", "identity"), on_progress)
        floor = evaluation.score("frechet", "floor")
        assert floor is not None
        scores = [
            *_of_arm(evaluation, "enhanced", DISTILLED),
            *self._two_sample(DISTILLED, self._work.first(self._distilled, self._most)),
            dataclasses.replace(floor, arm=FLOOR),
            *self._two_sample(FLOOR, self._work.first(self._floor, self._most)),
            *_of_arm(evaluation, "reference", BASELINE),
        ]
        return self._keep("references", self._key, Evaluated(tuple(scores), (), ()))

    def head(self, name: str, arm: Arm, digest: str, on_progress: Progress) -> Evaluated:
        """The images of an arm with a head, and its time; ``digest`` is the head's."""
        key = {**self._key, "head": digest}
        kept = self._kept(name, key)
        if kept is not None:
            return kept
        evaluation, first, seconds = self._evaluate(name, arm, _METRICS, on_progress)
        scores = [*_of_arm(evaluation, "enhanced", name), *self._two_sample(name, first)]
        flags = tuple(flag.sentence for flag in evaluation.flags)
        return self._keep(name, key, Evaluated(tuple(scores), flags, tuple(seconds)))

    def _evaluate(
        self, name: str, arm: Arm, metrics: Sequence[str], on_progress: Progress
    ) -> tuple[Evaluation, Tensor, list[tuple[float, float | None]]]:
        """The evaluation of an arm, its first images as bytes, and its seconds."""
        seconds: list[tuple[float, float | None]] = []
        first: list[Tensor] = []

        def stream() -> Iterator[Tensor]:
            done = 0
            for batch in self._work.images(arm, seconds):
                if done < self._most:
                    first.append(batch[: self._most - done])
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
        return evaluation, torch.cat(first), seconds

    def _two_sample(self, arm: str, images: Tensor) -> list[Score]:
        """How well a fresh classifier tells ``images`` from the baseline's of the same subjects; none where too few."""
        try:
            result = two_sample(images, self._work.first(self._baseline, self._most))
        except UsageError:
            return []
        return [
            Score("c2st_accuracy", arm, result.accuracy, result.accuracy_low, result.accuracy_high, result.n, "share",
                  "low", family="two-sample"),
            Score("c2st_auc", arm, result.auc, n=result.n, better="low", family="two-sample"),
        ]  # fmt: skip

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


def _of_arm(evaluation: Evaluation, arm: str, name: str) -> list[Score]:
    """The scores of an arm that a study reports, under the arm's ``name`` in the study."""
    return [
        dataclasses.replace(score, arm=name)
        for score in evaluation.scores
        if score.arm == arm and score.metric in _REPORTED
    ]


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
