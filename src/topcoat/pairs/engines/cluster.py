"""The Ray engine: shards made by actors of Ray Data, on this machine or on a cluster."""

from __future__ import annotations

import importlib
import logging
import os
import pickle
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from topcoat.errors import ModelError, TopcoatError, UsageError
from topcoat.pairs.engines.base import ShardReport
from topcoat.pairs.painter import Painter
from topcoat.pairs.shards import ShardJob, ShardResult, Workshop, make_shard

_STORE_BYTES = 100 * 1024 * 1024  # images never pass through Ray's object store, only jobs and results do


class RayEngine:
    """Makes shards with a pool of Ray Data actors, each holding both loaded models.

    A shard is the unit of work: its actor writes it under a temporary name and renames it. If an actor is lost, Ray
    starts another, which makes the shard anew. On a cluster every machine needs topcoat, the models and the dataset's
    folder under the same paths.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        """On the cluster at ``address`` (``auto`` finds a running one), or on this machine alone.

        ``workers`` are the actors: by default one for each GPU, and without any, one. Raises `UsageError` for fewer
        than one.
        """
        if workers is not None and workers < 1:
            raise UsageError(f"{workers} workers cannot make anything; use 1 or more")
        self._address = address
        self._workers = workers

    def run(self, workshop: Workshop, jobs: Sequence[ShardJob], report: ShardReport) -> Iterator[ShardResult]:
        """See `Engine.run`; raises `UsageError` if Ray is not installed or there is no cluster at the address."""
        if not jobs:
            return
        workshop = replace(workshop, folder=workshop.folder.resolve())  # an actor has a working folder of its own
        ray = _ray()
        ours = not ray.is_initialized()
        if ours:
            _start(ray, self._address)
        try:
            for row in self._rows(ray, workshop, jobs):
                outcome = pickle.loads(row["outcome"])
                if isinstance(outcome, Exception):
                    raise outcome
                report(outcome.entry.name, outcome.entry.rows + len(outcome.failures) + len(outcome.dropped))
                yield outcome
        except ray.exceptions.RayError as error:
            words = str(error).strip().splitlines() or [type(error).__name__]
            raise ModelError(f"Ray could not go on ({words[-1]}); run the same command again") from error
        finally:
            if ours:
                ray.shutdown()

    def _rows(self, ray: Any, workshop: Workshop, jobs: Sequence[ShardJob]) -> Iterator[dict[str, Any]]:
        import torch

        resources = ray.cluster_resources()
        gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
        workers = min(self._workers or max(1, gpus), len(jobs))
        _silence(ray)
        work = ray.data.from_items([{"job": pickle.dumps(job)} for job in jobs], override_num_blocks=len(jobs))
        made = work.map_batches(
            _ShardMaker,
            fn_constructor_args=(workshop, torch.get_num_threads()),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_gpus=1 if gpus else 0,
            num_cpus=1 if gpus else max(1, cpus // workers),
        )
        return iter(made.iter_rows())


class _ShardMaker:
    """An actor: loads the models at its first shard, so that what goes wrong there comes back as a sentence."""

    def __init__(self, workshop: Workshop, threads: int) -> None:
        self._workshop = workshop
        self._threads = threads
        self._painter: Painter | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"outcome": [pickle.dumps(self._make(pickle.loads(job))) for job in batch["job"]]}

    def _make(self, job: ShardJob) -> ShardResult | TopcoatError:
        import torch

        torch.set_num_threads(self._threads)
        try:
            if self._painter is None:
                self._painter = self._workshop.open()
            return make_shard(self._workshop, self._painter, job, lambda _: None)
        except TopcoatError as error:
            return error


def _ray() -> Any:
    """The module `ray` with `ray.data`; raises `UsageError` if it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        importlib.import_module("ray.data")
        return importlib.import_module("ray")
    except ImportError as error:
        raise UsageError("the engine ray needs Ray; install it with: pip install 'topcoat[ray]'") from error


def _silence(ray: Any) -> None:
    """No bars, plans or notices of Ray's own options beside topcoat's progress."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of options that Ray itself sets
        ray.data.DataContext.get_current().enable_progress_bars = False


def _start(ray: Any, address: str | None) -> None:
    """Connect to the cluster at ``address``, or start a small one on this machine."""
    try:
        if address is not None:
            ray.init(address=address, log_to_driver=False, logging_level="error")
        else:
            ray.init(
                include_dashboard=False, object_store_memory=_STORE_BYTES, log_to_driver=False, logging_level="error"
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = "on this machine" if address is None else f"at {address}"
        words = " ".join(str(error).split())[:200]
        raise UsageError(f"Ray cannot be reached or started {where} ({words}); check the address") from error
