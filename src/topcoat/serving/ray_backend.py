"""The models on Ray Serve: replicas on this machine or on a cluster, each batching what is sent to it.

The HTTP app with its queue and limits stays in one process before them. A replica that is lost is started anew by Ray,
and what it was making is made by another: an image follows from its seed, so that this changes nothing.
"""

from __future__ import annotations

import asyncio
import importlib
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from topcoat.errors import ModelError, TopcoatError, UsageError
from topcoat.serving.models import Models
from topcoat.serving.settings import ServeConfig
from topcoat.serving.work import Catalogue, Cost, GenerateSettings, Sample

_STORE_BYTES = 512 * 2**20
_ATTEMPTS = 4
_PAUSE_SECONDS = 0.5
"""Between two attempts, the first time; later it doubles."""


class RayBackend:
    """See `topcoat.serving.backend.Backend`."""

    def __init__(self, config: ServeConfig, replicas: int = 1, address: str | None = None) -> None:
        """On the cluster at ``address`` (``auto`` finds a running one), or on this machine alone.

        Raises `UsageError` for fewer than one replica, and where Ray Serve is not installed.
        """
        if replicas < 1:
            raise UsageError(f"{replicas} replicas cannot make anything; use 1 or more")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            self._ray, self._serve = importlib.import_module("ray"), importlib.import_module("ray.serve")
        except ImportError as error:
            raise UsageError("the engine ray needs Ray Serve; install it with: pip install 'topcoat[ray]'") from error
        self._config, self._replicas, self._address = config, replicas, address
        self._name = f"topcoat-{os.getpid()}"
        self._started_here = False
        self._handle: Any = None

    async def start(self) -> Catalogue:
        """See `Backend`; raises `UsageError` if there is no cluster at the address."""
        self._handle = await asyncio.to_thread(self._deploy)
        return await self._ask(lambda: self._handle.catalogue.remote())

    def _deploy(self) -> Any:
        ray, serve = self._ray, self._serve
        if not ray.is_initialized():
            options: dict[str, Any] = {"address": self._address}
            if self._address is None:
                options = {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
            try:
                ray.init(log_to_driver=False, logging_level="error", **options)
            except (ConnectionError, RuntimeError, ValueError) as error:
                where = "on this machine" if self._address is None else f"at {self._address}"
                raise UsageError(f"Ray cannot be reached or started {where}; check the address") from error
            self._started_here = True
        resources = ray.cluster_resources()
        gpus, cpus = int(resources.get("GPU", 0)), float(resources.get("CPU", 1))
        share: dict[str, float] = (
            {"num_gpus": 1, "num_cpus": 1} if gpus else {"num_cpus": min(1.0, cpus / (2 * self._replicas))}
        )
        serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR"})
        app = _replica(serve, self._config, self._replicas, share)
        try:
            return serve.run(app, name=self._name, route_prefix=None)
        except RuntimeError as error:
            raise ModelError("the replicas did not start; serve with the engine local to see why") from error

    async def run(self, settings: Hashable, item: Any, begun: Callable[[], None]) -> Sample:
        """See `Backend`."""
        begun()
        return await self._ask(lambda: self._handle.run.remote((settings, item)))

    async def cost(self, settings: GenerateSettings) -> Cost | None:
        """See `Backend`."""
        return await self._ask(lambda: self._handle.cost.remote(settings))

    async def _ask(self, call: Callable[[], Any]) -> Any:
        """What a replica answers; another is asked where one is lost."""
        pause = _PAUSE_SECONDS
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                answer = await call()
            except self._ray.exceptions.RayTaskError:
                raise
            except self._ray.exceptions.RayError as error:
                if attempt == _ATTEMPTS:
                    raise ModelError("no replica answers; look at the cluster") from error
                await asyncio.sleep(pause)
                pause *= 2
                continue
            if isinstance(answer, TopcoatError):
                raise answer
            return answer

    async def close(self) -> None:
        """See `Backend`."""
        await asyncio.to_thread(self._serve.delete, self._name)
        if self._started_here:
            await asyncio.to_thread(self._serve.shutdown)
            await asyncio.to_thread(self._ray.shutdown)


def _replica(serve: Any, config: ServeConfig, replicas: int, resources: dict[str, float]) -> Any:
    """The deployment, bound to its settings."""

    @serve.deployment(
        name="models",
        num_replicas=replicas,
        max_ongoing_requests=max(2 * config.max_batch, 8),
        ray_actor_options=resources,
    )
    class Replica:
        """Holds the models."""

        def __init__(self) -> None:
            self.models = Models(config)
            self.models.warm_up()

        async def catalogue(self) -> Catalogue:
            """See `Models.catalogue`."""
            return self.models.catalogue

        async def cost(self, settings: GenerateSettings) -> Cost | None:
            """See `Models.cost`."""
            return await asyncio.to_thread(self.models.cost, settings)

        @serve.batch(max_batch_size=config.max_batch, batch_wait_timeout_s=config.batch_wait_seconds)
        async def run(self, asked: list[tuple[Hashable, Any]]) -> list[Sample | TopcoatError]:
            """See `Models.run`; an error is a value, for its own request alone."""
            return await asyncio.to_thread(run_all, self.models, asked)

    return Replica.bind()


def run_all(models: Models, asked: Sequence[tuple[Hashable, Any]]) -> list[Sample | TopcoatError]:
    """Results or errors of images of any settings, in batches of equal ones."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for number, (settings, item) in enumerate(asked):
        shape = (item.shape, item.dtype.str) if isinstance(item, np.ndarray) else None
        groups[settings, shape].append(number)
    results: dict[int, Sample | TopcoatError] = {}
    for numbers in groups.values():
        settings, items = asked[numbers[0]][0], [asked[number][1] for number in numbers]
        try:
            results |= dict(zip(numbers, models.run(settings, items), strict=True))
        except TopcoatError as error:
            if len(numbers) == 1:
                results[numbers[0]] = error
            else:
                for number in numbers:
                    results[number] = run_all(models, [asked[number]])[0]
    return [results[number] for number in range(len(asked))]
