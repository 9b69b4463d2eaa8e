"""How fast heads run on pictures: the embedded head by runtime, a CycleGAN generator beside it, and the whole command.

    python benchmarks/enhance.py                      # some minutes on 2 cores
    python benchmarks/enhance.py --runs 3 --pictures 0

Writes ``benchmarks/enhance.json`` and the section of docs/results.md between its two marker lines. All runtimes take
turns, one image each, so that what else the machine does falls on all of them; medians of wall time and of processor
time are given, because the first is that of a busy machine. The command's bound is what cannot be avoided with the same
libraries on the same cores: decoding, the head's run and encoding of one picture, measured alone, added up and divided
by the threads, times the number of pictures.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from results import ROOT, ended, publish

from topcoat.cost.machine import hardware
from topcoat.files import write_json
from topcoat.heads import CycleGANConfig, Head
from topcoat.metrics.table import Table
from topcoat.pictures import decode_picture, encode_picture, seen_by_head, with_result
from topcoat.runtime import RuntimeName
from topcoat.runtime.graph import graph_record, write_graph
from topcoat.runtime.opening import open_runtime

_WATCHED = """import re, sys
from pathlib import Path
from topcoat.cli.app import app
app(sys.argv[1:], standalone_mode=False)
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""
# The peak memory is asked for from inside: what a parent is told of its children has the parent's own in it.
THREADS = 2
SIDE_PX = 1024


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of one image: medians, and the range of wall time."""

    name: str
    wall: float
    low: float
    high: float
    processor: float


@dataclass(frozen=True, slots=True)
class Folder:
    """A run of the command on a folder."""

    pictures: int
    wall: float
    bound: float
    processor: float
    peak_bytes: int
    parts: dict[str, float]
    """Seconds of processor time for one picture: decoding, the head, encoding."""


def main(arguments: list[str] | None = None) -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=7, help="timed runs of each, after one to warm up")
    parser.add_argument("--pictures", type=int, default=200, help="PNGs that the command enhances; 0 leaves it out")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs" / "results.md", help="file whose section is written")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "enhance.json", help="figures")
    return ended(lambda: run(parser.parse_args(arguments)))


def run(chosen: argparse.Namespace) -> None:
    """Measure, print and write."""
    torch.set_num_threads(THREADS)
    picture = photo_like(SIDE_PX)
    with TemporaryDirectory() as folder:
        times = in_turns(contestants(Path(folder)), picture, chosen.runs)
        whole = command(Path(folder), picture, chosen.pictures) if chosen.pictures else None
    record: dict[str, Any] = {
        "unit": "seconds",
        "side_px": SIDE_PX,
        "threads": THREADS,
        "runs": chosen.runs,
        "heads": [asdict(one) for one in times],
        "folder": None if whole is None else asdict(whole),
        "load_average": os.getloadavg()[0],
        "hardware": hardware().as_dict(),
    }
    write_json(chosen.json, record)
    publish(chosen.docs, "enhance", "enhance.py", markdown(times, whole, chosen.runs))


def photo_like(side_px: int) -> np.ndarray:
    """uint8 ``(side, side, 3)``: soft shapes with fine grain, which compresses about as a photo does."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    soft = np.asarray(coarse.resize((side_px, side_px), Image.Resampling.BICUBIC), dtype=np.float32)
    return (soft + rng.normal(0, 3, soft.shape)).clip(0, 255).astype(np.uint8)


def contestants(folder: Path) -> dict[str, Callable[[np.ndarray], object]]:
    """What is timed, by name: uint8 pixels to uint8 pixels."""
    config = CycleGANConfig()
    cyclegan = Head(config.build(), config)
    write_graph(cyclegan, graph_record(cyclegan, "cyclegan"), folder / "cyclegan.onnx")
    runtimes: dict[str, tuple[str | Path, RuntimeName]] = {
        "embedded head, ONNX Runtime": ("embedded", "onnx"),
        "embedded head, OpenVINO": ("embedded", "openvino"),
        "embedded head, torch channels-last": ("embedded", "torch"),
        "CycleGAN ResNet-9, untrained, ONNX Runtime": (folder / "cyclegan.onnx", "onnx"),
    }
    opened = {name: open_runtime(head, runtime, threads=THREADS) for name, (head, runtime) in runtimes.items()}
    return {name: lambda pixels, of=of: of(pixels.transpose(2, 0, 1)[None]) for name, of in opened.items()}


def in_turns(runs: dict[str, Callable[[np.ndarray], object]], picture: np.ndarray, count: int) -> list[Measured]:
    """Every one once to warm up, then ``count`` rounds of one image each."""
    wall: dict[str, list[float]] = {name: [] for name in runs}
    processor: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(count + 1):
        for name, function in runs.items():
            started, used = time.perf_counter(), time.process_time()
            function(picture)
            if number:
                wall[name].append(time.perf_counter() - started)
                processor[name].append(time.process_time() - used)
        print(f"round {number} of {count}", file=sys.stderr, flush=True)
    median = statistics.median
    return [
        Measured(name, median(wall[name]), min(wall[name]), max(wall[name]), median(processor[name])) for name in runs
    ]


def command(folder: Path, picture: np.ndarray, count: int) -> Folder:
    """``topcoat enhance`` on ``count`` PNGs in a process of its own, beside the bound."""
    given = folder / "given"
    given.mkdir()
    for number in range(count):
        Image.fromarray(np.roll(picture, number, axis=1)).save(given / f"{number:04}.png", compress_level=6)
    parts = parts_of(given / "0000.png")
    arguments = [sys.executable, "-c", _WATCHED, "enhance", str(given), "-o", str(folder / "made")]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    said = subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True).stdout
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    bound = count * sum(parts.values()) / THREADS
    return Folder(count, wall, bound, used, int(said.split()[-1]) * 1024, parts)


def parts_of(path: Path, runs: int = 5) -> dict[str, float]:
    """Median seconds of processor time of what one picture needs."""
    head = open_runtime(threads=THREADS)
    seconds: dict[str, list[float]] = {"decode": [], "head": [], "encode": []}
    for _ in range(runs):
        marks = [time.process_time()]
        picture = decode_picture(path.read_bytes(), path.name)
        seen = seen_by_head(picture)
        marks.append(time.process_time())
        result = head(seen.transpose(2, 0, 1)[None])[0].transpose(1, 2, 0)
        marks.append(time.process_time())
        encode_picture(with_result(picture, seen, result), picture.format)
        marks.append(time.process_time())
        for name, start, stop in zip(seconds, marks, marks[1:], strict=False):
            seconds[name].append(stop - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def markdown(times: list[Measured], whole: Folder | None, runs: int) -> str:
    """The section of docs/results.md."""
    first = times[0]
    rows = [
        [
            one.name,
            f"{one.wall * 1e3:.0f} ({one.low * 1e3:.0f} to {one.high * 1e3:.0f})",
            f"{one.processor * 1e3:.0f}",
            f"{one.processor / first.processor:.1f}",
        ]
        for one in times
    ]
    machine = hardware()
    table = Table(["what", "wall, ms", "processor, ms", "processor, times the first"], rows).markdown()
    text = f"""## How fast pictures are enhanced

One picture of {SIDE_PX} x {SIDE_PX} px, uint8 to uint8, {THREADS} threads, on {machine.cpu} ({machine.cores} cores,
torch {machine.torch}); medians of {runs} runs in turns, with the range. Load average at the end:
{os.getloadavg()[0]:.0f}. Where that is above the {THREADS} threads, wall time is that of a busy machine, and processor
time (of all threads) the fairer measure. Measured by `benchmarks/enhance.py`.

{table}"""
    if whole is None:
        return text
    parts = ", ".join(f"{name} {seconds * 1e3:.0f} ms" for name, seconds in whole.parts.items())
    return f"""{text}

`topcoat enhance` on {whole.pictures} PNGs of {SIDE_PX} px: {whole.wall:.0f} s wall and {whole.processor:.0f} s of
processor time, start included; peak memory {whole.peak_bytes / 1e9:.2f} GB. The bound is {whole.bound:.0f} s, of
{parts} of processor time a picture, on {THREADS} threads. Processor time against that of the bound:
{whole.processor / (THREADS * whole.bound):.2f}."""


if __name__ == "__main__":
    sys.exit(main())
