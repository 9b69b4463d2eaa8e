"""`evaluate`: from images to the numbers that say whether they are as good as the baseline's."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal

import torch
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.evaluation.embed import Embeddings, FeatureNetLike, Images, batches, embed, embed_batch, join
from topcoat.evaluation.frechet import GaussianStatistics, frechet_distance
from topcoat.evaluation.gap import GapClosed, gap_closed
from topcoat.evaluation.identity import Identity, IdentityPairs, identity, identity_pairs
from topcoat.evaluation.kernel import kernel_distance
from topcoat.evaluation.paired import gradient_energy, psnr
from topcoat.features import load_feature_net

ENOUGH_IMAGES = 1000
"""Below this a set distance is printed with a warning: its bias is of the size of what it measures."""


@dataclass(frozen=True, slots=True)
class FeatureRecord:
    """Which feature net the figures come from."""

    net: str
    digest: str
    dimensions: int


@dataclass(frozen=True, slots=True)
class SetScores:
    """One set of images against the reference."""

    n: int
    frechet: float
    kernel: float
    gradient_energy: float
    psnr: float | None
    """Mean dB to the reference of the same subject; None where the sets are not of one length."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of `evaluate`; parts that need images which were not given are None."""

    n: int
    n_reference: int
    features: FeatureRecord
    enhanced: SetScores
    distilled: SetScores | None
    """The do-nothing score."""
    floor: SetScores | None
    """The baseline at other seeds."""
    reference_gradient_energy: float
    gap_closed: GapClosed | None
    identity: Identity | None
    identity_pairs: IdentityPairs | None
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dataclasses.asdict(self)

    def summary(self) -> str:
        """One paragraph that a person can read."""
        parts = [
            f"{self.n:,} enhanced images against {self.n_reference:,} reference images "
            f"(feature net {self.features.net}, {self.features.dimensions} dimensions): "
            f"measured Fréchet distance {self.enhanced.frechet:.3f}"
        ]
        if self.distilled is not None:
            parts.append(f", do-nothing score {self.distilled.frechet:.3f}")
        if self.floor is not None:
            parts.append(f", floor {self.floor.frechet:.3f}")
        parts.append(".")
        if self.gap_closed is not None:
            parts.append(f" {describe_gap(self.gap_closed)}")
        if self.identity is not None:
            parts.append(f" Identity kept: mean {self.identity.mean:.3f}, 5th percentile {self.identity.p05:.3f}.")
        return "".join(parts) + "".join(f" Note: {note}." for note in self.notes)


def describe_gap(gap: GapClosed) -> str:
    """The share of the gap closed as a sentence."""
    if gap.value is None or gap.low is None or gap.high is None:
        return "No gap can be measured: the distilled images are as near to the baseline as it is to itself."
    value, low, high = (f"{share * 100:.0f} %" for share in (gap.value, gap.low, gap.high))
    return f"Share of the gap closed: {value} (95 % interval {low} to {high})."


def evaluate(
    enhanced: Images,
    *,
    reference: Images,
    distilled: Images | None = None,
    floor: Images | None = None,
    features: Literal["eval", "loss"] | FeatureNetLike = "eval",
    batch_size: int = 32,
    seed: int = 0,
) -> Evaluation:
    """Compare ``enhanced`` images with those of the ``reference`` (the baseline model).

    Every argument is a stream of images ``(3, H, W)`` or batches ``(N, 3, H, W)``, RGB in [0, 1]. ``distilled`` are the
    head's inputs in the same order and give the do-nothing score and identity; ``floor`` is the baseline at other
    seeds. With both, and a reference of the same subjects, the share of the gap closed is measured. Streams are read
    once, in step, so memory does not grow with N beyond the features.

    Raises `UsageError` for images that are not images, mixed sizes, fewer than 2, or distilled and enhanced of
    different lengths.
    """
    net, name = (load_feature_net(features), features) if isinstance(features, str) else (features, "custom")
    names = ("enhanced", "reference", "distilled")
    given = (enhanced, reference, () if distilled is None else distilled)
    streams = [batches(stream, batch_size, called) for called, stream in zip(names, given, strict=True)]
    told = _read_in_step(streams, net)
    z, y = (join(told.parts[index], names[index]) for index in (0, 1))
    x = join(told.parts[2], "distilled") if distilled is not None else None
    y2_energy: list[Tensor] = []
    y2 = embed(_listen(floor, y2_energy, batch_size), net, batch_size) if floor is not None else None
    if x is not None and len(x) != len(z):
        raise UsageError(f"{len(x)} distilled and {len(z)} enhanced images are not pairs; give as many of each")
    paired = len(y) == len(z)
    to_y = _Against(y)
    gap = None
    if x is not None and y2 is not None and paired:
        gap = gap_closed(x.embedding, z.embedding, y.embedding, y2.embedding, seed=seed)
    return Evaluation(
        n=len(z),
        n_reference=len(y),
        features=FeatureRecord(name, net.digest, y.embedding.shape[1]),
        enhanced=to_y.scores(z, told.energy[0], told.psnr[0] if paired else None),
        distilled=None if x is None else to_y.scores(x, told.energy[2], told.psnr[1] if paired else None),
        floor=None if y2 is None else to_y.scores(y2, y2_energy, None),
        reference_gradient_energy=float(torch.cat(told.energy[1]).mean()),
        gap_closed=gap,
        identity=None if x is None else identity(x.identity, z.identity),
        identity_pairs=identity_pairs(x.identity, y.identity) if x is not None and paired else None,
        notes=_notes(min(len(z), len(y)), y.embedding.shape[1]),
    )


class _Told:
    """What one pass over enhanced, reference and distilled found."""

    def __init__(self) -> None:
        self.parts: list[list[Embeddings]] = [[], [], []]
        self.energy: list[list[Tensor]] = [[], [], []]
        self.psnr: list[list[Tensor]] = [[], []]


def _read_in_step(streams: list[Iterator[Tensor]], net: FeatureNetLike) -> _Told:
    told = _Told()
    for group in zip_longest(*streams):
        for index, batch in enumerate(group):
            if batch is not None:
                told.parts[index].append(embed_batch(batch, net))
                told.energy[index].append(gradient_energy(batch))
        z, y, x = group
        for row, batch in enumerate((z, x)):
            if batch is not None and y is not None:
                told.psnr[row].append(_psnr_or_size_error(batch, y, ("enhanced", "distilled")[row]))
    return told


def _psnr_or_size_error(batch: Tensor, reference: Tensor, name: str) -> Tensor:
    if batch.shape[-2:] != reference.shape[-2:]:
        sizes = f"{batch.shape[-1]}x{batch.shape[-2]} and {reference.shape[-1]}x{reference.shape[-2]}"
        raise UsageError(
            f"{name} and reference images are of different sizes ({sizes} px); resize them to one size first"
        )
    count = min(len(batch), len(reference))
    return psnr(batch[:count], reference[:count])


def _listen(images: Images, energies: list[Tensor], batch_size: int) -> Iterator[Tensor]:
    for batch in batches(images, batch_size, "floor"):
        energies.append(gradient_energy(batch))
        yield batch


class _Against:
    """Scores of sets against one reference, whose statistics are made once."""

    def __init__(self, reference: Embeddings) -> None:
        self._features = reference.embedding
        self._statistics = GaussianStatistics.of(reference.embedding)

    def scores(self, found: Embeddings, energies: list[Tensor], decibels: list[Tensor] | None) -> SetScores:
        return SetScores(
            n=len(found),
            frechet=frechet_distance(self._statistics, GaussianStatistics.of(found.embedding)),
            kernel=kernel_distance(self._features, found.embedding),
            gradient_energy=float(torch.cat(energies).mean()),
            # Equal images have no finite PSNR; 100 dB is what 8-bit files cannot reach, and JSON can hold it.
            psnr=None if decibels is None else float(torch.cat(decibels).clamp_max(100).mean()),
        )


def _notes(n: int, dimensions: int) -> tuple[str, ...]:
    if n >= ENOUGH_IMAGES:
        return ()
    return (
        f"set distances of {n} images in {dimensions} dimensions are biased upwards and only comparable at the same "
        f"number; use {ENOUGH_IMAGES:,} or more for a figure to quote",
    )
