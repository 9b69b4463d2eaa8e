"""Joining what many requests ask for into batches."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(slots=True, eq=False, repr=False)  # a deque without it makes its repr, a whole image in digits
class _Waiting(Generic[Item, Result]):
    key: Hashable
    item: Item
    result: asyncio.Future[Result]
    begun: Callable[[], None]


class Batcher(Generic[Item, Result]):
    """Runs items in batches of equal keys, one batch at a time, the oldest item first.

    Batches hold 1, 2, 4 ... items, so that few shapes occur: for each, kernels are chosen, compiled or checked once.
    ``run`` gets a key and at most ``max_batch`` items, and gives a result for each in their order. After an idle time
    an item waits ``wait_seconds`` for others, unless the batch before was of one: a lone client does not pay for a
    crowd. A batch that fails is run again one by one, so that an item fails for its own faults alone.
    """

    def __init__(
        self,
        run: Callable[[Hashable, Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        max_batch: int,
        wait_seconds: float,
    ) -> None:
        self._run, self._max_batch, self._wait_seconds = run, max_batch, wait_seconds
        self._waiting: deque[_Waiting[Item, Result]] = deque()
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._last_size = 1

    def start(self) -> None:
        """Begin to run batches; needs a running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._work(), name="topcoat batches")

    async def close(self) -> None:
        """Stop after the batch that runs; what still waits is cancelled."""
        self._closing = True
        self._arrived.set()
        if self._task is not None:
            await self._task
        for each in self._waiting:
            each.result.cancel()

    async def submit(self, key: Hashable, item: Item, begun: Callable[[], None] = lambda: None) -> Result:
        """The result of one item; ``begun`` is called when its batch starts. Cancelling it takes it off the queue."""
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(key, item, result, begun)
        self._waiting.append(waiting)
        self._arrived.set()
        try:
            return await result
        finally:
            with contextlib.suppress(ValueError):  # it has begun
                self._waiting.remove(waiting)

    async def _work(self) -> None:
        while not self._closing:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                # others may join, where the last batch was of many; behind a running batch they have by now
                await asyncio.sleep(self._wait_seconds if self._last_size > 1 else 0)
            batch = self._next_batch()
            if batch:
                await self._finish(batch)

    def _next_batch(self) -> list[_Waiting[Item, Result]]:
        while self._waiting and self._waiting[0].result.done():
            self._waiting.popleft()
        if not self._waiting:
            return []
        key = self._waiting[0].key
        joining = [each for each in self._waiting if each.key == key and not each.result.done()][: self._max_batch]
        batch = joining[: whole_batch(len(joining))]
        self._last_size = len(batch)
        for each in batch:
            self._waiting.remove(each)
        return batch

    async def _finish(self, batch: Sequence[_Waiting[Item, Result]]) -> None:
        for each in batch:
            each.begun()
        try:
            results = await self._run(batch[0].key, [each.item for each in batch])
        except Exception as error:  # whatever it is belongs to the one who asked
            if len(batch) > 1:
                for each in batch:
                    await self._finish([each])
            elif not batch[0].result.done():
                batch[0].result.set_exception(error)
            return
        for each, result in zip(batch, results, strict=True):
            if not each.result.done():
                each.result.set_result(result)


def whole_batch(count: int) -> int:
    """The largest power of two that is not above ``count``, which is 1 or more."""
    return 1 << (count.bit_length() - 1)
