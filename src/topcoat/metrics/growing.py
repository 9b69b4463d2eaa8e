"""Values of one kind, image after image, in one piece of memory.

A list of the small tensors of every batch would leave them scattered between the large ones that each batch needs for a
moment, which an allocator can then neither join nor give back: memory would grow with N by far more than what is kept.
"""

from __future__ import annotations

from torch import Tensor

_FIRST_BYTES = 2**20


class GrowingTensor:
    """Rows ``(N, ...)`` of one shape and type, added batch by batch."""

    def __init__(self) -> None:
        self._room: Tensor | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def rows(self) -> Tensor:
        """All ``(N, ...)`` rows so far, on the CPU; there must have been some."""
        assert self._room is not None
        return self._room[: self._count]

    def add(self, rows: Tensor) -> None:
        """Copy ``(B, ...)`` rows to the end."""
        room, needed = self._room, self._count + len(rows)
        if room is None or needed > len(room):
            first = _FIRST_BYTES // max(1, rows[:1].nbytes)
            larger = rows.new_empty((max(needed, first, 2 * self._count), *rows.shape[1:]), device="cpu")
            if room is not None:
                larger[: self._count] = room[: self._count]
            self._room = room = larger
        room[self._count : needed] = rows
        self._count = needed
