"""Pairs as pixels for training: uint8 from the file to the cut, kept in memory where all of them fit.

Threads may read at the same time: decoding releases Python's lock, and where a network has a part in it, one pair is
read after the other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from topcoat.errors import DataError
from topcoat.heads.head import Head
from topcoat.heads.network import Network
from topcoat.images import decode_pixels, image_size, to_pil
from topcoat.pairs.dataset import Pair, PairDataset, Side

SIDES: tuple[Side, Side] = ("distilled", "baseline")
"""The order of `PairPixels.pixels`."""
_BLOCK_PAIRS = 50
"""Neighbours that are read together: they share a row group of a dataset, which is read as a whole."""

Change = Callable[[Pair, int], Pair]
"""What is done to pair number i as it is read."""


def taught_by(teacher: Head) -> Change:
    """What puts the image that ``teacher`` makes in the place of the baseline's: one head learns from another.

    What a teacher makes of x follows from x, while y has details that x says nothing of, so it is learnt sooner. A
    teacher that decodes latents needs pairs with latents: `DataError` where they have none.
    """

    def change(pair: Pair, index: int) -> Pair:
        channels = teacher.latent_channels
        given = pair.distilled if channels is None else latents_of(pair.latents, index, channels)
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
class Box:
    """A part of both images of a pair, in pixels, and whether it is mirrored."""

    top: int
    left: int
    height: int
    width: int
    mirror: bool = False

    def of(self, pixels: np.ndarray) -> np.ndarray:
        """That part of ``(..., H, W)``."""
        cut = pixels[..., self.top : self.top + self.height, self.left : self.left + self.width]
        return cut[..., ::-1] if self.mirror else cut


@dataclass(frozen=True, slots=True)
class PairPixels:
    """A pair or a cut of it: uint8 ``(2, 3, H, W)``, distilled and baseline, and where asked for the latents ``(C, h,
    w)`` of the first and, as targets, of the second."""

    pixels: np.ndarray
    latents: Tensor | None = None
    targets: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return sum(part.nbytes for part in (self.pixels, self.latents, self.targets) if part is not None)

    def cut(self, box: Box, sides: slice = slice(None)) -> PairPixels:
        """A copy of the part in ``box``, which lies on whole latents where there are any."""
        pixels = box.of(self.pixels[sides]).copy()
        if self.latents is None:
            return PairPixels(pixels)
        scale = self.pixels.shape[-1] // self.latents.shape[-1]
        rows = slice(box.top // scale, (box.top + box.height) // scale)
        columns = slice(box.left // scale, (box.left + box.width) // scale)
        targets = None if self.targets is None else self.targets[:, rows, columns].clone()
        return PairPixels(pixels, self.latents[:, rows, columns].clone(), targets)


Boxes = Callable[[tuple[int, int], "tuple[int, int] | None"], Sequence[Box]]
"""The cuts of a pair, from ``(H, W)`` of its images and of its latents, where it has any."""


class CachedPairs:
    """The first ``limit`` pairs (by default all) as `PairPixels`, kept in memory if they fit in ``cache_mebibytes``.

    ``changes`` are made to every pair, one after the other. Those that are kept are read with their neighbours: a
    shuffled first pass over a dataset would otherwise read a whole row group for nearly every image. Of the others no
    more is decoded than a cut needs. Exact for images that come from 8-bit files. ``latents`` asks for the distilled
    model's latents of that many channels, ``encode`` for those of the baseline image: what the pair holds, or else what
    it makes of one image ``(3, H, W)`` in [0, 1]; once for a pair that is kept, and of the whole image, so that a cut
    shows it what lies beyond.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        cache_mebibytes: int,
        latents: int | None = None,
        encode: Callable[[Tensor], Tensor] | None = None,
        changes: Sequence[Change] = (),
        limit: int | None = None,
    ) -> None:
        if len(pairs) == 0:
            raise DataError("the dataset has no training pairs; build some with topcoat pairs build")
        self._pairs = pairs
        self._count = len(pairs) if limit is None else min(limit, len(pairs))
        self._latents, self._encode, self._changes = latents, encode, changes
        self._cache: dict[int, PairPixels] = {}
        self._blocks = [threading.Lock() for _ in range(0, self._count, _BLOCK_PAIRS)]
        self._network = threading.Lock()
        first = self._read(0)
        self._cache_all = first.nbytes * self._count <= cache_mebibytes * 2**20
        if self._cache_all:
            self._cache[0] = first

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> PairPixels:
        if not self._cache_all:
            return self._read(index)
        if index not in self._cache:
            start = index // _BLOCK_PAIRS * _BLOCK_PAIRS
            with self._blocks[start // _BLOCK_PAIRS]:
                for neighbour in range(start, min(start + _BLOCK_PAIRS, len(self))):
                    if neighbour not in self._cache:
                        self._cache[neighbour] = self._read(neighbour)
        return self._cache[index]

    def cuts(self, index: int, boxes: Boxes, side: int | None = None) -> list[PairPixels]:
        """Copies of the parts that ``boxes`` asks for, of both sides or of one, all from one decoding.

        It goes no further than the lowest box.
        """
        sides = slice(None) if side is None else slice(side, side + 1)
        whole = self._cache_all or self._latents is not None or self._encode is not None or self._changes
        if whole or not isinstance(self._pairs, PairDataset):
            pair = self[index]
            latents = None if pair.latents is None else (pair.latents.shape[-2], pair.latents.shape[-1])
            return [pair.cut(box, sides) for box in boxes((pair.pixels.shape[-2], pair.pixels.shape[-1]), latents)]
        files = [self._pairs.encoded(index, side) for side in SIDES]
        chosen = boxes(_one_size(index, *(image_size(*file) for file in files)), None)
        lowest = max(box.top + box.height for box in chosen)
        images = [decode_pixels(*file, lowest).transpose(2, 0, 1) for file in files[sides]]  # (3, H, W) each
        return [PairPixels(np.stack([box.of(image) for image in images])) for box in chosen]

    def _read(self, index: int) -> PairPixels:
        if isinstance(self._pairs, PairDataset) and not self._changes:
            files = [self._pairs.encoded(index, side) for side in SIDES]
            sides = [decode_pixels(*file) for file in files]
            latents = None if self._latents is None else self._pairs.latents(index)
            stored = None if self._encode is None else self._pairs.baseline_latents(index)
        else:
            pair = self._changed(index)
            sides = [np.asarray(to_pil(image)) for image in (pair.distilled, pair.baseline)]
            latents, stored = pair.latents, pair.baseline_latents
        _one_size(index, *((side.shape[0], side.shape[1]) for side in sides))
        pixels = np.stack(sides).transpose(0, 3, 1, 2)
        latents = None if self._latents is None else latents_of(latents, index, self._latents)
        if self._encode is not None and latents is not None and stored is not None:
            _check_one_vae(index, latents, stored)
        return PairPixels(np.ascontiguousarray(pixels), latents, self._targets(pixels[1], stored))

    def _changed(self, index: int) -> Pair:
        pair = self._pairs[index]
        if self._changes:
            with self._network:
                for change in self._changes:
                    pair = change(pair, index)
        return pair

    def _targets(self, baseline: np.ndarray, stored: Tensor | None) -> Tensor | None:
        """The baseline's latents: what is ``stored``, or what a network makes of the image."""
        if self._encode is None:
            return None
        if stored is not None:
            return stored.float()
        with self._network:
            return self._encode(torch.from_numpy(baseline.copy()).float().div(255))


def _check_one_vae(index: int, latents: Tensor, stored: Tensor) -> None:
    if stored.shape != latents.shape:
        raise DataError(
            f"pair {index} has baseline latents of shape {tuple(stored.shape)} and distilled ones of "
            f"{tuple(latents.shape)}: two VAEs, whose latents cannot be compared; train a head of images, or build the "
            "pairs again without --baseline-latents"
        )


def latents_of(latents: Tensor | None, index: int, channels: int) -> Tensor:
    """The distilled model's latents ``(C, h, w)`` of a pair; raises `DataError` for none or other channels."""
    if latents is None:
        raise DataError(f"pair {index} has no latents, which this head decodes; build the pairs again with latents")
    if latents.ndim != 3 or latents.shape[0] != channels:
        raise DataError(
            f"pair {index} has latents of shape {tuple(latents.shape)}, but the head takes {channels} channels; "
            f"set head.latent_channels to {latents.shape[0]}"
        )
    return latents.float()


def size_text(size: tuple[int, int]) -> str:
    """``(H, W)`` as people write it, width first."""
    return f"{size[1]}x{size[0]}"


def _one_size(index: int, distilled: tuple[int, int], baseline: tuple[int, int]) -> tuple[int, int]:
    if distilled != baseline:
        sizes = f"{size_text(distilled)} and {size_text(baseline)}"
        raise DataError(f"pair {index} has images of {sizes}; build the pairs again with one size for both")
    return distilled
