"""Training batches whose content depends on the seed and the number of images seen alone.

Image number k of a run is pair ``order[k // n][k % n]``, with one seeded shuffle per pass over the n pairs, and its
crop and flip come from a generator seeded with k. So a resumed run sees what an uninterrupted one would have seen, and
nothing about the order has to be saved. Unpaired batches draw both sides like this, each from random streams of its
own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from topcoat.errors import DataError

_SHUFFLE, _CROP, _OTHER_SHUFFLE, _OTHER_CROP = 0, 1, 2, 3  # separate random streams of one seed
_DISTILLED, _BASELINE = 0, 1
_BLOCK_PAIRS = 50
"""Neighbours that are read together: they share a row group of a dataset, which is read as a whole."""


class ImagePair(Protocol):
    """What is read of a `topcoat.pairs.dataset.Pair`: two images ``(3, H, W)`` in [0, 1]."""

    @property
    def distilled(self) -> Tensor:
        """What the head is given."""
        ...

    @property
    def baseline(self) -> Tensor:
        """What it should give."""
        ...


class PairSource(Protocol):
    """What training reads of a `topcoat.pairs.dataset.PairDataset`."""

    @property
    def digest(self) -> str:
        """Changes with any pair or their order."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> ImagePair: ...


class ChangedPairs:
    """Base of sources that change each pair of another as it is read: as many pairs, and of the same digest."""

    def __init__(self, pairs: PairSource) -> None:
        self._pairs = pairs

    @property
    def digest(self) -> str:
        """That of the pairs."""
        return self._pairs.digest

    def __len__(self) -> int:
        return len(self._pairs)


@dataclass(frozen=True, slots=True)
class Batch:
    """Distilled images ``x`` and baseline images ``y``: ``(N, 3, H, W)`` float32 in [0, 1]."""

    x: Tensor
    y: Tensor
    latents: Tensor | None = None
    """``(N, C, h, w)`` float32, those of ``x``, where the head decodes latents."""
    targets: Tensor | None = None
    """``(N, C, h, w)`` float32, those of ``y``, where latents are compared."""

    def pieces(self, count: int) -> list[Batch]:
        """``count`` batches of equal size, in order."""
        size = len(self.x) // count
        cuts = [slice(index * size, (index + 1) * size) for index in range(count)]
        return [Batch(self.x[c], self.y[c], _rows(self.latents, c), _rows(self.targets, c)) for c in cuts]


@dataclass(frozen=True, slots=True)
class PairPixels:
    """A decoded pair: uint8 ``(2, 3, H, W)``, distilled and baseline, and where asked for the latents ``(C, h, w)``
    of the first and, as targets, of the second."""

    pixels: Tensor
    latents: Tensor | None = None
    targets: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return sum(part.nbytes for part in (self.pixels, self.latents, self.targets) if part is not None)


class PairBytes:
    """The pairs as `PairPixels`, decoded once and kept if all of them fit in ``cache_mebibytes``.

    Those that are kept are read with their neighbours: a shuffled first pass over a dataset would otherwise read a
    whole row group for nearly every image. Exact for images that come from 8-bit files. ``latents`` asks for the
    distilled model's latents of that many channels, ``encode`` for those of the baseline image: what the pair holds,
    or else what it makes of one image ``(3, H, W)`` in [0, 1]; once for a pair that is kept, and of the whole image,
    so that a cut shows it what lies beyond.
    """

    def __init__(
        self,
        pairs: PairSource,
        cache_mebibytes: int,
        latents: int | None = None,
        encode: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if len(pairs) == 0:
            raise DataError("the dataset has no training pairs; build some with topcoat pairs build")
        self._pairs = pairs
        self._latents, self._encode = latents, encode
        self._kept: dict[int, PairPixels] = {}
        first = self._read(0)
        self._keep = first.nbytes * len(pairs) <= cache_mebibytes * 2**20
        if self._keep:
            self._kept[0] = first

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> PairPixels:
        if not self._keep:
            return self._read(index)
        if index not in self._kept:
            start = index // _BLOCK_PAIRS * _BLOCK_PAIRS
            for neighbour in range(start, min(start + _BLOCK_PAIRS, len(self))):
                if neighbour not in self._kept:
                    self._kept[neighbour] = self._read(neighbour)
        return self._kept[index]

    def _read(self, index: int) -> PairPixels:
        pair = self._pairs[index]
        if pair.distilled.shape != pair.baseline.shape:
            sizes = f"{_size(pair.distilled)} and {_size(pair.baseline)}"
            raise DataError(f"pair {index} has images of {sizes}; build the pairs again with one size for both")
        pixels = torch.stack([pair.distilled, pair.baseline]).mul(255).round().clamp(0, 255).to(torch.uint8)
        return PairPixels(
            pixels,
            None if self._latents is None else latents_of(pair, index, self._latents),
            None if self._encode is None else self._targets(pair, pixels[_BASELINE], self._encode),
        )

    @staticmethod
    def _targets(pair: ImagePair, baseline: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        kept: Tensor | None = getattr(pair, "baseline_latents", None)
        return encode(baseline.float() / 255) if kept is None else kept.float()


def latents_of(pair: ImagePair, index: int, channels: int) -> Tensor:
    """The distilled model's latents ``(C, h, w)`` of a pair; raises `DataError` if it has none or other channels."""
    latents: Tensor | None = getattr(pair, "latents", None)
    if latents is None:
        raise DataError(f"pair {index} has no latents, which this head decodes; build the pairs again with latents")
    if latents.ndim != 3 or latents.shape[0] != channels:
        raise DataError(
            f"pair {index} has latents of shape {tuple(latents.shape)}, but the head takes {channels} channels; "
            f"set head.latent_channels to {latents.shape[0]}"
        )
    return latents.float()


@dataclass(frozen=True, slots=True)
class Cutting:
    """How images are cut: the side of the square (None for whole images), mirroring, the granularity."""

    crop_px: int | None
    flip: bool
    size_multiple: int


class PairBatches:
    """Cuts, mirrors and stacks pairs, both halves alike; see the module's text for the order.

    Whole images are cut to a multiple of ``size_multiple``. Where the pairs hold latents, cuts lie on whole latents, of
    which ``size_multiple`` is the side.
    """

    def __init__(self, pairs: PairBytes, *, seed: int, crop_px: int | None, flip: bool, size_multiple: int) -> None:
        self._pairs = pairs
        self._cutting = Cutting(crop_px, flip, size_multiple)
        self._seed = seed
        self._order = _Order(len(pairs), seed, _SHUFFLE)

    def batch(self, first_image: int, count: int) -> Batch:
        """Images number ``first_image`` to ``first_image + count - 1`` of the run."""
        cuts = [self._cut(number) for number in range(first_image, first_image + count)]
        pixels = _stacked([cut.pixels for cut in cuts])  # (N, 2, 3, H, W)
        return Batch(
            x=pixels[:, _DISTILLED].contiguous(),
            y=pixels[:, _BASELINE].contiguous(),
            latents=_stacked_latents([cut.latents for cut in cuts]),
            targets=_stacked_latents([cut.targets for cut in cuts]),
        )

    def _cut(self, number: int) -> PairPixels:
        index = self._order[number]
        pair = self._pairs[index]
        random = np.random.default_rng([self._seed, _CROP, number])
        if pair.latents is not None:
            return _cut_with_latents(pair, pair.latents, index, self._cutting, random)
        return PairPixels(_cut(pair.pixels, index, self._cutting, random))


class UnpairedBatches:
    """As `PairBatches`, but the two sides of a batch are drawn, cut and mirrored apart from each other."""

    def __init__(self, pairs: PairBytes, *, seed: int, crop_px: int | None, flip: bool, size_multiple: int) -> None:
        self._pairs = pairs
        self._cutting = Cutting(crop_px, flip, size_multiple)
        self._seed = seed
        self._orders = (_Order(len(pairs), seed, _SHUFFLE), _Order(len(pairs), seed, _OTHER_SHUFFLE))

    def batch(self, first_image: int, count: int) -> Batch:
        """Images number ``first_image`` to ``first_image + count - 1`` of the run, on both sides."""
        numbers = range(first_image, first_image + count)
        sides = [_stacked([self._cut(number, side) for number in numbers]) for side in (_DISTILLED, _BASELINE)]
        return Batch(x=sides[_DISTILLED], y=sides[_BASELINE])

    def _cut(self, number: int, side: int) -> Tensor:
        index = self._orders[side][number]
        random = np.random.default_rng([self._seed, (_CROP, _OTHER_CROP)[side], number])
        return _cut(self._pairs[index].pixels[side], index, self._cutting, random)


class _Order:
    """Which pair is image number k: one seeded shuffle per pass."""

    def __init__(self, count: int, seed: int, stream: int) -> None:
        self._count = count
        self._seed = seed
        self._stream = stream
        self._last: tuple[int, Sequence[int]] = (-1, ())  # the last pass and its shuffle

    def __getitem__(self, number: int) -> int:
        turn, place = divmod(number, self._count)
        if self._last[0] != turn:
            random = np.random.default_rng([self._seed, self._stream, turn])
            self._last = (turn, random.permutation(self._count).tolist())
        return self._last[1][place]


def _cut(pixels: Tensor, index: int, cutting: Cutting, random: np.random.Generator) -> Tensor:
    """A random square (or all) of ``pixels`` ``(..., H, W)``, mirrored half of the time."""
    height, width = pixels.shape[-2:]
    cut_height, cut_width = _cut_size(pixels, index, cutting)
    top = int(random.integers(height - cut_height + 1))
    left = int(random.integers(width - cut_width + 1))
    mirror = cutting.flip and bool(random.integers(2))
    cut = pixels[..., top : top + cut_height, left : left + cut_width]
    return cut.flip(-1) if mirror else cut


def _cut_with_latents(
    pair: PairPixels, latents: Tensor, index: int, cutting: Cutting, random: np.random.Generator
) -> PairPixels:
    """The same random square of all, on whole latents."""
    scale, pixels = cutting.size_multiple, pair.pixels
    rows, columns = latents.shape[-2:]
    if (rows * scale, columns * scale) != tuple(pixels.shape[-2:]):
        raise DataError(
            f"pair {index} has {_size(pixels)} px and {columns}x{rows} latents, but the head makes {scale} px of a "
            "latent; use a head with another number of scales"
        )
    cut_height, cut_width = _cut_size(pixels, index, cutting)
    high, wide = cut_height // scale, cut_width // scale
    top = int(random.integers(rows - high + 1))
    left = int(random.integers(columns - wide + 1))
    return PairPixels(
        pixels[..., top * scale : top * scale + cut_height, left * scale : left * scale + cut_width],
        latents[:, top : top + high, left : left + wide],
        None if pair.targets is None else pair.targets[:, top : top + high, left : left + wide],
    )


def _cut_size(pixels: Tensor, index: int, cutting: Cutting) -> tuple[int, int]:
    height, width = pixels.shape[-2:]
    if cutting.crop_px is None:
        cut_height = height // cutting.size_multiple * cutting.size_multiple
        cut_width = width // cutting.size_multiple * cutting.size_multiple
    else:
        cut_height = cut_width = cutting.crop_px
    if not (0 < cut_height <= height and 0 < cut_width <= width):
        wanted = cutting.crop_px or cutting.size_multiple
        raise DataError(f"pair {index} has {_size(pixels)} px, less than the {wanted} px to cut; lower crop_px")
    return cut_height, cut_width


def _stacked_latents(cuts: Sequence[Tensor | None]) -> Tensor | None:
    there = [cut for cut in cuts if cut is not None]
    return torch.stack(there) if there else None


def _rows(tensor: Tensor | None, part: slice) -> Tensor | None:
    return None if tensor is None else tensor[part]


def _stacked(cuts: Sequence[Tensor]) -> Tensor:
    """uint8 cuts as one float tensor in [0, 1]."""
    if len({cut.shape for cut in cuts}) > 1:
        raise DataError("the training pairs have several sizes; set crop_px, or batch_size to 1")
    return torch.stack(list(cuts)).float().div_(255)


def _size(image: Tensor) -> str:
    return f"{image.shape[-1]}x{image.shape[-2]}"
