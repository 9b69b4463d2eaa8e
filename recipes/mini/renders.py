"""Stage 1: render the portraits that everything else learns from.

``python -m recipes.mini.renders --work build/mini --count 20000 --processes 2`` writes shards of 250 portraits, and the
same command goes on where it stopped. A shard is a safetensors file with ``images`` uint8 (n, 3, H, W), ``identity``
and ``scene`` float32 (n, ...), ``landmarks`` float32 (n, 68, 2) in pixels and ``index`` int64 (n,); its metadata hold
the words of every portrait as JSON. Portrait ``i`` depends on ``i`` alone, so shards may be made in any order, by any
number of processes, and again.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save

from recipes.mini.portrait.words import Words, sample_words

SHARD_RENDERS = 250
KEPT_EVERY = 10
"""Portraits after which a shard in the making is kept on disk."""
RENDERS_OF_A_PROCESS = 250
"""Portraits after which a process ends and a fresh one takes over, so that Blender's memory does not grow."""
FAILURES_IN_A_ROW = 8
"""Portraits that may fail one after the other before rendering stops."""
WORDS_SEED = 20
SIZE_PX = 192


class Rendered(Protocol):
    """What a render function returns; `recipes.mini.portrait.render.Portrait` is one."""

    image: np.ndarray
    identity: np.ndarray
    scene: np.ndarray
    landmarks: np.ndarray


RenderFunction = Callable[[Words, int, int], Rendered]
"""(words, seed, pixels) -> portrait."""


@dataclass(frozen=True)
class Renders:
    """Portraits in memory: ``images`` uint8 (N, 3, H, W), vectors (N, ...), ``landmarks`` (N, 68, 2) in pixels."""

    images: np.ndarray
    identity: np.ndarray
    scene: np.ndarray
    landmarks: np.ndarray
    index: np.ndarray
    words: list[Words]

    @property
    def prompts(self) -> list[str]:
        """The words of each portrait as a sentence."""
        return [words.sentence() for words in self.words]


@dataclass(frozen=True)
class Shard:
    """Portraits ``first`` to ``first + count - 1`` and where they are written."""

    folder: Path
    first: int
    count: int

    @property
    def path(self) -> Path:
        """The finished shard."""
        return self.folder / f"{self.first // SHARD_RENDERS:05d}.safetensors"

    @property
    def partial(self) -> Path:
        """What is there of a shard in the making."""
        return self.path.with_suffix(".part")


def shards(folder: Path, count: int) -> Iterator[Shard]:
    """All shards of ``count`` portraits, the last one perhaps shorter."""
    for first in range(0, count, SHARD_RENDERS):
        yield Shard(folder, first, min(SHARD_RENDERS, count - first))


def load_renders(folder: Path, count: int | None = None, size_px: int | None = None) -> Renders:
    """Every finished shard in ``folder`` up to portrait ``count``; more may still be on their way.

    ``size_px`` takes the area average of the pictures; it must divide their size, or three quarters of it must be
    (192 px to 128 px goes by doubling first).
    """
    paths = sorted(folder.glob("*.safetensors"))
    if count is not None:
        paths = [path for path in paths if int(path.stem) * SHARD_RENDERS < count]
    if not paths:
        raise SystemExit(f"no renders in {folder}; run `python -m recipes.mini.renders` first")
    arrays: dict[str, list[np.ndarray]] = {}
    words: list[Words] = []
    for path in paths:
        shard = load_file(path)
        scale = 1.0
        if size_px is not None:
            scale = size_px / shard["images"].shape[-1]
            shard["images"] = _area_average(shard["images"], size_px)
        shard["landmarks"] = shard["landmarks"] * np.float32(scale)
        for key, value in shard.items():
            arrays.setdefault(key, []).append(value)
        with safe_open(path, "numpy") as file:
            words += [Words(**entry) for entry in json.loads(file.metadata()["words"])]
    joined = {key: np.concatenate(values)[:count] for key, values in arrays.items()}
    return Renders(words=words[:count], **joined)


def _area_average(images: np.ndarray, size_px: int) -> np.ndarray:
    """``images`` uint8 (N, 3, H, H) reduced to ``size_px``, each new pixel the mean of what it covers."""
    size = images.shape[-1]
    if size == size_px:
        return images
    # the share of each old pixel in each new one, along one axis
    edges = np.arange(size_px + 1) * (size / size_px)
    old = np.arange(size)
    cover = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)
    share = (np.clip(cover, 0.0, 1.0) * size_px / size).astype(np.float32)
    result = np.empty((*images.shape[:2], size_px, size_px), np.uint8)
    for number, image in enumerate(images):
        result[number] = np.rint(share @ image.astype(np.float32) @ share.T)
    return result


def render_shard(shard: Shard, render: RenderFunction, size_px: int, budget: int) -> int:
    """Render what is missing of ``shard``, at most ``budget`` portraits; return how many were tried.

    A portrait that fails is tried once more, then named and left out of its shard. Where many fail in a row it is not
    the portraits that are broken: `SystemExit` says so, and none of them is left out.
    """
    done, failed = _load_partial(shard)
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
            _save(shard.partial, done, failed)
    failed.update(in_a_row)
    if len(done) + len(failed) == shard.count:
        _save(shard.path, done, failed)
        shard.partial.unlink(missing_ok=True)
    elif tried and done:
        _save(shard.partial, done, failed)
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


def _save(path: Path, done: Mapping[int, Mapping[str, np.ndarray]], failed: set[int]) -> None:
    """Write the portraits to ``path``, at once or not at all."""
    if not done:
        raise ValueError(f"{path} would hold no portrait")
    order = sorted(done)
    arrays = {key: np.stack([done[index][key] for index in order]) for key in done[order[0]]}
    arrays["index"] = np.array(order, np.int64)
    words = [vars(sample_words(index, WORDS_SEED)) for index in order]
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(save(arrays, {"words": json.dumps(words), "failed": json.dumps(sorted(failed))}))
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _load_partial(shard: Shard) -> tuple[dict[int, dict[str, np.ndarray]], set[int]]:
    """Portraits of ``shard`` that were kept, by index, and those that failed."""
    if not shard.partial.exists():
        return {}, set()
    arrays = load_file(shard.partial)
    with safe_open(shard.partial, "numpy") as file:
        failed = set(json.loads(file.metadata()["failed"]))
    index = arrays.pop("index")
    return {int(i): {key: value[n] for key, value in arrays.items()} for n, i in enumerate(index)}, failed


def _count_done(every: list[Shard]) -> int:
    """Portraits on disk, those of unfinished shards included."""
    total = 0
    for shard in every:
        if shard.path.exists():
            total += shard.count
        elif shard.partial.exists():
            with contextlib.suppress(Exception), safe_open(shard.partial, "numpy") as file:
                total += len(file.get_tensor("index"))
    return total


def _reopen(shard: Shard) -> None:
    """Make a finished shard one in the making where a larger count now asks more of it."""
    if not shard.path.exists():
        return
    with safe_open(shard.path, "numpy") as file:
        held = len(file.get_tensor("index")) + len(json.loads(file.metadata()["failed"]))
    if held < shard.count:
        os.replace(shard.path, shard.partial)


def make_renders(folder: Path, count: int, processes: int, size_px: int = SIZE_PX) -> None:
    """Render every missing shard of ``count`` portraits with so many processes of one thread each."""
    _check_tools()
    folder.mkdir(parents=True, exist_ok=True)
    every = list(shards(folder, count))
    for shard in every:
        _reopen(shard)
    for left in folder.glob(".*.tmp"):
        # what a killed process was writing; nobody writes for an hour
        if time.time() - left.stat().st_mtime > 3600:
            left.unlink(missing_ok=True)
    for name in (signal.SIGINT, signal.SIGTERM):
        # also where a shell that starts jobs in the background has interrupts ignored
        signal.signal(name, _stop)
    started, before = time.monotonic(), _count_done(every)
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
                _report(_count_done(every), before, count, last_report - started)
    except KeyboardInterrupt:
        raise SystemExit("stopped; the same command goes on") from None
    finally:
        for worker in running:
            worker.terminate()
        for worker in running:
            worker.join(10)
    _report(_count_done(every), before, count, time.monotonic() - started)


def _stop(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _report(done: int, before: int, count: int, seconds: float) -> None:
    rate = (done - before) / max(seconds, 1e-9)
    left = f", {(count - done) / rate / 3600:.1f} h to go" if rate > 0 else ""
    print(f"{time.strftime('%H:%M:%S')} {done} of {count} portraits, {rate * 60:.1f} a minute{left}", flush=True)


_FATAL = 3


def _work(shard: Shard, size_px: int) -> None:
    """A worker process: render one shard, politely, with one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with contextlib.suppress(OSError):
        os.nice(19)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    _silence_blender()
    from recipes.mini.portrait.render import render_portrait

    parent = multiprocessing.parent_process()

    def render(words: Words, seed: int, size_px: int) -> Rendered:
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
    parser.add_argument("--count", type=int, default=20_000, help="number of portraits")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="processes of one thread each")
    parser.add_argument("--size", type=int, default=SIZE_PX, help="pixels of each portrait")
    arguments = parser.parse_args()
    make_renders(arguments.work / "renders", arguments.count, arguments.processes, arguments.size)


if __name__ == "__main__":
    main()
