"""Measure what building pairs costs on top of generating them: time, memory, and the time to see that all is done.

    python benchmarks/pairs.py                               # mini pair, about half an hour on 2 cores
    python benchmarks/pairs.py --pairs 16 --repeats 2 --memory 40,80 --resume 200    # does it work at all

Overhead: `build_pairs` against a bare loop over both pipelines, same batch size, in turns; medians. Memory: peak of a
process of its own that builds with a trivial generator. Resume: the same call on a finished dataset, in a process of
its own. Rounding: how many 8-bit values of the same images change when they are generated one by one. Prints a table,
writes ``benchmarks/pairs.json`` and a section of docs/results.md between its two marker lines.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sections import write_section

from topcoat.errors import TopcoatError
from topcoat.files import write_json

if TYPE_CHECKING:
    from torch import Tensor

    from topcoat.generators.base import GeneratorSpec, ModelPair

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- results pairs: begin (benchmarks/pairs.py) -->", "<!-- results pairs: end -->"
_FLAT_SIDE_PX = 32


@dataclass(frozen=True)
class Overhead:
    """Seconds of the bare loop and of the build, one of each for every repeat, in turns."""

    pair: str
    pairs: int
    batch_size: int
    shard_size: int
    bare_seconds: tuple[float, ...]
    build_seconds: tuple[float, ...]

    @property
    def share(self) -> float:
        """What building adds to generating: median against median."""
        return statistics.median(self.build_seconds) / statistics.median(self.bare_seconds) - 1


@dataclass(frozen=True)
class Memory:
    """Peak resident memory of a build of so many pairs."""

    pairs: int
    peak_bytes: int


@dataclass(frozen=True)
class Resume:
    """Seconds until a finished dataset is known to be finished, and of the whole process with its imports."""

    pairs: int
    shards: int
    dataset_bytes: int
    call_seconds: tuple[float, ...]
    process_seconds: tuple[float, ...]


@dataclass(frozen=True)
class Rounding:
    """What generating one by one changes in images that were generated in batches."""

    images: int
    batch_size: int
    changed_share: float
    """Share of the 8-bit values that differ at all."""
    largest: int
    """Largest difference of an 8-bit value, of 255."""


class FlatGenerator:
    """Makes one grey image per seed: as little work as a generator can do."""

    def __init__(self, spec: GeneratorSpec) -> None:
        self.spec = spec

    def generate(self, prompts: Sequence[str], seeds: Sequence[int], *, steps: int | None = None) -> Tensor:
        """``(N, 3, H, W)`` in [0, 1]."""
        import torch

        shades = torch.tensor([seed % 256 / 255 for seed in seeds], dtype=torch.float32)
        return shades[:, None, None, None].expand(-1, 3, self.spec.height_px, self.spec.width_px)


def main(arguments: list[str] | None = None) -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pair", default="mini", help="preset name or pair file for the overhead")
    parser.add_argument("--pairs", type=int, default=200, help="pairs of one build or bare loop")
    parser.add_argument("--repeats", type=int, default=5, help="builds and bare loops, in turns")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--memory", default="200,2000", help="pairs of the builds whose memory is measured")
    parser.add_argument("--resume", type=int, default=10_000, help="pairs of the finished dataset")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs" / "results.md", help="file whose section is written")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "pairs.json", help="all figures")
    parser.add_argument("--child", nargs=3, metavar=("WHAT", "FOLDER", "PAIRS"), help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.child:
        print(json.dumps(_child(*chosen.child)))
        return 0
    try:
        run(chosen)
    except TopcoatError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130
    return 0


def run(chosen: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, and write JSON and the section of the docs."""
    from topcoat.cost.machine import hardware

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        memory = [measure_memory(root / f"memory-{n}", int(n)) for n in chosen.memory.split(",")]
        resume = measure_resume(root / "resume", chosen.resume, chosen.repeats)
        overhead = measure_overhead(root / "overhead", chosen.pair, chosen.pairs, chosen.batch_size, chosen.repeats)
    rounding = measure_rounding(chosen.pair, min(chosen.pairs, 2 * chosen.batch_size), chosen.batch_size)
    machine = asdict(hardware())
    section = markdown(overhead, memory, resume, rounding, machine)
    print(f"\n{section}")
    found = {
        "overhead": asdict(overhead) | {"share": overhead.share},
        "memory": [asdict(one) for one in memory],
        "resume": asdict(resume),
        "rounding": asdict(rounding),
        "hardware": machine,
    }
    write_json(chosen.json, found)
    write_section(chosen.docs, BEGIN, END, section, title="# Results")
    return found


def measure_overhead(root: Path, pair_name: str, pairs: int, batch_size: int, repeats: int) -> Overhead:
    """Generate the same pairs with and without building, in turns, after one batch to warm up."""
    from topcoat.generators.diffusers import load_pair
    from topcoat.generators.presets import model_pair
    from topcoat.pairs import build_pairs
    from topcoat.pairs.build import DEFAULT_SHARD_SIZE
    from topcoat.pairs.schema import plan_records
    from topcoat.prompts import sample_prompts

    pair = model_pair(pair_name)
    generators = load_pair(pair)
    prompts = sample_prompts(pairs)
    records = plan_records(prompts, None)

    def bare(count: int) -> None:
        for start in range(0, count, batch_size):
            batch = records[start : start + batch_size]
            for generator in generators:
                generator.generate([record.prompt for record in batch], [record.seed for record in batch])

    bare(min(pairs, batch_size))
    alone: list[float] = []
    built: list[float] = []
    for number in range(repeats):
        began = time.perf_counter()
        bare(pairs)
        alone.append(time.perf_counter() - began)
        began = time.perf_counter()
        build_pairs(root / str(number), prompts, pair, batch_size=batch_size, generators=generators)
        built.append(time.perf_counter() - began)
        print(f"overhead {number + 1}/{repeats}: bare {alone[-1]:.1f} s, build {built[-1]:.1f} s", file=sys.stderr)
    return Overhead(pair.name, pairs, batch_size, DEFAULT_SHARD_SIZE, tuple(alone), tuple(built))


def measure_memory(folder: Path, pairs: int) -> Memory:
    """Build in a process of its own."""
    return Memory(pairs, _run_child("build", folder, pairs)["peak_bytes"])


def measure_resume(folder: Path, pairs: int, repeats: int) -> Resume:
    """Build once, then ask again and again."""
    _run_child("build", folder, pairs)
    calls: list[float] = []
    processes: list[float] = []
    for _ in range(repeats):
        began = time.perf_counter()
        calls.append(_run_child("build", folder, pairs)["seconds"])
        processes.append(time.perf_counter() - began)
    shards = list((folder / "data").iterdir())
    return Resume(pairs, len(shards), sum(path.stat().st_size for path in shards), tuple(calls), tuple(processes))


def measure_rounding(pair_name: str, images: int, batch_size: int) -> Rounding:
    """Generate the same subjects with both models in batches and one by one."""
    import torch

    from topcoat.generators.diffusers import load_pair
    from topcoat.generators.presets import model_pair
    from topcoat.pairs.schema import plan_records
    from topcoat.prompts import sample_prompts

    records = plan_records(sample_prompts(images), None)

    def generated(size: int) -> Tensor:
        parts = [records[start : start + size] for start in range(0, images, size)]
        texts = [([r.prompt for r in part], [r.seed for r in part]) for part in parts]
        found = torch.cat([g.generate(*request) for g in load_pair(model_pair(pair_name)) for request in texts])
        return (found * 255).round().to(torch.int16)

    difference = (generated(batch_size) - generated(1)).abs()
    changed = float((difference > 0).double().mean())
    return Rounding(2 * images, batch_size, changed, int(difference.max()))


def markdown(
    overhead: Overhead, memory: Sequence[Memory], resume: Resume, rounding: Rounding, machine: dict[str, Any]
) -> str:
    """The section of docs/results.md."""
    low, high = memory[0], memory[-1]
    growth = high.peak_bytes / low.peak_bytes - 1
    rows = [
        (f"Bare loop, {overhead.pairs} pairs", _seconds(overhead.bare_seconds)),
        (f"`build_pairs`, {overhead.pairs} pairs", _seconds(overhead.build_seconds)),
        ("**Building costs on top of generating**", f"**{overhead.share:+.1%}**"),
        *((f"Peak memory, {one.pairs:,} pairs", f"{one.peak_bytes / 2**20:.0f} MiB") for one in memory),
        (f"**Growth from {low.pairs:,} to {high.pairs:,} pairs**", f"**{growth:+.1%}**"),
        (f"**Nothing to do, {resume.pairs:,} pairs**", f"**{_seconds(resume.call_seconds)}**"),
        ("The same with Python's start and imports", _seconds(resume.process_seconds)),
        (
            f"8-bit values that change when {rounding.images} images are generated one by one",
            f"{rounding.changed_share:.2%}, by {rounding.largest} of 255 at most",
        ),
    ]
    table = "\n".join(f"| {name} | {figure} |" for name, figure in rows)
    return f"""## Building pairs

Medians of {len(overhead.build_seconds)} (brackets: least and most). The bare loop generates with both pipelines of the
pair {overhead.pair} in batches of {overhead.batch_size} and keeps nothing; the build generates the same pairs with the
same pipelines and writes them; the two run in turns. Memory and the resumed dataset ({resume.shards} shards,
{resume.dataset_bytes / 2**20:.0f} MiB) are of a trivial generator at {_FLAT_SIDE_PX} x {_FLAT_SIDE_PX} px in
processes of their own. {machine["gpu"] or machine["cpu"]}, {machine["cores"]} cores, torch {machine["torch"]}. Made by
`benchmarks/pairs.py`.

| figure | measured |
|---|---|
{table}"""


def _run_child(what: str, folder: Path, pairs: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", what, str(folder), str(pairs)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def _child(what: str, folder: str, pairs: str) -> dict[str, Any]:
    """What a process of its own does: one build with the trivial generator."""
    from topcoat.pairs import build_pairs
    from topcoat.prompts import prompt_from_text

    assert what == "build"
    pair = _flat_pair()
    prompts = [prompt_from_text(f"portrait number {number}") for number in range(int(pairs))]
    began = time.perf_counter()
    dataset = build_pairs(
        folder, prompts, pair, generators=(FlatGenerator(pair.distilled), FlatGenerator(pair.baseline))
    )
    seconds = time.perf_counter() - began
    assert len(dataset) == int(pairs)
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "peak_bytes": peak_kib * 1024}


def _flat_pair() -> ModelPair:
    from topcoat.generators.base import GeneratorSpec, Licence, ModelPair

    spec = GeneratorSpec(
        name="flat",
        model="none/flat",
        steps=1,
        guidance_scale=0.0,
        max_sequence_length=32,
        width_px=_FLAT_SIDE_PX,
        height_px=_FLAT_SIDE_PX,
        dtype="float32",
        device="cpu",
        licence=Licence(name="none", url=""),
    )
    return ModelPair(name="flat", distilled=spec, baseline=spec)


def _seconds(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3g} s ({min(values):.3g} to {max(values):.3g})"


if __name__ == "__main__":
    sys.exit(main())
