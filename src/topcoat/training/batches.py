"""Training batches whose content depends on the seed and the number of images seen alone.

Image number k of a run is pair ``order[k // n][k % n]``, with one seeded shuffle per pass over the n pairs, and its
crop and flip come from a generator seeded with k. So a resumed run sees what an uninterrupted one would have seen, and
nothing about the order has to be saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from topcoat.errors import DataError

_SHUFFLE, _CROP = 0, 1  # separate random streams of one seed


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
class Batch:
    """Distilled images ``x`` and baseline images ``y``: ``(N, 3, H, W)`` float32 in [0, 1]."""

    x: Tensor
    y: Tensor


class PairBytes:
    """The pairs as uint8 ``(2, 3, H, W)``, decoded once and kept if all of them fit in ``cache_mebibytes``.

    Exact for images that come from 8-bit files.
    """

    def __init__(self, pairs: PairSource, cache_mebibytes: int) -> None:
        if len(pairs) == 0:
            raise DataError("the dataset has no training pairs; build some with topcoat pairs build")
        self._pairs = pairs
        self._kept: dict[int, Tensor] = {}
        self._keep = False
        first = self[0]
        self._keep = first.nbytes * len(pairs) <= cache_mebibytes * 2**20

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Tensor:
        kept = self._kept.get(index)
        if kept is not None:
            return kept
        pair = self._pairs[index]
        if pair.distilled.shape != pair.baseline.shape:
            sizes = f"{_size(pair.distilled)} and {_size(pair.baseline)}"
            raise DataError(f"pair {index} has images of {sizes}; build the pairs again with one size for both")
        pixels = torch.stack([pair.distilled, pair.baseline]).mul(255).round().clamp(0, 255).to(torch.uint8)
        if self._keep:
            self._kept[index] = pixels
        return pixels


class PairBatches:
    """Cuts, mirrors and stacks pairs; see the module's text for the order.

    ``crop_px`` is the side of the square that is cut, None for whole images (cut to a multiple of ``size_multiple``).
    """

    def __init__(self, pairs: PairBytes, *, seed: int, crop_px: int | None, flip: bool, size_multiple: int) -> None:
        self._pairs = pairs
        self._seed = seed
        self._crop_px = crop_px
        self._flip = flip
        self._size_multiple = size_multiple
        self._order: tuple[int, Sequence[int]] = (-1, ())  # the last pass and its shuffle

    def batch(self, first_image: int, count: int) -> Batch:
        """Images number ``first_image`` to ``first_image + count - 1`` of the run."""
        cuts = [self._cut(number) for number in range(first_image, first_image + count)]
        if len({cut.shape for cut in cuts}) > 1:
            raise DataError("the training pairs have several sizes; set crop_px, or batch_size to 1")
        pixels = torch.stack(cuts).float().div_(255)  # (N, 2, 3, H, W)
        return Batch(x=pixels[:, 0].contiguous(), y=pixels[:, 1].contiguous())

    def _cut(self, number: int) -> Tensor:
        index = self._index(number)
        pixels = self._pairs[index]  # (2, 3, H, W): both halves get the same cut
        height, width = pixels.shape[-2:]
        if self._crop_px is None:
            cut_height = height // self._size_multiple * self._size_multiple
            cut_width = width // self._size_multiple * self._size_multiple
        else:
            cut_height = cut_width = self._crop_px
        if not (0 < cut_height <= height and 0 < cut_width <= width):
            wanted = self._crop_px or self._size_multiple
            raise DataError(f"pair {index} has {_size(pixels)} px, less than the {wanted} px to cut; lower crop_px")
        random = np.random.default_rng([self._seed, _CROP, number])
        top = int(random.integers(height - cut_height + 1))
        left = int(random.integers(width - cut_width + 1))
        mirror = self._flip and bool(random.integers(2))
        cut = pixels[..., top : top + cut_height, left : left + cut_width]
        return cut.flip(-1) if mirror else cut

    def _index(self, number: int) -> int:
        turn, place = divmod(number, len(self._pairs))
        if self._order[0] != turn:
            random = np.random.default_rng([self._seed, _SHUFFLE, turn])
            self._order = (turn, random.permutation(len(self._pairs)).tolist())
        return self._order[1][place]


def _size(image: Tensor) -> str:
    return f"{image.shape[-1]}x{image.shape[-2]}"
