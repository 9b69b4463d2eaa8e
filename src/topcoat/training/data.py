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
from topcoat.heads.head import Head
from topcoat.heads.network import Network

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


@dataclass(frozen=True, slots=True)
class ChangedPair:
    """A pair with something in it replaced."""

    distilled: Tensor
    baseline: Tensor
    latents: Tensor | None = None
    baseline_latents: Tensor | None = None


class ChangedPairs:
    """The pairs of another source, each changed as it is read: as many, and of the same digest."""

    def __init__(self, pairs: PairSource, change: Callable[[ImagePair, int], ImagePair]) -> None:
        self._pairs, self._change = pairs, change

    @property
    def digest(self) -> str:
        """That of the pairs."""
        return self._pairs.digest

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int, /) -> ImagePair:
        return self._change(self._pairs[index], index)


def taught_by(teacher: Head) -> Callable[[ImagePair, int], ImagePair]:
    """What puts the image that ``teacher`` makes in the place of the baseline's: one head learns from another.

    What a teacher makes of x follows from x, while y has details that x says nothing of, so it is learnt sooner. A
    teacher that decodes latents needs pairs with latents: `DataError` where they have none.
    """

    def change(pair: ImagePair, index: int) -> ImagePair:
        channels = teacher.latent_channels
        given = pair.distilled if channels is None else latents_of(pair, index, channels)
        return ChangedPair(pair.distilled, teacher(given[None])[0], getattr(pair, "latents", None))

    return change


def with_latents_of(network: Network) -> Callable[[ImagePair, int], ImagePair]:
    """What gives a pair the latents that ``network``, a refiner, makes of the distilled image and changes.

    It is not trained meanwhile in what makes them.
    """

    @torch.no_grad()
    def change(pair: ImagePair, _: int) -> ImagePair:
        device = next(network.parameters()).device
        images = pair.distilled[None].to(device).contiguous(memory_format=torch.channels_last)
        latents = network.latents_of(images)[0].float().cpu()
        return ChangedPair(pair.distilled, pair.baseline, latents, getattr(pair, "baseline_latents", None))

    return change


@dataclass(frozen=True, slots=True)
class Batch:
    """Distilled images ``x`` and baseline images ``y``: ``(N, 3, H, W)`` float32 in [0, 1]."""

    x: Tensor
    y: Tensor
    latents: Tensor | None = None
    """``(N, C, h, w)`` float32, those of ``x``, where the head decodes latents."""
    targets: Tensor | None = None
    """``(N, C, h, w)`` float32, those of ``y``, where latents are compared."""
    first_image: int = 0
    """The number of its first image in the stage."""

    def micro_batches(self, count: int) -> list[Batch]:
        """``count`` batches of equal size, in order."""
        size = len(self.x) // count
        parts = [slice(index * size, (index + 1) * size) for index in range(count)]
        return [
            Batch(
                self.x[part],
                self.y[part],
                _rows(self.latents, part),
                _rows(self.targets, part),
                self.first_image + part.start,
            )
            for part in parts
        ]


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


class CachedPairs:
    """The pairs as `PairPixels`, decoded once and cached if all of them fit in ``cache_mebibytes``.

    Those that are cached are read with their neighbours: a shuffled first pass over a dataset would otherwise read a
    whole row group for nearly every image. Exact for images that come from 8-bit files. ``latents`` asks for the
    distilled model's latents of that many channels, ``encode`` for those of the baseline image: what the pair holds,
    or else what it makes of one image ``(3, H, W)`` in [0, 1]; once for a pair that is cached, and of the whole image,
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
        self._cache: dict[int, PairPixels] = {}
        first = self._read(0)
        self._cache_all = first.nbytes * len(pairs) <= cache_mebibytes * 2**20
        if self._cache_all:
            self._cache[0] = first

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> PairPixels:
        if not self._cache_all:
            return self._read(index)
        if index not in self._cache:
            start = index // _BLOCK_PAIRS * _BLOCK_PAIRS
            for neighbour in range(start, min(start + _BLOCK_PAIRS, len(self))):
                if neighbour not in self._cache:
                    self._cache[neighbour] = self._read(neighbour)
        return self._cache[index]

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
        stored: Tensor | None = getattr(pair, "baseline_latents", None)
        return encode(baseline.float() / 255) if stored is None else stored.float()


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
class Crop:
    """How images are cropped: the side of the square (None for whole images), mirroring, the granularity."""

    crop_px: int | None
    flip: bool
    size_multiple: int


class PairBatches:
    """Cuts, mirrors and stacks pairs, both halves alike; see the module's text for the order.

    Whole images are cut to a multiple of ``size_multiple``. Where the pairs hold latents, cuts lie on whole latents, of
    which ``size_multiple`` is the side.
    """

    def __init__(self, pairs: CachedPairs, *, seed: int, crop_px: int | None, flip: bool, size_multiple: int) -> None:
        self._pairs = pairs
        self._crop = Crop(crop_px, flip, size_multiple)
        self._seed = seed
        self._order = _Order(len(pairs), seed, _SHUFFLE)

    def batch(self, first_image: int, count: int) -> Batch:
        """Images number ``first_image`` to ``first_image + count - 1`` of the run."""
        cuts = [self._cropped(number) for number in range(first_image, first_image + count)]
        pixels = _stacked([cut.pixels for cut in cuts])  # (N, 2, 3, H, W)
        return Batch(
            x=pixels[:, _DISTILLED].contiguous(),
            y=pixels[:, _BASELINE].contiguous(),
            latents=_stacked_latents([cut.latents for cut in cuts]),
            targets=_stacked_latents([cut.targets for cut in cuts]),
            first_image=first_image,
        )

    def _cropped(self, number: int) -> PairPixels:
        index = self._order[number]
        pair = self._pairs[index]
        random = np.random.default_rng([self._seed, _CROP, number])
        if pair.latents is not None:
            return _crop_with_latents(pair, pair.latents, index, self._crop, random)
        return PairPixels(_crop(pair.pixels, index, self._crop, random))


class UnpairedBatches:
    """As `PairBatches`, but the two sides of a batch are drawn, cut and mirrored apart from each other."""

    def __init__(self, pairs: CachedPairs, *, seed: int, crop_px: int | None, flip: bool, size_multiple: int) -> None:
        self._pairs = pairs
        self._crop = Crop(crop_px, flip, size_multiple)
        self._seed = seed
        self._orders = (_Order(len(pairs), seed, _SHUFFLE), _Order(len(pairs), seed, _OTHER_SHUFFLE))

    def batch(self, first_image: int, count: int) -> Batch:
        """Images number ``first_image`` to ``first_image + count - 1`` of the run, on both sides."""
        numbers = range(first_image, first_image + count)
        sides = [_stacked([self._cropped(number, side) for number in numbers]) for side in (_DISTILLED, _BASELINE)]
        return Batch(x=sides[_DISTILLED], y=sides[_BASELINE], first_image=first_image)

    def _cropped(self, number: int, side: int) -> Tensor:
        index = self._orders[side][number]
        random = np.random.default_rng([self._seed, (_CROP, _OTHER_CROP)[side], number])
        return _crop(self._pairs[index].pixels[side], index, self._crop, random)


class _Order:
    """Which pair is image number k: one seeded shuffle per pass."""

    def __init__(self, count: int, seed: int, stream: int) -> None:
        self._count = count
        self._seed = seed
        self._stream = stream
        self._last: tuple[int, Sequence[int]] = (-1, ())  # the last pass and its shuffle

    def __getitem__(self, number: int) -> int:
        turn, position = divmod(number, self._count)
        if self._last[0] != turn:
            random = np.random.default_rng([self._seed, self._stream, turn])
            self._last = (turn, random.permutation(self._count).tolist())
        return self._last[1][position]


def _crop(pixels: Tensor, index: int, crop: Crop, random: np.random.Generator) -> Tensor:
    """A random square (or all) of ``pixels`` ``(..., H, W)``, mirrored half of the time."""
    height, width = pixels.shape[-2:]
    cut_height, cut_width = _crop_size(pixels, index, crop)
    top = int(random.integers(height - cut_height + 1))
    left = int(random.integers(width - cut_width + 1))
    mirror = crop.flip and bool(random.integers(2))
    cut = pixels[..., top : top + cut_height, left : left + cut_width]
    return cut.flip(-1) if mirror else cut


def _crop_with_latents(
    pair: PairPixels, latents: Tensor, index: int, crop: Crop, random: np.random.Generator
) -> PairPixels:
    """The same random square of all, on whole latents."""
    scale, pixels = crop.size_multiple, pair.pixels
    rows, columns = latents.shape[-2:]
    if (rows * scale, columns * scale) != tuple(pixels.shape[-2:]):
        raise DataError(
            f"pair {index} has {_size(pixels)} px and {columns}x{rows} latents, but the head makes {scale} px of a "
            "latent; use a head with another number of scales"
        )
    cut_height, cut_width = _crop_size(pixels, index, crop)
    high, wide = cut_height // scale, cut_width // scale
    top = int(random.integers(rows - high + 1))
    left = int(random.integers(columns - wide + 1))
    return PairPixels(
        pixels[..., top * scale : top * scale + cut_height, left * scale : left * scale + cut_width],
        latents[:, top : top + high, left : left + wide],
        None if pair.targets is None else pair.targets[:, top : top + high, left : left + wide],
    )


def _crop_size(pixels: Tensor, index: int, crop: Crop) -> tuple[int, int]:
    height, width = pixels.shape[-2:]
    if crop.crop_px is None:
        cut_height = height // crop.size_multiple * crop.size_multiple
        cut_width = width // crop.size_multiple * crop.size_multiple
    else:
        cut_height = cut_width = crop.crop_px
    if not (0 < cut_height <= height and 0 < cut_width <= width):
        side = crop.crop_px or crop.size_multiple
        raise DataError(f"pair {index} has {_size(pixels)} px, less than the {side} px to cut; lower crop_px")
    return cut_height, cut_width


def _stacked_latents(cuts: Sequence[Tensor | None]) -> Tensor | None:
    present = [cut for cut in cuts if cut is not None]
    return torch.stack(present) if present else None


def _rows(tensor: Tensor | None, part: slice) -> Tensor | None:
    return None if tensor is None else tensor[part]


def _stacked(cuts: Sequence[Tensor]) -> Tensor:
    """uint8 cuts as one float tensor in [0, 1]."""
    if len({cut.shape for cut in cuts}) > 1:
        raise DataError("the training pairs have several sizes; set crop_px, or batch_size to 1")
    return torch.stack(list(cuts)).float().div_(255)


def _size(image: Tensor) -> str:
    return f"{image.shape[-1]}x{image.shape[-2]}"
