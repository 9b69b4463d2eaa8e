"""`kill -9` at any moment, then the same command: nothing is lost, nothing doubled, every byte as if never stopped."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.pairs.building import all_bytes
from topcoat.pairs import PairDataset

BUILDER = Path(__file__).with_name("crash_builder.py")


class Builder:
    """The process that forks a build for each folder it is told."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(BUILDER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._answer() == "ready"

    def run(self, folder: Path, kill_after_seconds: float | None = None) -> int:
        """Build into ``folder``; kill it with SIGKILL after that time. Returns the exit code."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{folder}\n")
        self._process.stdin.flush()
        child = int(self._answer())
        if kill_after_seconds is not None:
            time.sleep(kill_after_seconds)
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        return int(self._answer())

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextmanager
def builder() -> Iterator[Builder]:
    found = Builder()
    try:
        yield found
    finally:
        found.close()


@dataclass
class Counts:
    """What the kills met."""

    killed: int = 0
    with_shards: int = 0
    with_leftovers: int = 0


def kill_and_continue(root: Path, moments: int, seed: int) -> Counts:
    """Kill one build of a folder at each moment, go on, and compare with one that ran through."""
    counts, chance = Counts(), random.Random(seed)
    with builder() as build:
        whole = root / "whole"
        began = time.monotonic()
        assert build.run(whole) == 0
        seconds = time.monotonic() - began
        wanted = all_bytes(whole)
        ids = [record.id for record in PairDataset.open(whole).records]
        assert len(set(ids)) == len(ids) == 48
        for moment in range(moments):
            folder = root / f"killed-{moment}"
            # spread over the whole build: one random moment in each part of it
            after = seconds * (moment + chance.random()) / moments
            while (code := build.run(folder, after)) == 0:  # it was quicker than the one that was timed
                shutil.rmtree(folder)
                after *= 0.7
            assert code == -signal.SIGKILL
            counts.killed += 1
            counts.with_shards += any(folder.glob("data/*.parquet"))
            counts.with_leftovers += any(folder.glob("data/.*.tmp"))
            if (folder / "manifest.json").exists():
                listed = json.loads((folder / "manifest.json").read_text())["shards"]
                assert all((folder / "data" / entry["name"]).exists() for entry in listed)
            assert build.run(folder) == 0
            assert all_bytes(folder) == wanted, f"killed at moment {moment}"
    return counts


def test_three_kills(tmp_path: Path) -> None:
    counts = kill_and_continue(tmp_path, 3, seed=3)
    assert counts.killed == 3


@pytest.mark.slow
def test_twenty_kills(tmp_path: Path) -> None:
    counts = kill_and_continue(tmp_path, 20, seed=20)
    print(counts)
    assert counts.killed == 20 and counts.with_shards >= 3
