"""Training batches whose content depends on the seed and the number of images seen alone.

Image number k of a run is a cut of pair ``order[v // n][v % n]``, with one seeded shuffle per pass over the n pairs,
where v is k, or smaller where several cuts are made of a decoded pair; its crop and flip come from a generator seeded
with k. So a resumed run sees what an uninterrupted one would have seen, whatever number of threads made it, and nothing
about the order has to be saved. Unpaired batches draw both sides like this, each from random streams of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from topcoat.errors import DataError
from topcoat.training.crop_cache import CropCache
from topcoat.training.decoded import Box, CachedPairs, PairPixels, size_text

_SHUFFLE, _CROP, _OTHER_SHUFFLE, _OTHER_CROP, _CACHED_CROP = range(5)  # separate random streams of one seed
_LEAST_BATCHES_AHEAD = 2


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


def batch_of(pairs: Sequence[PairPixels], first_image: int = 0) -> Batch:
    """Pairs of one size as a batch; raises `DataError` for several sizes."""
    pixels = _stacked([pair.pixels for pair in pairs])  # (N, 2, 3, H, W)
    return Batch(
        x=pixels[:, 0].contiguous(),
        y=pixels[:, 1].contiguous(),
        latents=_stacked_latents([pair.latents for pair in pairs]),
        targets=_stacked_latents([pair.targets for pair in pairs]),
        first_image=first_image,
    )


@dataclass(frozen=True, slots=True)
class _Stream:
    """How one side of unpaired batches is drawn, or both of paired ones."""

    side: int | None
    shuffle: int
    crop: int


_BOTH = (_Stream(None, _SHUFFLE, _CROP),)
_APART = (_Stream(0, _SHUFFLE, _CROP), _Stream(1, _OTHER_SHUFFLE, _OTHER_CROP))
_Key = tuple[_Stream, int]
"""A stream, and the number of a visit to a pair in it."""


class Batches:
    """Cuts, mirrors and stacks pairs, both halves alike; see the module's text for the order.

    Whole images (``crop_px`` None) are cut to a multiple of ``size_multiple``. Where the pairs hold latents, cuts lie
    on whole latents, of which ``size_multiple`` is the side. Unless ``paired``, the two sides of a batch are drawn, cut
    and mirrored apart from each other.

    ``crops_per_decode`` images are cut of a pair when it is decoded, one for each of so many batches of ``batch_size``
    in a row: no batch has two of one pair. With a ``cache`` the passes over the pairs take its cuts of a pair in turn,
    mirrored anew. ``workers`` threads decode for the batches to come; with 0 nothing happens before a batch is asked
    for. Call `close` at the end.
    """

    def __init__(
        self,
        pairs: CachedPairs,
        *,
        paired: bool = True,
        seed: int,
        crop_px: int | None,
        flip: bool,
        size_multiple: int,
        batch_size: int = 1,
        crops_per_decode: int = 1,
        cache: CropCache | None = None,
        workers: int = 0,
    ) -> None:
        self._pairs, self._seed, self._streams = pairs, seed, _BOTH if paired else _APART
        self._crop_px, self._flip, self._size_multiple = crop_px, flip, size_multiple
        self._batch_size, self._crops, self._cache = batch_size, crops_per_decode, cache
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="topcoat-decode") if workers else None
        self._visits: dict[_Key, Future[list[PairPixels]]] = {}

    def batch(self, first_image: int, count: int) -> Batch:
        """Images number ``first_image`` to ``first_image + count - 1`` of the run."""
        numbers = range(first_image, first_image + count)
        oldest = first_image // (self._batch_size * self._crops) * self._batch_size
        self._visits = {key: visit for key, visit in self._visits.items() if key[1] >= oldest}
        ahead = max(_LEAST_BATCHES_AHEAD, self._crops) if self._pool else 0
        for turn in range(ahead + 1):
            for number in numbers:
                self._start(number + turn * self._batch_size)
        sides = [[self._cut_of(stream, number) for number in numbers] for stream in self._streams]
        if len(sides) == 2:
            x, y = (_stacked([cut.pixels[0] for cut in cuts]) for cuts in sides)
            return Batch(x, y, first_image=first_image)
        return batch_of(sides[0], first_image)

    def close(self) -> None:
        """End the threads; what they have not begun is left."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._visits.clear()

    def _place(self, number: int) -> tuple[int, int]:
        """The visit that image ``number`` is cut in, and which of its cuts it is."""
        block, rest = divmod(number, self._batch_size * self._crops)
        crop, position = divmod(rest, self._batch_size)
        return block * self._batch_size + position, crop

    def _start(self, number: int) -> None:
        """Have the pair of image ``number`` decoded, if that is not under way."""
        visit, _ = self._place(number)
        for stream in self._streams:
            if (stream, visit) not in self._visits:
                work = partial(self._visit, stream, visit)
                self._visits[stream, visit] = self._pool.submit(work) if self._pool else _done(work)

    def _cut_of(self, stream: _Stream, number: int) -> PairPixels:
        visit, crop = self._place(number)
        return self._visits[stream, visit].result()[crop]

    def _visit(self, stream: _Stream, visit: int) -> list[PairPixels]:
        """The cuts of one visit to a pair: one for each image that it stands for."""
        turn, position = divmod(visit, len(self._pairs))
        index = _shuffled(len(self._pairs), self._seed, stream.shuffle, turn)[position]
        if self._cache is not None:
            return [self._cached(self._cache, index, turn % self._cache.crops, stream, visit)]
        block, place = divmod(visit, self._batch_size)
        first = block * self._batch_size * self._crops + place
        numbers = range(first, first + self._batch_size * self._crops, self._batch_size)

        def boxes(size: tuple[int, int], latents: tuple[int, int] | None) -> list[Box]:
            randoms = [np.random.default_rng([self._seed, stream.crop, number]) for number in numbers]
            if latents is None:
                return [self._box(size, index, random) for random in randoms]
            return [self._box_on_latents(size, latents, index, random) for random in randoms]

        return self._pairs.cuts(index, boxes, stream.side)

    def _cached(self, cache: CropCache, index: int, crop: int, stream: _Stream, number: int) -> PairPixels:
        """A cut of pair ``index`` from the cache, which gets all of them where it lacks this one."""
        pixels = cache.get(index, crop)
        if pixels is None:
            randoms = [np.random.default_rng([self._seed, _CACHED_CROP, index, place]) for place in range(cache.crops)]
            cuts = self._pairs.cuts(
                index, lambda size, _: [replace(self._box(size, index, random), mirror=False) for random in randoms]
            )
            cache.put(index, [cut.pixels for cut in cuts])
            pixels = cuts[crop].pixels
        pixels = pixels if stream.side is None else pixels[stream.side : stream.side + 1]
        random = np.random.default_rng([self._seed, stream.crop, number])
        return PairPixels(pixels[..., ::-1] if self._flip and random.integers(2) else pixels)

    def _box(self, size: tuple[int, int], index: int, random: np.random.Generator) -> Box:
        """A random square (or all) of an image, mirrored half of the time."""
        height, width = self._cut_size(size, index)
        top = int(random.integers(size[0] - height + 1))
        left = int(random.integers(size[1] - width + 1))
        return Box(top, left, height, width, mirror=self._flip and bool(random.integers(2)))

    def _box_on_latents(
        self, size: tuple[int, int], latents: tuple[int, int], index: int, random: np.random.Generator
    ) -> Box:
        """The same on whole latents, which do not mirror."""
        scale, (rows, columns) = self._size_multiple, latents
        if (rows * scale, columns * scale) != size:
            raise DataError(
                f"pair {index} has {size_text(size)} px and {columns}x{rows} latents, but the head makes {scale} px of "
                "a latent; use a head with another number of scales"
            )
        height, width = self._cut_size(size, index)
        top = int(random.integers(rows - height // scale + 1))
        left = int(random.integers(columns - width // scale + 1))
        return Box(top * scale, left * scale, height, width)

    def _cut_size(self, size: tuple[int, int], index: int) -> tuple[int, int]:
        height, width = size
        if self._crop_px is None:
            cut_height, cut_width = (side // self._size_multiple * self._size_multiple for side in size)
        else:
            cut_height = cut_width = self._crop_px
        if not (0 < cut_height <= height and 0 < cut_width <= width):
            side = self._crop_px or self._size_multiple
            raise DataError(f"pair {index} has {size_text(size)} px, less than the {side} px to cut; lower crop_px")
        return cut_height, cut_width


def _done(work: Callable[[], list[PairPixels]]) -> Future[list[PairPixels]]:
    result: Future[list[PairPixels]] = Future()
    result.set_result(work())
    return result


@lru_cache(maxsize=4)
def _shuffled(count: int, seed: int, stream: int, turn: int) -> Sequence[int]:
    return np.random.default_rng([seed, stream, turn]).permutation(count).tolist()


def _stacked_latents(cuts: Sequence[Tensor | None]) -> Tensor | None:
    present = [cut for cut in cuts if cut is not None]
    return torch.stack(present) if present else None


def _rows(tensor: Tensor | None, part: slice) -> Tensor | None:
    return None if tensor is None else tensor[part]


def _stacked(cuts: Sequence[np.ndarray]) -> Tensor:
    """uint8 cuts as one float tensor in [0, 1]."""
    if len({cut.shape for cut in cuts}) > 1:
        raise DataError("the training pairs have several sizes; set crop_px, or batch_size to 1")
    return torch.from_numpy(np.stack(cuts)).float().div_(255)
