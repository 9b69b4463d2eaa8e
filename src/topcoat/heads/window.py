"""Pooling over a window around each position instead of over the whole picture.

Attention that pools globally (CBAM, SCA) sees at 1024 px another distribution than in the crops that it was trained on,
and gives a part of a picture another result than the same part alone (TLC, "Improving Image Restoration by Revisiting
Global Information Aggregation", ECCV 2022, arXiv 2112.04491). TLC pools over a window of the training size at test
time. Here that window is a part of the network, in training too, so both always agree; and a picture no larger than it
is one window: its result is that of global pooling, bit for bit.

TLC slides the window by single positions. Here it moves by cells, the area of one position of the network's coarsest
scale, and what follows from its statistics is interpolated between the cells' centres: a hundredth of the work, and
cells fall on whole positions at every scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

WINDOW_PX = 128
"""Side of the window, if nothing else is set: what the embedded heads were trained on."""


def window_field() -> Any:
    """The setting ``attention_window_px``, which is left out of a record where it has its default, as is a digest's."""
    return Field(default=WINDOW_PX, ge=16, le=65_536, exclude_if=lambda side_px: side_px == WINDOW_PX)


def halo_px(size_multiple: int, window_px: int) -> int:
    """How far around a tile a network sees enough that nothing beyond moves its result by a 255th.

    Measured, not proved: every block of attention reaches half a window further, ever more faintly. With the embedded
    head 192 px leave at most 0.02 of a 255th on portraits, noise, rings and edges, 128 px leave 0.35.
    """
    return max(12 * size_multiple, window_px + window_px // 2)


@dataclass(frozen=True, slots=True)
class Window:
    """A square of ``2 reach + 1`` cells, each of ``cell`` x ``cell`` positions at this scale."""

    cell: int
    reach: int

    @classmethod
    def at(cls, scale: int, scales: int, side: float) -> Window:
        """At one of ``scales`` (0 the finest, each with half the positions of the one before).

        ``side`` is that of the window in positions of the finest; it is rounded up to reach as far to each side.
        """
        coarsest = 2 ** (scales - 1)
        return cls(2 ** (scales - 1 - scale), max(1, -(-round(side) // (2 * coarsest))))

    def covers(self, hidden: Tensor) -> bool:
        """Whether all of ``hidden`` ``(N, C, H, W)`` is one window.

        On the meta device it always is: what the windows of a larger picture add to the FLOP (0.3 % of the default
        U-Net) is not counted, like the pooling itself. An exported graph takes every size the other way.
        """
        if torch.compiler.is_exporting():
            return False
        return hidden.is_meta or max(hidden.shape[-2:]) <= self.cell * (2 * self.reach + 1)

    def mean(self, hidden: Tensor) -> Tensor:
        """The mean of the window around each cell, ``(N, C, H / cell, W / cell)``; at a border it is moved inside."""
        cells = F.avg_pool2d(hidden, self.cell) if self.cell > 1 else hidden
        side, beyond = 2 * self.reach + 1, 2 * self.reach
        height, width = cells.shape[-2:]
        # a product between pad and pool: ONNX Runtime 1.23 joins the two where they meet, and then divides wrongly
        rows = F.avg_pool2d(F.pad(cells, (0, 0, 0, beyond)) * side, (side, 1), 1)
        sums = F.avg_pool2d(F.pad(rows, (0, beyond)) * side, (1, side), 1)
        count = torch.sym_min(height, side) * torch.sym_min(width, side)
        return self._moved_inside(sums / count, height, width)

    def largest(self, hidden: Tensor) -> Tensor:
        """The largest value of the window around each cell, as `mean`."""
        cells = F.max_pool2d(hidden, self.cell) if self.cell > 1 else hidden
        side, beyond = 2 * self.reach + 1, 2 * self.reach
        height, width = cells.shape[-2:]
        # each axis right before its pool: ONNX Runtime joins both, and a pad may not be larger than its kernel
        rows = F.max_pool2d(F.pad(cells, (0, 0, 0, beyond), value=float("-inf")), (side, 1), 1)
        maxima = F.max_pool2d(F.pad(rows, (0, beyond), value=float("-inf")), (1, side), 1)
        return self._moved_inside(maxima, height, width)

    def spread(self, cells: Tensor) -> Tensor:
        """Values of cells ``(N, C, H / cell, W / cell)`` at every position, interpolated between the cells' centres."""
        if self.cell == 1:
            return cells
        return F.interpolate(cells, scale_factor=self.cell, mode="bilinear", align_corners=False)

    def _moved_inside(self, windows: Tensor, height: int, width: int) -> Tensor:
        """Of the windows that start at each cell, those that each cell belongs to."""
        for axis, length in ((2, height), (3, width)):
            last = torch.sym_max(length - (2 * self.reach + 1), 0)
            starts = torch.arange(length, device=windows.device) - self.reach
            windows = windows.index_select(axis, starts.clamp(0, last))
        return windows
