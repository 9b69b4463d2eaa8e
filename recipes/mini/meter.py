"""Progress of a stage: a bar on a terminal, a plain line every half minute in a log."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS = 30


class Meter:
    """Counts ``done`` of ``total`` images (or prompts) of one stage; use it as a context manager."""

    def __init__(self, stage: str, total: int, done: int = 0) -> None:
        console = Console(stderr=True)
        self._stage, self._total = stage, total
        self._started, self._first, self._printed = time.monotonic(), done, time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console) if console.is_terminal else None
        self._task = self._bar.add_task(stage, total=total, completed=done) if self._bar else None

    def __enter__(self) -> Meter:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, done: int, note: str) -> None:
        """Say that ``done`` are done, with a short ``note`` on how it goes."""
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=done, description=f"{self._stage}: {note}")
        elif time.monotonic() - self._printed > LINE_SECONDS or done >= self._total:
            self._printed = time.monotonic()
            rate = (done - self._first) / (self._printed - self._started)
            print(f"{self._stage}: {done:,} of {self._total:,}, {rate:.1f}/s, {note}", flush=True)
