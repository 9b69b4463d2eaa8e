"""Training batches whose content depends on the seed and the number of images seen alone.

Image number k of a run is pair ``order[k // n][k % n]``, with one seeded shuffle per pass over the n pairs, and its
crop and flip come from a generator seeded with k. So a resumed run sees what an uninterrupted one would have seen, and
nothing about the order has to be saved. Unpaired batches draw both sides like this, each from random streams of its
own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from topcoat.errors import DataError
from topcoat.heads.head import Head
from topcoat.heads.network import Network

if TYPE_CHECKING:
    from topcoat.pairs.dataset import Pair

_SHUFFLE, _CROP, _OTHER_SHUFFLE, _OTHER_CROP = 0, 1, 2, 3  # separate random streams of one seed
_DISTILLED, _BASELINE = 0, 1
_BLOCK_PAIRS = 50
"""Neighbours that are read together: they share a row group of a dataset, which is read as a whole."""


Change = Callable[["Pair", int], "Pair"]
"""What is done to pair number i as it is read."""


def taught_by(teacher: Head) -> Change:
    """What puts the image that ``teacher`` makes in the place of the baseline's: one head learns from another.

    What a teacher makes of x follows from x, while y has details that x says nothing of, so it is learnt sooner. A
    teacher that decodes latents needs pairs with latents: `DataError` where they have none.
    """

    def change(pair: Pair, index: int) -> Pair:
        channels = teacher.latent_channels
        given = pair.distilled if channels is None else latents_of(pair, index, channels)
        return replace(pair, baseline=teacher(given[None])[0], baseline_latents=None)

    return change


def with_latents_of(network: Network) -> Change:
    """What gives a pair the latents that ``network``, a refiner, makes of the distilled image and changes.

    It is not trained meanwhile in what makes them.
    """

    @torch.no_grad()
    def change(pair: Pair, _: int) -> Pair:
        device = next(network.parameters()).device
        images = pair.distilled[None].to(device).contiguous(memory_format=torch.channels_last)
        return replace(pair, latents=network.latents_of(images)[0].float().cpu())

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

    ``changes`` are made to every pair, one after the other. Those that are cached are read with their neighbours: a
    shuffled first pass over a dataset would otherwise read a whole row group for nearly every image. Exact for
    images that come from 8-bit files. ``latents`` asks for the distilled model's latents of that many channels,
    ``encode`` for those of the baseline image: what the pair holds, or else what it makes of one image ``(3, H,
    W)`` in [0, 1]; once for a pair that is cached, and of the whole image, so that a cut shows it what lies beyond.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        cache_mebibytes: int,
        latents: int | None = None,
        encode: Callable[[Tensor], Tensor] | None = None,
        changes: Sequence[Change] = (),
    ) -> None:
        if len(pairs) == 0:
            raise DataError("the dataset has no training pairs; build some with topcoat pairs build")
        self._pairs = pairs
        self._latents, self._encode, self._changes = latents, encode, changes
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
        for change in self._changes:
            pair = change(pair, index)
        if pair.distilled.shape != pair.baseline.shape:
            sizes = f"{_size(pair.distilled)} and {_size(pair.baseline)}"
            raise DataError(f"pair {index} has images of {sizes}; build the pairs again with one size for both")
        pixels = torch.stack([pair.distilled, pair.baseline]).mul(255).round().clamp(0, 255).to(torch.uint8)
        latents = None if self._latents is None else latents_of(pair, index, self._latents)
        targets = None
        if self._encode is not None:
            stored = pair.baseline_latents
            targets = self._encode(pixels[_BASELINE].float() / 255) if stored is None else stored.float()
        return PairPixels(pixels, latents, targets)


def latents_of(pair: Pair, index: int, channels: int) -> Tensor:
    """The distilled model's latents ``(C, h, w)`` of a pair; raises `DataError` if it has none or other channels."""
    latents = pair.latents
    if latents is None:
        raise DataError(f"pair {index} has no latents, which this head decodes; build the pairs again with latents")
    if latents.ndim != 3 or latents.shape[0] != channels:
        raise DataError(
            f"pair {index} has latents of shape {tuple(latents.shape)}, but the head takes {channels} channels; "
            f"set head.latent_channels to {latents.shape[0]}"
        )
    return latents.float()


class Batches:
    """Cuts, mirrors and stacks pairs, both halves alike; see the module's text for the order.

    Whole images (``crop_px`` None) are cut to a multiple of ``size_multiple``. Where the pairs hold latents, cuts lie
    on whole latents, of which ``size_multiple`` is the side. Unless ``paired``, the two sides of a batch are drawn, cut
    and mirrored apart from each other.
    """

    def __init__(
        self, pairs: CachedPairs, *, paired: bool = True, seed: int, crop_px: int | None, flip: bool, size_multiple: int
    ) -> None:
        self._pairs, self._paired, self._seed = pairs, paired, seed
        self._crop_px, self._flip, self._size_multiple = crop_px, flip, size_multiple

    def batch(self, first_image: int, count: int) -> Batch:
        """Images number ``first_image`` to ``first_image + count - 1`` of the run."""
        numbers = range(first_image, first_image + count)
        if not self._paired:
            x, y = (_stacked([self._side(number, side) for number in numbers]) for side in (_DISTILLED, _BASELINE))
            return Batch(x, y, first_image=first_image)
        cuts = [self._pair(number) for number in numbers]
        pixels = _stacked([cut.pixels for cut in cuts])  # (N, 2, 3, H, W)
        return Batch(
            x=pixels[:, _DISTILLED].contiguous(),
            y=pixels[:, _BASELINE].contiguous(),
            latents=_stacked_latents([cut.latents for cut in cuts]),
            targets=_stacked_latents([cut.targets for cut in cuts]),
            first_image=first_image,
        )

    def _pair(self, number: int) -> PairPixels:
        index = self._index(number, _SHUFFLE)
        pair = self._pairs[index]
        random = np.random.default_rng([self._seed, _CROP, number])
        if pair.latents is not None:
            return self._cut_with_latents(pair, pair.latents, index, random)
        return PairPixels(self._cut(pair.pixels, index, random))

    def _side(self, number: int, side: int) -> Tensor:
        index = self._index(number, (_SHUFFLE, _OTHER_SHUFFLE)[side])
        random = np.random.default_rng([self._seed, (_CROP, _OTHER_CROP)[side], number])
        return self._cut(self._pairs[index].pixels[side], index, random)

    def _index(self, number: int, stream: int) -> int:
        """Which pair is image ``number``: one seeded shuffle per pass."""
        turn, position = divmod(number, len(self._pairs))
        return _shuffled(len(self._pairs), self._seed, stream, turn)[position]

    def _cut(self, pixels: Tensor, index: int, random: np.random.Generator) -> Tensor:
        """A random square (or all) of ``pixels`` ``(..., H, W)``, mirrored half of the time."""
        height, width = self._cut_size(pixels, index)
        top = int(random.integers(pixels.shape[-2] - height + 1))
        left = int(random.integers(pixels.shape[-1] - width + 1))
        mirror = self._flip and bool(random.integers(2))
        cut = pixels[..., top : top + height, left : left + width]
        return cut.flip(-1) if mirror else cut

    def _cut_with_latents(
        self, pair: PairPixels, latents: Tensor, index: int, random: np.random.Generator
    ) -> PairPixels:
        """The same random square of all, on whole latents."""
        scale, pixels = self._size_multiple, pair.pixels
        rows, columns = latents.shape[-2:]
        if (rows * scale, columns * scale) != tuple(pixels.shape[-2:]):
            raise DataError(
                f"pair {index} has {_size(pixels)} px and {columns}x{rows} latents, but the head makes {scale} px of a "
                "latent; use a head with another number of scales"
            )
        height, width = self._cut_size(pixels, index)
        high, wide = height // scale, width // scale
        top = int(random.integers(rows - high + 1))
        left = int(random.integers(columns - wide + 1))
        part = (slice(None), slice(top, top + high), slice(left, left + wide))
        return PairPixels(
            pixels[..., top * scale : top * scale + height, left * scale : left * scale + width],
            latents[part],
            None if pair.targets is None else pair.targets[part],
        )

    def _cut_size(self, pixels: Tensor, index: int) -> tuple[int, int]:
        height, width = pixels.shape[-2:]
        if self._crop_px is None:
            cut_height, cut_width = (side // self._size_multiple * self._size_multiple for side in (height, width))
        else:
            cut_height = cut_width = self._crop_px
        if not (0 < cut_height <= height and 0 < cut_width <= width):
            side = self._crop_px or self._size_multiple
            raise DataError(f"pair {index} has {_size(pixels)} px, less than the {side} px to cut; lower crop_px")
        return cut_height, cut_width


@lru_cache(maxsize=4)
def _shuffled(count: int, seed: int, stream: int, turn: int) -> Sequence[int]:
    return np.random.default_rng([seed, stream, turn]).permutation(count).tolist()


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
