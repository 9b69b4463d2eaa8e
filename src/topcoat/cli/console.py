"""What every command shares: text or JSON on stdout, progress on stderr, errors and exit codes.

Exit codes: 0 done, 1 failed, 2 wrong use, 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import signal
import string
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from topcoat.errors import TopcoatError, UsageError
from topcoat.files import FolderLock
from topcoat.memory import is_out_of_memory

INTERRUPTED = 130
_PLAIN_EVERY_SECONDS = 5.0
_MODELS = (
    "torch diffusers transformers accelerate safetensors huggingface_hub tokenizers pyarrow scipy faker jinja2 onnx "
    "onnxscript"
)
_EXTRA_OF = {
    **dict.fromkeys(_MODELS.split(), "models"),
    **dict.fromkeys(("fastapi", "uvicorn"), "study"),
    "prometheus_client": "serve",
    "openvino": "openvino",
    "peft": "lora",
    "ray": "ray",
}
"""The extra of the package that a module comes with, where the base installation lacks it."""

Item = TypeVar("Item")
Progress = Callable[..., None]
"""Called with how many pieces of work are done, of how many, and optionally a note that is shown after them."""
Register = Callable[[typer.Typer], None]
"""Adds a command to an app."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of text.")]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="CPU threads that the networks use; one for each core by default."),
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


class _Cells(string.Formatter):
    """Format strings with the units ``tflop`` and ``bytes``; a value that is None becomes a dash."""

    def format_field(self, value: Any, format_spec: str) -> str:
        from topcoat.cost.table import format_bytes, format_tflop

        if value is None:
            return "-"
        units = {"tflop": format_tflop, "bytes": format_bytes}
        return units[format_spec](value) if format_spec in units else format(value, format_spec)


class Output:
    """Where a command writes: text for a person, or one JSON object for a machine (then text is not shown)."""

    def __init__(self, *, as_json: bool, threads: int | None = None) -> None:
        self.as_json = as_json
        self.threads = threads
        """What ``--threads`` says; torch knows of it already."""
        self.on_interrupt = "run the same command again"
        """How to go on after Ctrl-C; a command that resumes says so here."""
        self._locks = ExitStack()

    def line(self, *texts: str) -> None:
        """Lines for a person."""
        if not self.as_json:
            for text in texts:
                typer.echo(text)

    def warn(self, *texts: str) -> None:
        """Lines on stderr, shown with ``--json`` too."""
        for text in texts:
            typer.echo(f"warning: {text}", err=True)

    def lock(self, folder: Path) -> None:
        """Keep other processes out of ``folder`` until the command ends; `DataError` where one writes there."""
        self._locks.enter_context(FolderLock(folder))

    def unlock(self) -> None:
        """Release what `lock` holds."""
        self._locks.close()

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table for a person; the first column is text, the others are aligned right."""
        if self.as_json:
            return
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD)
        for number, column in enumerate(columns):
            table.add_column(Text(column), justify="right" if number else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(str(cell)) for cell in row))
        width = None if sys.stdout.isatty() else 200
        Console(file=sys.stdout, width=width).print(table)

    def records(self, title: str, columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> None:
        """A table of what `result` prints: headings and format strings of their cells, such as ``{usd:,.2f}``."""
        cells = _Cells()
        self.table(title, list(columns), [[cells.vformat(text, (), row) for text in columns.values()] for row in rows])

    def result(self, record: Any) -> None:
        """The command's result for a machine: printed with ``--json`` only."""
        if self.as_json:
            typer.echo(json.dumps(record, indent=2, ensure_ascii=False, default=str))

    @contextmanager
    def progress(self, label: str) -> Iterator[Progress]:
        """Progress on stderr: a bar on a terminal, else a plain line every few seconds."""
        if not sys.stderr.isatty():
            yield _plain_progress(label)
            return
        from rich import progress as bars
        from rich.console import Console

        columns = (
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[note]}"),
        )
        with bars.Progress(*columns, console=Console(stderr=True)) as display:
            task = display.add_task(label, total=None, note="")

            def report(done: int, total: int, note: str = "") -> None:
                display.update(task, completed=done, total=total, note=note)

            yield report

    def track(self, label: str, items: Iterable[Item], total: int) -> Iterator[Item]:
        """``items`` as they come, with progress."""
        with self.progress(label) as report:
            for done, item in enumerate(items, start=1):
                yield item
                report(done, total)


def _plain_progress(label: str) -> Progress:
    """Lines such as ``making pairs: 16/200, 12 s``: the first, the last, and one every few seconds."""
    started = time.monotonic()
    last, shown = float("-inf"), -1

    def report(done: int, total: int, note: str = "") -> None:
        nonlocal last, shown
        now = time.monotonic()
        if done == shown or (done < total and now - last < _PLAIN_EVERY_SECONDS):
            return
        last, shown = now, done
        typer.echo(f"{label}: {done}/{total}, {now - started:.0f} s" + (f", {note}" if note else ""), err=True)

    return report


def wait_passively() -> None:
    """Let idle threads of OpenMP sleep; has an effect before torch is imported, and none on what the user has set.

    By default they spin, which takes the processors from whoever has work: beside a busy process a build took three
    times as long. GNU's runtime, which PyTorch's wheels for Linux link, and LLVM's and Intel's all read this variable.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def _use_threads(threads: int) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)  # torch reads it when it is imported, and so do processes begun here
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads)


def command(
    name: str, *, examples: Sequence[str], computes: bool = False, extra: str | None = None
) -> Callable[[Callable[..., None]], Register]:
    """Make a function the command ``name``, with ``--json``, ``--debug`` and one way to end.

    The function's first parameter is ``out``, its `Output`; the others are its options. ``examples`` are command lines
    shown at the end of its help. A command that ``computes`` runs networks here, and has ``--threads`` too. ``extra``
    has all that it needs, and is named where something is missing.
    """
    epilog = "\n".join(("Examples:", *(f"  {example}" for example in examples)))

    def decorate(function: Callable[..., None]) -> Register:
        signature = inspect.signature(function, eval_str=True)
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters = [parameter.replace(kind=kind) for parameter in list(signature.parameters.values())[1:]]
        if computes:
            parameters.append(inspect.Parameter("threads", kind, default=None, annotation=ThreadsOption))
        parameters.append(inspect.Parameter("as_json", kind, default=False, annotation=JsonOption))
        parameters.append(inspect.Parameter("debug", kind, default=False, annotation=DebugOption))

        @functools.wraps(function)
        def run(*, as_json: bool, debug: bool, threads: int | None = None, **given: Any) -> None:
            out = Output(as_json=as_json, threads=threads)
            try:
                if threads is not None:
                    _use_threads(threads)
                function(out, **given)
            except (typer.Exit, typer.Abort, typer.TyperException, BrokenPipeError):
                raise
            except KeyboardInterrupt:
                typer.echo(f"\nstopped; to go on, {out.on_interrupt}", err=True)
                raise typer.Exit(INTERRUPTED) from None
            except Exception as error:
                raise typer.Exit(_report(error, out, debug=debug, extra=extra)) from None
            finally:
                out.unlock()

        setattr(run, "__signature__", signature.replace(parameters=parameters))  # noqa: B010 - no such attribute in stubs
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return lambda app: app.command(name, epilog=epilog)(run) and None

    return decorate


class Commands(TyperGroup):
    """The group of all commands: a wrong option or value is one sentence like every other error."""

    def main(self, args: Sequence[str] | None = None, *more: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run a command line (default: this process's); ends the process unless ``standalone_mode`` is False."""
        words = sys.argv[1:] if args is None else list(args)
        if not standalone_mode:
            return super().main(words, *more, standalone_mode=False, **extra)
        try:
            code = super().main(words, *more, standalone_mode=False, **extra)
        except typer.TyperException as error:
            code = error.exit_code
            message = " ".join(error.format_message().split()).rstrip(".")
            message = message.replace(": Value error, ", ": ").replace(": Input", ": input")  # pydantic's words
            if message:  # none: the help was asked for by no arguments, and is printed
                context = getattr(error, "ctx", None)
                message = message[0].lower() + message[1:] + (f"; see {context.command_path} --help" if context else "")
                _report(UsageError(message), Output(as_json="--json" in words), debug="--debug" in words)
        sys.exit(code)


@contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """A cluster's SIGTERM ends a command as Ctrl-C does: cleanly, and with a word on how to go on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _report(error: Exception, out: Output, *, debug: bool, extra: str | None = None) -> int:
    """Say what went wrong, in one sentence; returns the exit code."""
    if isinstance(error, TopcoatError):
        message, code = str(error), error.exit_code
    elif isinstance(error, ModuleNotFoundError) and (found := _EXTRA_OF.get(str(error.name).partition(".")[0])):
        message, code = f"this needs {error.name}, which is not installed: pip install 'topcoat[{extra or found}]'", 1
    elif isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        message, code = f"{error.strerror}{where}", 1
    elif is_out_of_memory(error):
        message, code = "memory ran out; use a smaller batch, smaller images, or --offload where a generator runs", 1
    else:
        what = " ".join(str(error).split())
        message = f"unexpected {type(error).__name__}: {what}; this is a defect, run again with --debug and report it"
        code = 1
    if debug:
        traceback.print_exception(error)
    out.result({"error": {"type": type(error).__name__, "message": message}})
    typer.echo(f"error: {message}", err=True)
    return code
