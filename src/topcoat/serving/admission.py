"""Who is let in: a bounded number of images, each request within its time."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

from topcoat.errors import TopcoatError, UsageError
from topcoat.serving.settings import ServeConfig

T = TypeVar("T")


class BusyError(TopcoatError):
    """The queue is full; come again after `retry_after_seconds`."""

    def __init__(self, message: str, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class TooLateError(TopcoatError):
    """A request was not done within its time."""


class ClosingError(TopcoatError):
    """The engine is not ready yet, or takes no more requests."""


class Load:
    """What the engine is busy with, in images."""

    def __init__(self) -> None:
        self.held = 0
        """Of requests that were let in and are not answered."""
        self.waiting = 0
        """Of those, how many wait for a model."""
        self.seconds_per_image = 0.0
        """A moving average of what the models take."""

    @contextlib.contextmanager
    def holding(self, images: int) -> Iterator[None]:
        """Within it a request for ``images`` is in."""
        self.held += images
        try:
            yield
        finally:
            self.held -= images

    def made(self, seconds: float) -> None:
        """Note what an image took."""
        share = 0.1 if self.seconds_per_image else 1.0
        self.seconds_per_image += share * (seconds - self.seconds_per_image)


class Wait:
    """The time that one image waits for a model, within a ``with``."""

    def __init__(self, load: Load) -> None:
        self._load, self._asked, self._is_over = load, time.perf_counter(), False
        self.seconds = 0.0

    def end(self) -> None:
        """A model begins with it; does nothing the second time."""
        if not self._is_over:
            self._is_over, self.seconds = True, time.perf_counter() - self._asked
            self._load.waiting -= 1

    def __enter__(self) -> Wait:
        self._load.waiting += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class Admission:
    """Lets requests in while there is room."""

    def __init__(self, config: ServeConfig) -> None:
        self._config = config
        self.load = Load()
        self.is_open = False
        """Whether requests are let in."""

    def check_open(self) -> None:
        """Raise `ClosingError` where none are let in."""
        if not self.is_open:
            raise ClosingError("the server is not ready or shutting down; try again in a moment")

    async def admit(self, images: int, work: Coroutine[Any, Any, T], timeout_seconds: float | None) -> T:
        """Do the work of a request for ``images`` if there is room, within its time.

        Raises `UsageError` for more images than one request may have, `BusyError`, `TooLateError` and `ClosingError`.
        """
        config, held = self._config, self.load.held
        try:
            self.check_open()
            limit = min(config.max_images, config.max_queue)
            if not 1 <= images <= limit:
                raise UsageError(f"a request of {images} images is not possible; ask for 1 to {limit}")
            if held + images > config.max_queue:
                seconds = max(1, math.ceil(self.load.seconds_per_image * held))
                raise BusyError(
                    f"the server has {held} images to make and takes {config.max_queue}; try again in {seconds} s",
                    seconds,
                )
        except BaseException:
            work.close()
            raise
        limit_seconds = min(timeout_seconds or config.timeout_seconds, config.timeout_seconds)
        with self.load.holding(images):
            try:
                return await asyncio.wait_for(work, limit_seconds)
            except (asyncio.TimeoutError, TimeoutError):
                raise TooLateError(
                    f"the request took more than {limit_seconds:g} s; ask for fewer images, or try again later"
                ) from None
