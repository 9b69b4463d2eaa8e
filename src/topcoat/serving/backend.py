"""Where the models of an engine run: in a thread of this process, or elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np

from topcoat.serving.batching import Batcher
from topcoat.serving.models import Models
from topcoat.serving.settings import ServeConfig
from topcoat.serving.work import Catalogue, Cost, GenerateSettings, Sample

T = TypeVar("T")


class Backend(Protocol):
    """Where the models run: in a thread here, or elsewhere."""

    async def start(self) -> Catalogue:
        """Load the models; raises what `Models` does."""
        ...

    async def run(self, settings: Hashable, item: Any, begun: Callable[[], None]) -> Sample:
        """One image, in a batch with others; ``begun`` is called when that starts."""
        ...

    async def cost(self, settings: GenerateSettings) -> Cost | None:
        """See `Models.cost`."""
        ...

    async def close(self) -> None:
        """Let what runs end, then free the models."""
        ...


class LocalBackend:
    """The models in this process, with a thread of their own."""

    def __init__(self, config: ServeConfig, models: Models | None = None) -> None:
        """``models`` are loaded ones; None loads those of ``config`` at `start`."""
        self._config, self._models = config, models
        self._thread = ThreadPoolExecutor(1, "topcoat models")
        self._batcher: Batcher[Any, Sample] = Batcher(
            self._run_batch, max_batch=config.max_batch, wait_seconds=config.batch_wait_seconds
        )

    async def start(self) -> Catalogue:
        """See `Backend`."""
        catalogue = await self._on_thread(self._load)
        self._batcher.start()
        return catalogue

    def _load(self) -> Catalogue:
        if self._models is None:
            self._models = Models(self._config)
        self._models.warm_up()
        return self._models.catalogue

    async def run(self, settings: Hashable, item: Any, begun: Callable[[], None]) -> Sample:
        """See `Backend`."""
        shape = (item.shape, item.dtype.str) if isinstance(item, np.ndarray) else None
        return await self._batcher.submit((settings, shape), item, begun)

    async def _run_batch(self, key: Hashable, items: Sequence[Any]) -> Sequence[Sample]:
        assert self._models is not None and isinstance(key, tuple)
        return await self._on_thread(partial(self._models.run, key[0], items))

    async def cost(self, settings: GenerateSettings) -> Cost | None:
        """See `Backend`."""
        assert self._models is not None
        return await self._on_thread(partial(self._models.cost, settings))

    async def close(self) -> None:
        """See `Backend`."""
        await self._batcher.close()
        await asyncio.to_thread(self._thread.shutdown)

    async def _on_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)
