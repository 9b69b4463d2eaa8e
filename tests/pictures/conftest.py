"""Pictures of every kind, made by programs that are not topcoat's."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Exiftool = Callable[..., str]


def samples(channels: int, dtype: type = np.uint8, height: int = 40, width: int = 50) -> np.ndarray:
    """Random ``(height, width, channels)``."""
    top = np.iinfo(dtype).max
    return np.random.default_rng(0).integers(0, top + 1, (height, width, channels)).astype(dtype)


@pytest.fixture
def exiftool() -> Exiftool:
    """ExifTool, an independent reader and writer of metadata; the output of one call."""
    program = shutil.which("exiftool")
    if program is None:
        pytest.skip("exiftool is not installed (Debian: apt install libimage-exiftool-perl)")

    def call(*arguments: object) -> str:
        words = [str(each) for each in arguments]
        return subprocess.run([program, *words], capture_output=True, text=True, check=True).stdout.strip()

    return call


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A PNG without anything besides its pixels."""
    path = tmp_path / "plain.png"
    Image.fromarray(samples(3)).save(path)
    return path
