"""Near-duplicate subjects: pairs that a feature net can hardly tell apart, found over a whole dataset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.features import FeatureNet, load_feature_net
from topcoat.pairs.dataset import PairDataset
from topcoat.pairs.filters import Verdict
from topcoat.pairs.similarity import feature_vectors

NAME = "near-duplicates"
"""What the filter is called in a manifest."""

DUPLICATE_SIMILARITY = 0.95
"""Default similarity from which two subjects count as one; `topcoat pairs inspect` shows what else is that alike."""

_BLOCK = 2048  # rows compared at a time: two blocks give 16 MB of similarities


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The most similar earlier pair that is kept: its position (-1 for none), and the cosine."""

    position: int
    similarity: float


def near_duplicates(
    dataset: PairDataset,
    threshold: float = DUPLICATE_SIMILARITY,
    *,
    net: FeatureNet | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Verdict]:
    """One verdict for each pair id: the later of two pairs whose baselines are ``threshold`` alike or more is dropped.

    Alike is the cosine of the feature vectors (net ``loss``) of the baseline images; ``threshold`` lies
    in (0, 1]. A pair is compared with the earlier pairs that are kept, in the order of the dataset, so a chain of
    likenesses does not drop everything. Memory: one vector (256 bytes) for each pair.

    Raises `UsageError` for another threshold, `DataError` for an image that cannot be read.
    """
    net = load_feature_net("loss") if net is None else net
    check_threshold(threshold)
    vectors: list[Tensor] = []
    for index in range(len(dataset)):
        vectors.append(feature_vectors(net, dataset.image(index, "baseline")[None]))
        if on_progress is not None:
            on_progress(index + 1, len(dataset))
    if not vectors:
        return {}
    found = nearest_earlier(torch.cat(vectors), threshold)
    return {
        record.id: verdict(neighbour, threshold, dataset.records[neighbour.position].id)
        for record, neighbour in zip(dataset.records, found, strict=True)
    }


def check_threshold(threshold: float) -> float:
    """``threshold`` if it is one; raises `UsageError` outside (0, 1]."""
    if not 0 < threshold <= 1:
        raise UsageError(f"a similarity threshold of {threshold} is not possible; use more than 0 and at most 1")
    return threshold


def verdict(neighbour: Neighbour, threshold: float, other_id: str) -> Verdict:
    """The verdict on a pair whose nearest earlier kept pair is ``neighbour``, called ``other_id``."""
    if neighbour.similarity < threshold:
        return Verdict(True, "", neighbour.similarity)
    reason = f"near-duplicate of {other_id}: feature similarity {neighbour.similarity:.3f}, {threshold:.3f} or more"
    return Verdict(False, reason, neighbour.similarity)


def nearest_earlier(vectors: Tensor, threshold: float) -> list[Neighbour]:
    """For each row of unit vectors ``(N, D)`` the nearest earlier row that is itself under ``threshold``.

    The first row has none, which counts as a similarity of -1. Rows are compared in blocks, so memory does not grow
    with N squared; time does.
    """
    count = len(vectors)
    kept = torch.zeros(count, dtype=torch.bool)
    best = torch.full((count,), -1.0)
    place = torch.full((count,), -1, dtype=torch.long)
    for start in range(0, count, _BLOCK):
        rows = slice(start, min(start + _BLOCK, count))
        for before in range(0, start, _BLOCK):
            columns = slice(before, before + _BLOCK)
            likeness = _cosines(vectors[rows], vectors[columns]).masked_fill(~kept[columns], -1.0)
            value, index = likeness.max(dim=1)
            better = value > best[rows]
            best[rows] = torch.where(better, value, best[rows])
            place[rows] = torch.where(better, index + before, place[rows])
        own = _cosines(vectors[rows], vectors[rows])
        for offset in range(own.shape[0]):
            row = start + offset
            if offset:
                value, index = own[offset, :offset].masked_fill(~kept[start:row], -1.0).max(dim=0)
                if value > best[row]:
                    best[row], place[row] = value, index + start
            kept[row] = best[row] < threshold
    return [Neighbour(int(index), float(value)) for index, value in zip(place, best, strict=True)]


def _cosines(a: Tensor, b: Tensor) -> Tensor:
    """Cosines to six decimals: a float32 product rounds its last digits differently on other machines."""
    return (a @ b.T).mul(1e6).round().div(1e6).clamp(-1, 1)
