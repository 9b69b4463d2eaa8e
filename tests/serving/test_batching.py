from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence

import pytest

from topcoat.serving.batching import Batcher


class Doubling:
    """Doubles numbers, and remembers the batches; waits for ``gate`` and fails on 13."""

    def __init__(self) -> None:
        self.batches: list[tuple[Hashable, list[int]]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, key: Hashable, items: Sequence[int]) -> list[int]:
        self.batches.append((key, list(items)))
        await self.gate.wait()
        if 13 in items:
            raise ValueError("13")
        return [2 * item for item in items]


def _batcher(run: Doubling, max_batch: int = 4, wait_seconds: float = 0.001) -> Batcher[int, int]:
    batcher: Batcher[int, int] = Batcher(run, max_batch=max_batch, wait_seconds=wait_seconds)
    batcher.start()
    return batcher


def test_equal_keys_join_a_batch_in_their_order_and_no_batch_is_too_large() -> None:
    async def run() -> None:
        doubling = Doubling()
        batcher = _batcher(doubling)
        keys = "aabaaab"
        results = await asyncio.gather(*(batcher.submit(key, item) for item, key in enumerate(keys)))
        assert results == [0, 2, 4, 6, 8, 10, 12]
        assert doubling.batches == [("a", [0, 1, 3, 4]), ("b", [2, 6]), ("a", [5])]
        await batcher.close()

    asyncio.run(run())


def test_others_are_waited_for_after_a_batch_of_many_alone() -> None:
    async def run() -> None:
        doubling = Doubling()
        batcher = _batcher(doubling, wait_seconds=0.5)
        loop = asyncio.get_running_loop()
        began = loop.time()
        for item in range(3):
            await batcher.submit("a", item)
        assert loop.time() - began < 0.5
        await asyncio.gather(*(batcher.submit("a", item) for item in (3, 4)))
        first = asyncio.ensure_future(batcher.submit("a", 5))
        await asyncio.sleep(0.01)
        await asyncio.gather(first, batcher.submit("a", 6))
        assert [items for _, items in doubling.batches] == [[0], [1], [2], [3, 4], [5, 6]]
        await batcher.close()

    asyncio.run(run())


def test_an_item_that_fails_does_not_fail_its_neighbours() -> None:
    async def run() -> None:
        batcher = _batcher(Doubling())
        results = await asyncio.gather(*(batcher.submit("a", item) for item in (1, 13, 3)), return_exceptions=True)
        assert results[0] == 2 and isinstance(results[1], ValueError) and results[2] == 6
        await batcher.close()

    asyncio.run(run())


def test_what_is_cancelled_while_it_waits_is_never_run() -> None:
    async def run() -> None:
        doubling = Doubling()
        doubling.gate.clear()
        batcher = _batcher(doubling, max_batch=1)
        tasks = [asyncio.create_task(batcher.submit("a", item)) for item in range(3)]
        while not doubling.batches:
            await asyncio.sleep(0.001)
        tasks[1].cancel()
        await asyncio.sleep(0.001)
        doubling.gate.set()
        assert await tasks[0] == 0 and await tasks[2] == 4
        assert doubling.batches == [("a", [0]), ("a", [2])]
        await batcher.close()

    asyncio.run(run())


def test_closing_ends_the_batch_that_runs_and_cancels_what_waits() -> None:
    async def run() -> None:
        doubling = Doubling()
        doubling.gate.clear()
        batcher = _batcher(doubling, max_batch=1)
        tasks = [asyncio.create_task(batcher.submit("a", item)) for item in range(2)]
        while not doubling.batches:
            await asyncio.sleep(0.001)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0.001)
        assert not closing.done()
        doubling.gate.set()
        await closing
        assert await tasks[0] == 0
        with pytest.raises(asyncio.CancelledError):
            await tasks[1]

    asyncio.run(run())
