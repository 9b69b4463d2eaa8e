"""A dataset with a head behind its distilled images, as sets to evaluate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from topcoat.errors import UsageError
from topcoat.heads.head import Head
from topcoat.metrics.sources import Source, SubjectSets
from topcoat.pairs.dataset import PairDataset
from topcoat.prompts import Split

Gate = Callable[[Tensor, Tensor, float], Tensor]
"""From distilled images, enhanced ones (both ``(N, 3, H, W)``) and the strength to gated images."""


def from_pairs(folder: Path, split: Split, head: Head, strength: float, gate: Gate | None = None) -> Source:
    """A split with a head behind its distilled images, or behind their latents where the head takes those.

    With ``gate`` the set ``gated`` holds what it makes of the head's results. Raises `UsageError` for fewer than 2
    pairs, and for a head that takes latents where the pairs hold none.
    """
    dataset = PairDataset.open(folder).split(split)
    from_latents = head.input == "latent"
    if from_latents and not dataset.pairing.latents:
        raise UsageError(
            f"the head takes latents, and the pairs in {folder} hold none; build them with --latents, or use a head "
            "that takes images"
        )
    if len(dataset) < 2:
        raise UsageError(
            f"{folder} has {len(dataset)} pairs in its {split} split; choose another --split, or build more"
        )

    def read(index: int) -> SubjectSets:
        distilled = dataset.image(index, "distilled")
        inputs = dataset.latents(index) if from_latents else distilled
        assert inputs is not None
        enhanced = head(inputs[None], strength)
        images = {"enhanced": enhanced[0], "baseline": dataset.image(index, "baseline"), "distilled": distilled}
        return images if gate is None else images | {"gated": gate(distilled[None], enhanced, strength)[0]}

    records = dataset.records
    return Source(
        sets=("enhanced", "baseline", "distilled", *(() if gate is None else ("gated",))),
        captions=[f"{record.id}: {record.prompt}" for record in records],
        read=read,
        inputs={
            "data": folder.name,
            "dataset_digest": dataset.digest,
            "split": split,
            "head_digest": head.digest,
            "strength": strength,
        },
        attributes=[record.attributes for record in records] if any(record.attributes for record in records) else None,
        texts=[record.prompt for record in records],
        pair=dataset.manifest.pair,
    )
