"""`Runtime`: a head on pictures of any size, whatever library runs its network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from topcoat.errors import ModelError, UsageError
from topcoat.runtime.record import HeadRecord
from topcoat.runtime.tiles import TILE_PX, WHOLE_PIXELS, pad_to_multiple, tiles

MAX_STRENGTH = 2.0
SMALLEST_TILE_PX = 64


class Session(Protocol):
    """A network as one library runs it."""

    name: str
    """Of the library and what it runs on, for a person."""
    record: HeadRecord

    def run(self, inputs: np.ndarray, strength: float) -> np.ndarray:
        """Float32 ``(N, 3, H, W)`` in [0, 1] of float32 ``(N, C, H, W)`` of a size that the record allows."""
        ...


class Runtime:
    """Enhances images: whole up to 2048 x 2048 px, larger ones in tiles whose result is that of the whole image.

    ``tile_px`` is the side of a tile without its halo, and then anything larger is tiled; None chooses. Memory grows
    with the tile, besides the images themselves.
    """

    def __init__(self, session: Session, tile_px: int | None = None) -> None:
        """Raises `UsageError` for a head of latents, and for a tile that is too small or that the head cannot do."""
        record = session.record
        if record.input == "latent":
            raise UsageError(
                f"the head {record.name} decodes the distilled model's latents, which a picture does not have; give "
                "topcoat generate this head, or enhance with one that takes images"
            )
        if tile_px is not None and tile_px < SMALLEST_TILE_PX:
            raise UsageError(f"a tile of {tile_px} px is too small; use {SMALLEST_TILE_PX} px or more, or auto")
        if tile_px is not None and record.halo_px is None:
            raise UsageError(
                f"the head {record.name} ({record.kind}) pools over the whole picture, so it cannot work in tiles; "
                "leave the tile at auto, or use a head of the kind unet or nafnet"
            )
        self.session = session
        self.record = record
        self.tile_px = tile_px

    @property
    def name(self) -> str:
        """The library that runs the head, for a person."""
        return self.session.name

    def __call__(
        self, images: np.ndarray, strength: float = 1.0, progress: Callable[[int, int], None] | None = None
    ) -> np.ndarray:
        """Enhance images ``(N, 3, H, W)`` of any size: float32 in [0, 1], or uint8; the result is of the same type.

        A view of pixels ``(H, W, 3)`` may be given, and the result then lies in memory likewise. ``strength`` scales
        the change: 0 gives the images themselves, 1 is what was trained, at most 2. ``progress`` is called with the
        tiles done and their number. Raises `UsageError` for anything else, `ModelError` if the result is not finite.
        """
        _check(images)
        if not 0 <= strength <= MAX_STRENGTH:
            raise UsageError(f"strength is {strength}; give a number from 0 (no change) to {MAX_STRENGTH:g}")
        height, width = images.shape[2:]
        tile_px = self._tile_for(height, width)
        halo_px = 0 if tile_px >= max(height, width) else self.record.halo_px or 0
        plan = list(tiles(height, width, tile_px, halo_px, self.record.size_multiple))
        enhanced = np.empty_like(images)
        done = 0
        for number in range(len(images)):
            for tile in plan:
                result = self._run(images[(slice(number, number + 1), slice(None), *tile.seen)], strength)
                enhanced[(slice(number, number + 1), slice(None), *tile.kept)] = tile.of_result(result)
                done += 1
                if progress is not None:
                    progress(done, len(plan) * len(images))
        return enhanced

    def _tile_for(self, height_px: int, width_px: int) -> int:
        """Side of the tiles; as large as the picture where it is done whole."""
        if self.record.halo_px is None or (self.tile_px is None and height_px * width_px <= WHOLE_PIXELS):
            return max(height_px, width_px)
        return self.tile_px or TILE_PX

    def _run(self, images: np.ndarray, strength: float) -> np.ndarray:
        floats = images.astype(np.float32) / np.float32(255) if images.dtype == np.uint8 else images
        padded = pad_to_multiple(floats, self.record.size_multiple, self.record.smallest)
        try:
            result = self.session.run(np.ascontiguousarray(padded), strength)
        except MemoryError:
            raise self._no_memory(images.shape) from None
        result = result[..., : images.shape[2], : images.shape[3]]
        if not np.isfinite(result.sum(dtype=np.float64)):
            raise ModelError("the head gave values that are not finite; its weights are damaged, export it again")
        return np.rint(result * np.float32(255)).astype(np.uint8) if images.dtype == np.uint8 else result

    def _no_memory(self, shape: tuple[int, ...]) -> ModelError:
        advice = "give a smaller tile" if self.record.halo_px is not None else "make the picture smaller"
        return ModelError(f"there is not enough memory for {shape[3]} x {shape[2]} px at once; {advice}")


def _check(images: np.ndarray) -> None:
    shape = getattr(images, "shape", ())
    if not isinstance(images, np.ndarray) or len(shape) != 4 or shape[1] != 3 or 0 in shape:
        raise UsageError(f"images have the shape {tuple(shape)}; give a numpy array (N, 3, H, W) that is not empty")
    if images.dtype == np.uint8:
        return
    if images.dtype != np.float32:
        raise UsageError(f"images are of the type {images.dtype}; give float32 in [0, 1], or uint8")
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):  # also for NaN
        raise UsageError(f"images range from {low:.4g} to {high:.4g}; give finite values in [0, 1]")
