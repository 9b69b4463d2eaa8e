"""Ray on two cores, started once: the same bytes as the local engine though an actor is killed, and reading by Ray."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pairs.building import all_bytes
from topcoat.errors import ModelError, UsageError
from topcoat.generators.base import ModelPair
from topcoat.generators.presets import model_pair
from topcoat.pairs import PairingConfig, RayEngine, build_pairs
from topcoat.prompts import sample_prompts

pytestmark = [
    pytest.mark.slow,
    # Ray's own: sockets and files of its processes that are closed by the collector, notices of its next versions
    pytest.mark.filterwarnings("default"),
]
COUNT, BATCH_SIZE, SHARD_SIZE = 12, 2, 4


@pytest.fixture(scope="module")
def ray_on_two_cores() -> Iterator[Any]:
    ray = pytest.importorskip("ray")
    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
    yield ray
    ray.shutdown()


def build(folder: Path, pair: ModelPair, **changes: Any) -> Any:
    settings: dict[str, Any] = {"batch_size": BATCH_SIZE, "shard_size": SHARD_SIZE} | changes
    return build_pairs(folder, sample_prompts(COUNT), pair, **settings)


def kill_one_actor(folder: Path, killed: list[int]) -> None:
    """Wait for a shard that is being written, then kill -9 a process of this session's Ray that makes shards."""
    import psutil

    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not any(folder.glob("data/.*.tmp")):
        time.sleep(0.01)
    for process in psutil.Process().children(recursive=True):
        words = " ".join(process.cmdline())
        if words.startswith("ray::") and "ShardActor" in words:
            process.kill()
            killed.append(process.pid)
            return


def test_an_actor_is_killed_and_the_bytes_are_the_same(ray_on_two_cores: Any, tmp_path: Path) -> None:
    """With the mini pair, as installed."""
    pair, killed = model_pair("mini"), []
    short = pair.model_copy(update={"baseline": pair.baseline.model_copy(update={"steps": 6})})
    pairing = PairingConfig(latents=True, distilled_steps=(1,))
    build(tmp_path / "local", short, pairing=pairing)
    killer = threading.Thread(target=kill_one_actor, args=(tmp_path / "ray", killed))
    killer.start()
    build(tmp_path / "ray", short, pairing=pairing, engine=RayEngine(workers=2))
    killer.join()
    assert len(killed) == 1, "an actor was killed in the middle"
    assert all_bytes(tmp_path / "local") == all_bytes(tmp_path / "ray")


def test_errors_come_back_as_one_sentence(ray_on_two_cores: Any, tmp_path: Path, flux_pair: ModelPair) -> None:
    gone = flux_pair.distilled.model_copy(update={"model": "./nowhere/at-all"})
    with pytest.raises(ModelError, match="nowhere"):
        build(tmp_path, flux_pair.model_copy(update={"distilled": gone}), engine="ray")


def test_ray_reads_a_dataset_with_no_code_of_ours(
    ray_on_two_cores: Any, tmp_path: Path, fake_pair: ModelPair, fake_generators: Any
) -> None:
    import io

    import numpy as np
    import ray.data
    from PIL import Image

    dataset = build(tmp_path, fake_pair, generators=fake_generators, pairing=PairingConfig(latents=True))
    found = ray.data.read_parquet(str(tmp_path / "data"))
    rows = {row["id"]: row for row in found.take_all()}
    assert found.count() == COUNT and set(rows) == {record.id for record in dataset.records}
    record = dataset.records[5]
    row = rows[record.id]
    assert row["prompt"] == record.prompt and row["seed"] == record.seed
    picture = np.asarray(Image.open(io.BytesIO(row["baseline"]["bytes"])))
    assert np.array_equal(picture, (dataset[5].baseline * 255).round().byte().permute(1, 2, 0).numpy())
    latents = dataset[5].latents
    assert latents is not None
    assert np.array_equal(np.array([[list(line) for line in plane] for plane in row["latents"]]), latents.numpy())


def test_a_cluster_that_is_not_there_is_one_sentence(
    tmp_path: Path, fake_pair: ModelPair, fake_generators: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    def unreachable(**_: Any) -> None:
        raise ConnectionError("could not connect")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", unreachable)
    with pytest.raises(UsageError, match=r"cannot be reached or started at 10\.0\.0\.1:6379"):
        build(tmp_path, fake_pair, generators=fake_generators, engine=RayEngine(address="10.0.0.1:6379"))
