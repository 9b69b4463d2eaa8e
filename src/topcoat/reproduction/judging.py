"""Measuring sets of images of the held-out subjects: each once, and kept until anything that decides it changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from topcoat import __version__
from topcoat.config import StrictModel
from topcoat.cost import hardware, summarise
from topcoat.errors import UsageError
from topcoat.generators.base import ModelPair
from topcoat.heads.head import Head
from topcoat.metrics.c2st import MOST_IMAGES, TwoSample, two_sample
from topcoat.metrics.embed import FeatureNetLike
from topcoat.metrics.evaluate import evaluate
from topcoat.metrics.identity import IdentityPairs
from topcoat.metrics.record import Evaluation, FeatureRecord
from topcoat.pairs.manifest import pair_identity
from topcoat.proof.store import to_bytes, to_floats
from topcoat.reproduction.folder import StudyFolder
from topcoat.reproduction.held_out import HeldOut, Painted, Progress, first_images
from topcoat.reproduction.record import Judged

REFERENCES = "references"
_METRICS = ("paired", "identity", "artefacts")
_MOST_NUMBERS = 2**29
"""Pixels of one set that the two-sample test holds at most: 512 MiB."""

Kept = TypeVar("Kept", bound=StrictModel)


class MeasuredHead(StrictModel):
    """What was measured of a head."""

    judged: Judged
    head_seconds: float
    """Per image, median over full batches."""


class References(StrictModel):
    """What every head stands beside."""

    do_nothing: Judged
    floor_two_sample: TwoSample | None
    identity_pairs: IdentityPairs
    features: FeatureRecord


class Judge:
    """Judges heads on subjects that were painted; results are kept in the study's folder."""

    def __init__(
        self, pair: ModelPair, folder: StudyFolder, held_out: HeldOut, net: FeatureNetLike, net_name: str
    ) -> None:
        self._folder, self._held_out, self._net, self._net_name = folder, held_out, net, net_name
        self._most = min(MOST_IMAGES, _MOST_NUMBERS // (3 * pair.distilled.width_px * pair.distilled.height_px))
        self._key = {
            "topcoat": __version__,
            "models": _digest(pair_identity(pair)),
            "subjects": _digest([held_out.prompts, held_out.seeds]),
            "features": net.digest,
            "machine": str(hardware()),  # its seconds belong to this machine
        }

    def references(self, on_progress: Progress) -> References:
        """The distilled images judged like a head's, and the baseline against itself."""
        kept = self._kept(REFERENCES, self._key, References)
        if kept is not None:
            return kept
        x = self._stream(map(to_bytes, self._held_out.images("distilled")), [], REFERENCES, on_progress)
        evaluation = self._evaluate(x, ("paired", "identity"))
        assert evaluation.identity_pairs is not None
        found = References(
            do_nothing=_judged(evaluation, self._told_apart(self._first("distilled"))),
            floor_two_sample=self._told_apart(self._first("floor")),
            identity_pairs=evaluation.identity_pairs,
            features=FeatureRecord(self._net_name, self._net.digest, evaluation.features.dimensions),
        )
        self._folder.keep(REFERENCES, self._key, found.model_dump(mode="json"))
        return found

    def head(self, name: str, head: Head, on_progress: Progress) -> MeasuredHead:
        """The head's images judged, and its time."""
        key = {**self._key, "head": head.digest}
        kept = self._kept(name, key, MeasuredHead)
        if kept is not None:
            return kept
        seconds: list[float] = []
        first: list[Tensor] = []
        z = self._stream(self._held_out.enhanced(head, seconds), first, name, on_progress)
        evaluation = self._evaluate(z, _METRICS)
        judged = _judged(evaluation, self._told_apart(torch.cat(first)))
        found = MeasuredHead(judged=judged, head_seconds=summarise(seconds).median_seconds)
        self._folder.keep(name, key, found.model_dump(mode="json"))
        return found

    def _kept(self, name: str, key: dict[str, Any], kind: type[Kept]) -> Kept | None:
        result = self._folder.measured(name, key)
        return None if result is None else kind.model_validate(result)

    def _evaluate(self, enhanced: Iterator[Tensor], metrics: Sequence[str]) -> Evaluation:
        return evaluate(
            enhanced,
            reference=self._held_out.images("baseline"),
            distilled=self._held_out.images("distilled"),
            floor=self._held_out.images("floor"),
            features=self._net,
            metrics=metrics,
            cache=self._folder.features,
        )

    def _stream(
        self, batches: Iterator[Tensor], first: list[Tensor], name: str, on_progress: Progress
    ) -> Iterator[Tensor]:
        """uint8 ``batches`` as floats, the first images kept in ``first`` as they are."""
        done = 0
        for batch in batches:
            if done < self._most:
                first.append(batch[: self._most - done])
            done += len(batch)
            yield to_floats(batch)
            on_progress(done, len(self._held_out), name)

    def _first(self, stage: Painted) -> Tensor:
        """The first images of a painted set as bytes."""
        return to_bytes(first_images(self._held_out.images(stage), self._most))

    def _told_apart(self, images: Tensor) -> TwoSample | None:
        """How well ``images`` are told from the baseline's of the same subjects; None where they are too few."""
        try:
            return two_sample(images, self._first("baseline"))
        except UsageError:
            return None


def _judged(evaluation: Evaluation, told_apart: TwoSample | None) -> Judged:
    gap, kept, paired = evaluation.gap_closed, evaluation.identity, evaluation.enhanced.paired
    assert gap is not None and kept is not None
    return Judged(
        gap=gap,
        perceptual=None if paired is None else paired.perceptual,
        identity=kept,
        two_sample=told_apart,
        grid_db=None if evaluation.artefacts is None else evaluation.artefacts.grid_db,
        flags=tuple(flag.sentence for flag in evaluation.flags),
    )


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
