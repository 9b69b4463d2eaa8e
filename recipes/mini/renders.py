"""Stage 1: render the portraits that everything else learns from, once `pack` has reduced them.

``python -m recipes.mini.renders --work build/mini --count 24000 --processes 2`` writes shards of 250 portraits, and the
same command goes on where it stopped; `recipes.mini.portrait.shards` says what a shard holds. Portrait ``i`` depends
on ``i`` alone, so shards may be made in any order, by any number of processes, and again.
"""

from __future__ import annotations

import argparse
import errno
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from recipes.mini.portrait.shards import (
    SHARD_RENDERS,
    WORDS_SEED,
    Shard,
    count_done,
    load_partial,
    reopen,
    save_portraits,
    shards,
)
from recipes.mini.portrait.words import Words, sample_words

KEPT_EVERY = 10
"""Portraits after which a shard in the making is kept on disk."""
RENDERS_OF_A_PROCESS = 250
"""Portraits after which a process ends and a fresh one takes over, so that Blender's memory does not grow."""
FAILURES_IN_A_ROW = 8
"""Portraits that may fail one after the other before rendering stops."""
SIZE_PX = 192


class _Rendered(Protocol):
    """What a render function returns; `recipes.mini.portrait.render.Portrait` is one."""

    @property
    def image(self) -> np.ndarray: ...

    @property
    def identity(self) -> np.ndarray: ...

    @property
    def scene(self) -> np.ndarray: ...

    @property
    def landmarks(self) -> np.ndarray: ...


RenderFunction = Callable[[Words, int, int], _Rendered]
"""(words, seed, pixels) -> portrait."""


def render_shard(shard: Shard, render: RenderFunction, size_px: int, budget: int) -> int:
    """Render what is missing of ``shard``, at most ``budget`` portraits; return how many were tried.

    A portrait that fails is tried once more, then named and left out of its shard. Where many fail in a row it is not
    the portraits that are broken: `SystemExit` says so, and none of them is left out.
    """
    done, failed = load_partial(shard)
    tried, in_a_row = 0, []
    for index in range(shard.first, shard.first + shard.count):
        if index in done or index in failed:
            continue
        if tried == budget:
            break
        tried += 1
        words = sample_words(index, WORDS_SEED)
        entry = _render_one(words, index, render, size_px)
        if entry is None:
            in_a_row.append(index)
            if len(in_a_row) == FAILURES_IN_A_ROW:
                raise SystemExit(f"{FAILURES_IN_A_ROW} portraits in a row cannot be rendered, for the reasons above")
        else:
            failed.update(in_a_row)
            in_a_row.clear()
            done[index] = entry
        if tried % KEPT_EVERY == 0 and done:
            save_portraits(shard.partial, done, failed)
    failed.update(in_a_row)
    if len(done) + len(failed) == shard.count:
        save_portraits(shard.path, done, failed)
        shard.partial.unlink(missing_ok=True)
    elif tried and done:
        save_portraits(shard.partial, done, failed)
    return tried


def _render_one(words: Words, index: int, render: RenderFunction, size_px: int) -> dict[str, np.ndarray] | None:
    for attempt in ("tried again", "left out"):
        try:
            portrait = render(words, index, size_px)
            if portrait.image.std() < 2.0:
                raise ValueError("the picture is empty")
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            reason = traceback.format_exception_only(error)[-1].strip()
            print(f"portrait {index} is {attempt}: {reason}", file=sys.stderr, flush=True)
        else:
            return {
                "images": np.ascontiguousarray(portrait.image.transpose(2, 0, 1)),
                "identity": portrait.identity.astype(np.float32),
                "scene": portrait.scene.astype(np.float32),
                "landmarks": portrait.landmarks.astype(np.float32),
            }
    return None


def make_renders(folder: Path, count: int, processes: int, size_px: int = SIZE_PX, first: int = 0) -> None:
    """Render every missing shard of portraits ``first`` to ``count - 1``, with so many processes of one thread each."""
    _check_tools()
    folder.mkdir(parents=True, exist_ok=True)
    every = list(shards(folder, count, first))
    for shard in every:
        reopen(shard)
    for left in folder.glob(".*.tmp"):
        # what a killed process was writing; nobody writes for an hour
        if time.time() - left.stat().st_mtime > 3600:
            left.unlink(missing_ok=True)
    for name in (signal.SIGINT, signal.SIGTERM):
        # also where a shell that starts jobs in the background has interrupts ignored
        signal.signal(name, _stop)
    started, before = time.monotonic(), count_done(every)
    count = sum(shard.count for shard in every)
    print(f"{before} of {count} portraits are there", flush=True)
    context = multiprocessing.get_context("spawn")
    waiting = [shard for shard in every if not shard.path.exists()]
    running: dict[Any, Shard] = {}
    crashes: dict[int, int] = {}
    last_report = 0.0
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                shard = waiting.pop(0)
                worker = context.Process(target=_work, args=(shard, size_px), daemon=True)
                worker.start()
                running[worker] = shard
            time.sleep(0.5)
            for worker in [w for w in running if not w.is_alive()]:
                shard = running.pop(worker)
                if worker.exitcode == _FATAL:
                    raise SystemExit("rendering stopped; the reason is above")
                if not shard.path.exists():
                    crashes[shard.first] = crashes.get(shard.first, 0) + (worker.exitcode != 0)
                    if crashes[shard.first] > 5:
                        print(
                            f"portraits from {shard.first} on crash again and again; left for another run", flush=True
                        )
                    else:
                        waiting.insert(0, shard)
            if time.monotonic() - last_report > 60:
                last_report = time.monotonic()
                _report(count_done(every), before, count, last_report - started)
    except KeyboardInterrupt:
        raise SystemExit("stopped; the same command goes on") from None
    finally:
        for worker in running:
            worker.terminate()
        for worker in running:
            worker.join(10)
    _report(count_done(every), before, count, time.monotonic() - started)


def _stop(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _report(done: int, before: int, count: int, seconds: float) -> None:
    rate = (done - before) / max(seconds, 1e-9)
    left = f", {(count - done) / rate / 3600:.1f} h to go" if rate > 0 else ""
    print(f"{time.strftime('%H:%M:%S')} {done} of {count} portraits, {rate * 60:.1f} a minute{left}", flush=True)


_FATAL = 3


def _work(shard: Shard, size_px: int) -> None:
    """A worker process: render one shard with one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    _silence_blender()
    from recipes.mini.portrait.render import render_portrait

    parent = multiprocessing.parent_process()

    def render(words: Words, seed: int, size_px: int) -> _Rendered:
        if parent is not None and not parent.is_alive():
            sys.exit("the process that wanted this shard is gone")
        return render_portrait(words, seed, size_px)

    try:
        render_shard(shard, render, size_px, RENDERS_OF_A_PROCESS)
    except SystemExit as error:
        print(error, file=sys.stderr, flush=True)
        sys.exit(_FATAL)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"the disk of {shard.folder} is full; free some space and run the same command again", file=sys.stderr)
        sys.exit(_FATAL)


def _silence_blender() -> None:
    """Send Blender's chatter on standard output to nowhere; standard error stays for what matters."""
    sys.stdout.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _check_tools() -> None:
    """Say in one sentence what is missing for rendering, before any process starts."""
    import importlib.util

    missing = [name for name in ("bpy", "anny", "torch", "PIL") if importlib.util.find_spec(name) is None]
    if not missing:
        return
    text = f"rendering needs {' and '.join(missing)}: pip install -r recipes/mini/requirements.txt"
    if "bpy" in missing and sys.version_info[:2] != (3, 11):
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        text += f", in Python 3.11, for which bpy is made (this is Python {version})"
    raise SystemExit(text)


def main() -> None:
    """Render as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m recipes.mini.renders", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/mini"), help="folder of everything in the making")
    parser.add_argument("--count", type=int, default=24_000, help="number of portraits")
    parser.add_argument("--first", type=int, default=0, help="portraits before it are not rendered (packed ones)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="processes of one thread each")
    parser.add_argument("--size", type=int, default=SIZE_PX, help="pixels of each portrait")
    arguments = parser.parse_args()
    if arguments.first % SHARD_RENDERS or not 0 <= arguments.first < arguments.count:
        parser.error(f"--first is {arguments.first}; it has to be a multiple of {SHARD_RENDERS} below --count")
    make_renders(arguments.work / "renders", arguments.count, arguments.processes, arguments.size, arguments.first)


if __name__ == "__main__":
    main()
