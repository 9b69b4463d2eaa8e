"""Running the app: the socket, its limits, and a shutdown that finishes what runs."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from topcoat.serving.engine import Engine

HEADER_SECONDS = 15.0
"""In which a connection has to say what it wants."""


class PatientProtocol(H11Protocol):
    """uvicorn's protocol, which also closes connections that do not finish the head of a request in time."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """An answer is sent, and another request may come."""
        super().on_response_complete()
        self._wait_for_head()

    def _wait_for_head(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(HEADER_SECONDS, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


class Server(uvicorn.Server):
    """uvicorn, which first ends what would never end by itself."""

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_stop = on_stop

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        self._on_stop()
        await super().shutdown(sockets)


def make_server(app: ASGIApp, grace_seconds: float, on_stop: Callable[[], None] = lambda: None) -> uvicorn.Server:
    """uvicorn as it is run here; it calls ``on_stop`` before it waits for what runs."""
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(grace_seconds)),
    )
    return Server(config, on_stop)


async def serve_until_stopped(
    app: ASGIApp,
    engine: Engine,
    bound: socket.socket,
    *,
    grace_seconds: float,
    on_ready: Callable[[], None],
    on_stop: Callable[[], None] = lambda: None,
) -> None:
    """Start ``engine`` and answer until SIGINT or SIGTERM; then finish what was taken, for at most ``grace_seconds``.
    ``on_stop`` is called as soon as it begins to stop.

    While models load, health is answered already. Raises what loading them does.
    """
    server = make_server(app, grace_seconds, on_stop)

    async def start() -> None:
        try:
            await engine.start()
        except BaseException:
            server.should_exit = True
            raise
        on_ready()

    starting = asyncio.create_task(start())
    with _signals_end_here():
        await server.serve([bound])
    if starting.done():
        await starting
    await engine.close()


@contextmanager
def _signals_end_here() -> Iterator[None]:
    """uvicorn raises the signal that stopped it again when it has ended, which would end the process at once."""
    before = {each: signal.signal(each, lambda *_: None) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
