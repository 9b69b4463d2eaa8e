"""An engine on a fake generator and the embedded head, and a server with it on a real socket."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import FakeGenerator
from topcoat.generators.base import Generator
from topcoat.serving.app import create_app
from topcoat.serving.backend import LocalBackend
from topcoat.serving.engine import Engine
from topcoat.serving.models import Models
from topcoat.serving.server import make_server
from topcoat.serving.settings import ServeConfig
from topcoat.serving.sockets import open_socket
from topcoat.serving.work import Side

MakeEngine = Callable[..., Engine]


@pytest.fixture
def make_engine(fake_generators: tuple[FakeGenerator, FakeGenerator]) -> MakeEngine:
    """Makes engines, whose settings are given by name."""

    def make(**settings: Any) -> Engine:
        config = ServeConfig(**settings)
        distilled, baseline = fake_generators
        sides: dict[Side, Generator] = {"distilled": distilled}
        if config.baseline:
            sides["baseline"] = baseline
        models = Models(config, sides)
        return Engine(config, LocalBackend(config, models))

    return make


def png(side: int = 40, **options: Any) -> bytes:
    """A PNG file of noise."""
    rows = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(rows).save(buffer, "PNG", **options)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    """Of a picture file."""
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture)


@dataclass
class Served:
    """A running server."""

    url: str
    port: int
    engine: Engine


@contextmanager
def running(engine: Engine, **options: Any) -> Iterator[Served]:
    """The app around ``engine`` on a real socket, in a thread of its own; ``options`` are those of `create_app`."""
    app, bound = create_app(engine, **options), open_socket("127.0.0.1", 0)
    server, failed = make_server(app, 10), []

    async def serve() -> None:
        async with engine:
            await server.serve([bound])

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            thread.join(0.01)
        port = bound.getsockname()[1]
        yield Served(f"http://127.0.0.1:{port}", port, engine)
    finally:
        server.should_exit = True
        thread.join()
    assert not failed, failed


@pytest.fixture
def serve(make_engine: MakeEngine) -> Iterator[Callable[..., Served]]:
    """Starts servers; the engine's settings are ``config``, the rest are those of `create_app`."""
    with ExitStack() as stack:

        def start(config: dict[str, Any] | None = None, **options: Any) -> Served:
            return stack.enter_context(running(make_engine(**(config or {})), **options))

        yield start
