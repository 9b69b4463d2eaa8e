"""Where the shards of a dataset are made: on this machine, or by Ray. Either way the same prompts give the same bytes.

A shard is the unit of work: its worker writes it under a temporary name and renames it; the caller alone writes the
manifest.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any, Literal, Protocol, get_args

import torch

from topcoat.errors import ModelError, TopcoatError, UsageError
from topcoat.pairs.generate import PairGenerator
from topcoat.pairs.shards import BuildSpec, ShardJob, ShardResult, make_shard

EngineName = Literal["local", "ray"]
ENGINES: tuple[str, ...] = get_args(EngineName)

ShardProgress = Callable[[str, int], None]
"""Called with the name of a shard and the number of its pairs that are done."""

_POLL_SECONDS = 0.1
_STORE_BYTES = 100 * 1024 * 1024  # images never pass through Ray's object store, only jobs and results do


class Engine(Protocol):
    """Makes shards."""

    def run(self, spec: BuildSpec, jobs: Sequence[ShardJob], progress: ShardProgress) -> Iterator[ShardResult]:
        """The result of every job as it is done, in any order; the shard is in its place by then.

        Raises what `make_shard` raises, and `ModelError` if a worker is lost for good.
        """
        ...


def named_engine(
    name: str, *, devices: Sequence[str] | None = None, address: str | None = None, workers: int | None = None
) -> Engine:
    """``local``, on ``devices``, or ``ray``, with ``address`` and ``workers``; raises `UsageError` for another name."""
    if name not in ENGINES:
        raise UsageError(f"no engine is called {name!r}; use one of: {', '.join(ENGINES)}")
    if name == "ray" and devices is not None:
        raise UsageError("--devices belongs to the engine local; ray gives each worker a GPU of its own")
    if name == "local" and not (address is None and workers is None):
        raise UsageError("an address and a number of workers belong to the engine ray; leave them out, or choose it")
    return LocalEngine(devices) if name == "local" else RayEngine(address, workers)


class LocalEngine:
    """Makes shards on this machine: with one device in this process, with several in a process for each."""

    def __init__(self, devices: Sequence[str] | None = None) -> None:
        """On ``devices`` such as ``cuda:0``; by default on all CUDA devices where a spec leaves the choice open.

        Raises `UsageError` for an empty list.
        """
        if devices is not None and not devices:
            raise UsageError("there are no devices; name at least one, such as cpu or cuda:0")
        self._devices = devices

    def run(self, spec: BuildSpec, jobs: Sequence[ShardJob], progress: ShardProgress) -> Iterator[ShardResult]:
        """See `Engine.run`."""
        if not jobs:
            return
        devices = (self._devices or _cuda_devices(spec))[: len(jobs)]
        if len(devices) > 1:
            yield from _in_processes(spec, jobs, progress, devices)
            return
        generator = spec.open(devices[0] if devices else None)
        for job in jobs:
            yield make_shard(spec, generator, job, lambda done, name=job.name: progress(name, done))


class _Worker:
    """Makes shards in a process of its own; loads the models at the first, so that an error there is a result."""

    def __init__(self, spec: BuildSpec, device: str | None, threads: int) -> None:
        torch.set_num_threads(threads)  # as many as the process that started it
        self._spec, self._device = spec, device
        self._generator: PairGenerator | None = None

    def make(self, job: ShardJob, progress: ShardProgress = lambda name, done: None) -> ShardResult | TopcoatError:
        try:
            self._generator = self._generator or self._spec.open(self._device)
            return make_shard(self._spec, self._generator, job, lambda done: progress(job.name, done))
        except TopcoatError as error:
            return error
        except Exception as error:
            return ModelError(f"a worker failed: {type(error).__name__}: {error}")


def _result(outcome: ShardResult | TopcoatError) -> ShardResult:
    if isinstance(outcome, TopcoatError):
        raise outcome
    return outcome


def _cuda_devices(spec: BuildSpec) -> Sequence[str]:
    """All CUDA devices, if there are several and both specs leave the choice open."""
    pair = spec.pair
    count = torch.cuda.device_count()
    if count < 2 or spec.generators is not None or not pair.distilled.device == pair.baseline.device == "auto":
        return ()
    return [f"cuda:{number}" for number in range(count)]


def _in_processes(
    spec: BuildSpec, jobs: Sequence[ShardJob], progress: ShardProgress, devices: Sequence[str]
) -> Iterator[ShardResult]:
    context = multiprocessing.get_context("spawn")  # CUDA cannot be used in a forked process
    free, reports = context.SimpleQueue(), context.SimpleQueue()
    for device in devices:
        free.put(device)
    parent_lives, end_workers = context.Pipe(duplex=False)
    arguments = (spec, free, torch.get_num_threads(), reports, parent_lives)
    pool = ProcessPoolExecutor(len(devices), context, _start_worker, arguments)
    try:
        pending = {pool.submit(_make_in_worker, job) for job in jobs}
        while pending:
            done, pending = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
            while not reports.empty():
                progress(*reports.get())
            for future in done:
                yield _result(future.result())
    except BrokenProcessPool as error:
        raise ModelError(
            f"a worker process on one of {', '.join(devices)} was killed or crashed (a frequent cause is too little "
            "memory); run the same command again to continue"
        ) from error
    finally:
        end_workers.close()
        pool.shutdown(cancel_futures=True)


_worker: tuple[_Worker, ShardProgress] | None = None
"""Of a worker process, with the function that reports its progress."""


def _start_worker(spec: BuildSpec, free: Any, threads: int, reports: Any, parent_lives: Any) -> None:
    """Set a worker process up. It ends as soon as its parent closes its end of ``parent_lives``, or is gone."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    _worker = _Worker(spec, free.get(), threads), lambda name, done: reports.put((name, done))

    def end_with_parent() -> None:
        parent_lives.poll(None)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _make_in_worker(job: ShardJob) -> ShardResult | TopcoatError:
    assert _worker is not None
    worker, progress = _worker
    return worker.make(job, progress)


class RayEngine:
    """Makes shards with Ray actors, each holding both loaded models, on this machine or on a cluster.

    If an actor is lost, Ray starts another, which makes the shard anew. On a cluster every machine needs topcoat, the
    models and the dataset's folder under the same paths.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        """On the cluster at ``address`` (``auto`` finds a running one), or on this machine alone.

        ``workers`` are the actors: by default one for each GPU, and without any, one. Raises `UsageError` for fewer
        than one.
        """
        if workers is not None and workers < 1:
            raise UsageError(f"{workers} workers cannot make anything; use 1 or more")
        self._address, self._workers = address, workers

    def run(self, spec: BuildSpec, jobs: Sequence[ShardJob], progress: ShardProgress) -> Iterator[ShardResult]:
        """See `Engine.run`; raises `UsageError` if Ray is not installed or there is no cluster at the address."""
        if not jobs:
            return
        spec = replace(spec, folder=spec.folder.resolve())  # an actor has a working folder of its own
        ray = _ray()
        started_here = not ray.is_initialized()
        if started_here:
            _start(ray, self._address)
        try:
            for outcome in self._outcomes(ray, spec, jobs):
                result = _result(outcome)
                progress(result.entry.name, result.entry.rows + len(result.failures) + len(result.dropped))
                yield result
        except ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise ModelError(f"Ray could not continue ({lines[-1]}); run the same command again") from error
        finally:
            if started_here:
                ray.shutdown()

    def _outcomes(self, ray: Any, spec: BuildSpec, jobs: Sequence[ShardJob]) -> Iterator[ShardResult | TopcoatError]:
        pool = importlib.import_module("ray.util").ActorPool
        resources = ray.cluster_resources()
        gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
        workers = min(self._workers or max(1, gpus), len(jobs))
        options: dict[str, Any] = {
            "num_gpus": 1 if gpus else 0,
            "num_cpus": 1 if gpus else max(1, cpus // workers),
            "max_restarts": -1,
            "max_task_retries": -1,
        }
        threads = torch.get_num_threads()

        class ShardActor(_Worker):
            """Holds the build's spec by itself: an actor whose arguments are large objects cannot be restarted."""

            def __init__(self) -> None:
                super().__init__(spec, None, threads)

        actor = ray.remote(**options)(ShardActor)
        actors = pool([actor.remote() for _ in range(workers)])
        return actors.map_unordered(lambda worker, job: worker.make.remote(job), jobs)


def _ray() -> Any:
    """The module `ray`; raises `UsageError` if it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise UsageError("the engine ray needs Ray; install it with: pip install 'topcoat[ray]'") from error


def _start(ray: Any, address: str | None) -> None:
    """Connect to the cluster at ``address``, or start a small one on this machine."""
    options: dict[str, Any] = {"address": address}
    if address is None:
        options = {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
    try:
        ray.init(log_to_driver=False, logging_level="error", **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = "on this machine" if address is None else f"at {address}"
        reason = textwrap.shorten(str(error), 200, placeholder="...")
        raise UsageError(f"Ray cannot be reached or started {where} ({reason}); check the address") from error
