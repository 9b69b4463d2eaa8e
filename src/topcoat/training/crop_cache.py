"""Cuts of every pair in one file, so that a pair is decoded once in a run and not in every pass."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from topcoat.errors import DataError

_CHECKSUM_BYTES = 4


class CropCache:
    """``crops`` squares of ``side_px`` of each of ``pairs`` pairs: uint8 ``(2, 3, H, W)``, distilled and baseline.

    Each lies behind its CRC-32, so that one that was never written, or not wholly, is known by that. Threads and
    processes may share the file: what they write of one cut is equal.
    """

    def __init__(self, path: Path, pairs: int, crops: int, side_px: int) -> None:
        self.path, self.crops = path, crops
        self._shape = (2, 3, side_px, side_px)
        self._records = (pairs * crops, _CHECKSUM_BYTES + int(np.prod(self._shape)))
        self._file: np.ndarray | None = None

    def open(self) -> None:
        """Make the file, whose bytes the disk takes as they are written, or go on with it.

        Raises `DataError` if the disk has too little room.
        """
        size = self._records[0] * self._records[1]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            written = self.path.stat().st_blocks * 512 if self.path.exists() else 0
            free = shutil.disk_usage(self.path.parent).free
            if size - written > free:
                raise DataError(
                    f"the cached crops need {size / 1e9:,.1f} GB, and {self.path.parent} has {free / 1e9:,.1f} GB; "
                    "lower cached_crops or crop_px, or free disk space"
                )
            with self.path.open("ab") as file:
                file.truncate(size)
            self._file = np.memmap(self.path, np.uint8, "r+", shape=self._records)
        except OSError as error:
            raise DataError(f"{self.path} cannot be written ({error.strerror}); set cached_crops to 0") from error

    def get(self, index: int, crop: int) -> np.ndarray | None:
        """A cut of pair ``index``; None if it was not written."""
        assert self._file is not None
        record = self._file[index * self.crops + crop].tobytes()
        pixels = record[_CHECKSUM_BYTES:]
        if int.from_bytes(record[:_CHECKSUM_BYTES], "little") != zlib.crc32(pixels):
            return None
        return np.frombuffer(pixels, np.uint8).reshape(self._shape)

    def put(self, index: int, cuts: Sequence[np.ndarray]) -> None:
        """Write all cuts of pair ``index``."""
        assert self._file is not None
        for crop, cut in enumerate(cuts):
            pixels = cut.tobytes()
            record = zlib.crc32(pixels).to_bytes(_CHECKSUM_BYTES, "little") + pixels
            self._file[index * self.crops + crop] = np.frombuffer(record, np.uint8)

    def remove(self) -> None:
        """Delete the file."""
        self._file = None
        self.path.unlink(missing_ok=True)
