"""Tiles: a large picture in parts, each with so much of its surroundings that the parts join without a seam.

A head that pools over windows of a bounded size (`topcoat.heads.layers`) sees at a position what lies within its halo,
and next to nothing beyond. So a tile that is cut out with its halo gives, in its middle, the whole picture's result.
Tiles start at multiples of the head's size multiple: strides and windows fall where they fall in the whole picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

WHOLE_PIXELS = 2048 * 2048
"""A picture with no more pixels is enhanced whole, if nothing else is asked for."""
TILE_PX = 1024
"""Side of a tile, without its halo, if nothing else is asked for."""


@dataclass(frozen=True, slots=True)
class Tile:
    """Where a tile is read, and where its result goes: rows and columns of the picture."""

    seen: tuple[slice, slice]
    kept: tuple[slice, slice]

    def of_result(self, result: np.ndarray) -> np.ndarray:
        """The part of the result for ``seen``, ``(N, C, H, W)``, that is `kept`."""
        rows, columns = (
            slice(kept.start - seen.start, kept.stop - seen.start)
            for kept, seen in zip(self.kept, self.seen, strict=True)
        )
        return result[..., rows, columns]


def tiles(height_px: int, width_px: int, tile_px: int, halo_px: int, multiple: int) -> Iterator[Tile]:
    """The tiles of a picture, row by row; side and halo are rounded up to the multiple."""
    tile, halo = (-(-value // multiple) * multiple for value in (tile_px, halo_px))
    for rows in _spans(height_px, tile, halo):
        for columns in _spans(width_px, tile, halo):
            yield Tile((rows[0], columns[0]), (rows[1], columns[1]))


def _spans(length: int, tile: int, halo: int) -> Iterator[tuple[slice, slice]]:
    for start in range(0, length, tile):
        stop = min(start + tile, length)
        yield slice(max(0, start - halo), min(length, stop + halo)), slice(start, stop)


def pad_to_multiple(images: np.ndarray, multiple: int, smallest: int = 1) -> np.ndarray:
    """``(N, C, H, W)``, padded at the right and bottom to multiples of ``multiple`` and to at least ``smallest``.

    As `topcoat.images.pad_to_multiple`: the border mirrors the image, a side too short for that is repeated.
    """
    for axis in (2, 3):
        length = images.shape[axis]
        padded = max(-(-length // multiple) * multiple, smallest)
        if padded > length:
            widths = [(0, 0)] * 4
            widths[axis] = (0, padded - length)
            images = np.pad(images, widths, mode="reflect" if padded - length < length else "edge")
    return images
