"""The local engine: in this process on one device, or one process for each of several."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from topcoat.errors import ModelError, TopcoatError, UsageError
from topcoat.pairs.engines.base import ShardReport
from topcoat.pairs.shards import ShardJob, ShardResult, Workshop, make_shard

_STOP_SECONDS = 10.0


class LocalEngine:
    """Makes shards on this machine. With one device that is in this process; with several, each has a process."""

    def __init__(self, devices: Sequence[str] | None = None) -> None:
        """On ``devices`` such as ``cuda:0``; by default on all CUDA devices where a spec leaves the choice to us.

        Raises `UsageError` for an empty list.
        """
        if devices is not None and not devices:
            raise UsageError("there are no devices; name at least one, such as cpu or cuda:0")
        self._devices = None if devices is None else tuple(devices)

    def run(self, workshop: Workshop, jobs: Sequence[ShardJob], report: ShardReport) -> Iterator[ShardResult]:
        """See `Engine.run`."""
        if not jobs:
            return
        devices = self._chosen(workshop)[: len(jobs)]
        if len(devices) > 1:
            yield from _in_processes(workshop, jobs, report, [str(device) for device in devices])
            return
        painter = workshop.open(devices[0] if devices else None)
        for job in jobs:
            yield make_shard(workshop, painter, job, lambda done, name=job.name: report(name, done))

    def _chosen(self, workshop: Workshop) -> tuple[str | None, ...]:
        if self._devices is not None:
            return self._devices
        pair = workshop.pair
        if workshop.generators is None and pair.distilled.device == pair.baseline.device == "auto":
            import torch

            if torch.cuda.device_count() > 1:
                return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))
        return (None,)


def _in_processes(
    workshop: Workshop, jobs: Sequence[ShardJob], report: ShardReport, devices: Sequence[str]
) -> Iterator[ShardResult]:
    """One process for each device; the next shard goes to whichever is free.

    A worker learns through its closed pipe that this process is gone, and ends.
    """
    import torch

    context = multiprocessing.get_context("spawn")  # CUDA cannot be used in a forked process
    workers: dict[Any, tuple[BaseProcess, str]] = {}
    waiting = list(reversed(jobs))
    try:
        for device in devices:
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_work, args=(theirs, workshop, device, torch.get_num_threads()), daemon=True
            )
            process.start()
            theirs.close()
            workers[ours] = (process, device)
            ours.send(waiting.pop())
        while workers:
            for connection in wait(list(workers)):
                assert isinstance(connection, Connection)
                process, device = workers[connection]
                try:
                    message = connection.recv()
                except (EOFError, OSError):
                    process.join(_STOP_SECONDS)
                    raise ModelError(
                        f"the worker on {device} ended with exit code {process.exitcode}; run the same command again "
                        "to go on"
                    ) from None
                if isinstance(message, Exception):
                    raise message
                if not isinstance(message, ShardResult):
                    report(*message)
                    continue
                yield message
                if waiting:
                    connection.send(waiting.pop())
                else:
                    connection.close()
                    workers.pop(connection)[0].join(_STOP_SECONDS)
    finally:
        for connection, (process, _) in workers.items():
            process.terminate()
            process.join(_STOP_SECONDS)
            connection.close()


def _work(connection: Connection, workshop: Workshop, device: str, threads: int) -> None:
    """What a worker does: makes the shards that come through the pipe until it is closed.

    It computes with as many threads as the process that started it, and leaves Ctrl-C to that one.
    """
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    try:
        painter = workshop.open(device)
        while True:
            job = connection.recv()
            connection.send(
                make_shard(workshop, painter, job, lambda done, name=job.name: connection.send((name, done)))
            )
    except (EOFError, BrokenPipeError):
        return
    except TopcoatError as error:
        connection.send(error)
    except Exception as error:
        connection.send(ModelError(f"a worker on {device} failed: {type(error).__name__}: {error}"))
