"""Holding Ctrl-C and SIGTERM back until a step has ended, so that a stop finds a state that can be saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_HELD = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def held_back() -> Iterator[None]:
    """Let a signal that comes inside take effect at the end; a second one takes effect at once.

    Signals that Python does not handle, and threads other than the main one, are left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: handler for number in _HELD if callable(handler := signal.getsignal(number))}
    caught: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        if len(caught) > 1:
            handlers[signal.Signals(number)](number, frame)

    for number in handlers:
        signal.signal(number, hold)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if caught:
        handlers[signal.Signals(caught[0])](caught[0], None)
