"""The engine ray: replicas on this machine, one of which is killed."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.conftest import FakeGenerator
from topcoat.errors import ModelError, UsageError
from topcoat.serving.engine import Engine
from topcoat.serving.models import Models
from topcoat.serving.ray_backend import RayBackend, run_all
from topcoat.serving.settings import ServeConfig
from topcoat.serving.work import GenerateSettings, Sample, Subject


def test_a_replica_makes_what_it_is_sent_in_batches_of_equal_settings(
    fake_generators: tuple[FakeGenerator, FakeGenerator],
) -> None:
    generator = fake_generators[0]
    generator.fails_on = 13
    models = Models(ServeConfig(heads=()), {"distilled": generator})
    settings, more_steps = GenerateSettings(), GenerateSettings(steps=4)
    asked = [(settings, 1), (more_steps, 2), (settings, 13), (settings, 3)]
    results = run_all(models, [(each, Subject("old man", seed)) for each, seed in asked])
    assert isinstance(results[2], ModelError)
    alone = [models.run(each, [Subject("old man", seed)])[0] for each, seed in asked if seed != 13]
    made = [result for result in results if isinstance(result, Sample)]
    assert [each.image.tobytes() for each in made] == [each.image.tobytes() for each in alone]


def _replicas(app: str) -> list[int]:
    """The processes of the replicas of an app on this machine."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if b"ServeReplica" in name and app.encode() in name:
            found.append(int(folder.name))
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_replicas_answer_while_one_is_killed() -> None:
    config = ServeConfig(max_queue=64, max_batch=4)
    try:
        backend = RayBackend(config, replicas=2)
    except UsageError as error:
        pytest.skip(str(error))

    async def run() -> None:
        async with Engine(config, backend) as engine:
            settings = GenerateSettings(head="default")
            first = await engine.generate([Subject("old man", 1)], settings)
            asked = [asyncio.ensure_future(engine.generate([Subject("old man", seed)], settings)) for seed in range(24)]
            await asyncio.sleep(0.5)
            processes = _replicas(f"topcoat-{os.getpid()}")
            assert len(processes) == 2
            os.kill(processes[0], signal.SIGKILL)
            answers = await asyncio.gather(*asked)
            assert answers[1].images[0].content == first.images[0].content
            assert len({answer.images[0].content for answer in answers}) == 24

    asyncio.run(run())
