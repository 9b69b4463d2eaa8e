"""The local engine and what all engines share; the one with Ray is in test_engines_ray.py."""

from __future__ import annotations

import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.pairs.building import all_bytes
from topcoat.errors import ModelError, UsageError
from topcoat.generators.base import ModelPair
from topcoat.pairs import LocalEngine, RayEngine, build_pairs
from topcoat.pairs.engines import named_engine
from topcoat.prompts import sample_prompts

PROMPTS = sample_prompts(7)


def build(folder: Path, pair: ModelPair, engine: Any, **changes: Any) -> Any:
    return build_pairs(folder, PROMPTS, pair, batch_size=2, shard_size=3, engine=engine, **changes)


def test_engines_by_name() -> None:
    assert isinstance(named_engine("local"), LocalEngine)
    assert isinstance(named_engine("ray", address="auto", workers=2), RayEngine)
    with pytest.raises(UsageError, match="use one of: local, ray"):
        named_engine("slurm")
    with pytest.raises(UsageError, match="belong to the engine ray"):
        named_engine("local", workers=2)
    with pytest.raises(UsageError, match="0 workers"):
        RayEngine(workers=0)
    with pytest.raises(UsageError, match="there are no devices"):
        LocalEngine([])


def test_an_engine_may_finish_shards_in_any_order(tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> None:
    class Backwards(LocalEngine):
        def run(self, spec: Any, jobs: Any, progress: Any) -> Any:
            return super().run(spec, list(reversed(jobs)), progress)

    reports: list[int] = []
    build(tmp_path / "a", fake_pair, LocalEngine(), generators=fake_generators)
    fake_generators[0].fails_on = None
    build(
        tmp_path / "b",
        fake_pair,
        Backwards(),
        generators=fake_generators,
        on_progress=lambda done, _total: reports.append(done),
    )
    assert all_bytes(tmp_path / "a") == all_bytes(tmp_path / "b")
    assert reports == sorted(reports) and reports[-1] == 7


def test_ray_that_is_not_installed_is_one_sentence(
    tmp_path: Path, fake_pair: ModelPair, fake_generators: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'topcoat\[ray\]'"):
        build(tmp_path / "pairs", fake_pair, "ray", generators=fake_generators)


@pytest.mark.slow
def test_a_process_for_each_device_gives_the_same_bytes(tmp_path: Path, flux_pair: ModelPair) -> None:
    build(tmp_path / "one", flux_pair, LocalEngine())
    reports: list[int] = []
    build(
        tmp_path / "two", flux_pair, LocalEngine(["cpu", "cpu"]), on_progress=lambda done, _total: reports.append(done)
    )
    assert all_bytes(tmp_path / "one") == all_bytes(tmp_path / "two")
    assert reports == sorted(reports) and reports[-1] == 7


@pytest.mark.slow
def test_a_killed_process_is_one_sentence_and_the_build_continues(tmp_path: Path, flux_pair: ModelPair) -> None:
    def kill(done: int, total: int) -> None:
        if done:
            multiprocessing.active_children()[0].kill()

    build(tmp_path / "whole", flux_pair, LocalEngine())
    with pytest.raises(
        ModelError, match=r"a worker process on one of cpu, cpu was killed .* run the same command again"
    ):
        build(tmp_path / "cut", flux_pair, LocalEngine(["cpu", "cpu"]), on_progress=kill)
    assert not multiprocessing.active_children()
    build(tmp_path / "cut", flux_pair, LocalEngine(["cpu", "cpu"]))
    assert all_bytes(tmp_path / "cut") == all_bytes(tmp_path / "whole")


@pytest.mark.slow
def test_processes_end_with_their_parent(tmp_path: Path, flux_pair: ModelPair) -> None:
    """However it ends: after kill -9 none is left that holds a GPU."""
    context = multiprocessing.get_context("spawn")
    parent = context.Process(target=build, args=(tmp_path, flux_pair, LocalEngine(["cpu", "cpu"])))
    parent.start()
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(tmp_path.glob("data/.*.tmp")):
        time.sleep(0.02)
    workers = psutil.Process(parent.pid).children(recursive=True)
    parent.kill()
    parent.join()
    assert len(workers) >= 2 and not psutil.wait_procs(workers, timeout=20)[1]


@pytest.mark.slow
def test_what_goes_wrong_in_a_process_is_one_sentence(tmp_path: Path, flux_pair: ModelPair) -> None:
    gone = flux_pair.distilled.model_copy(update={"model": "./nowhere/at-all"})
    with pytest.raises(ModelError, match="nowhere"):
        build(tmp_path, flux_pair.model_copy(update={"distilled": gone}), LocalEngine(["cpu", "cpu"]))
    assert not list(tmp_path.rglob("*.tmp"))
