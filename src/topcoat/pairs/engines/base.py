"""What an engine is, and the engines known by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, Protocol, get_args

from topcoat.errors import UsageError
from topcoat.pairs.shards import ShardJob, ShardResult, Workshop

EngineName = Literal["local", "ray"]
ENGINES: tuple[str, ...] = get_args(EngineName)
"""The names that `named_engine` knows."""

ShardReport = Callable[[str, int], None]
"""Told the name of a shard and how many of its pairs are done."""


class Engine(Protocol):
    """Makes shards; the caller alone writes the manifest."""

    def run(self, workshop: Workshop, jobs: Sequence[ShardJob], report: ShardReport) -> Iterator[ShardResult]:
        """The result of every job as it is done, in any order; the shard lies in its place by then.

        Raises what `make_shard` raises, and `ModelError` if a worker is lost for good.
        """
        ...


def named_engine(name: str, *, address: str | None = None, workers: int | None = None) -> Engine:
    """``local`` or ``ray``; ``address`` and ``workers`` belong to ``ray``. Raises `UsageError` for another name."""
    from topcoat.pairs.engines.cluster import RayEngine
    from topcoat.pairs.engines.local import LocalEngine

    if name == "ray":
        return RayEngine(address=address, workers=workers)
    if name != "local":
        raise UsageError(f"no engine is called {name!r}; use one of: {', '.join(ENGINES)}")
    if address is not None or workers is not None:
        raise UsageError("an address and a number of workers belong to the engine ray; leave them out, or choose it")
    return LocalEngine()
