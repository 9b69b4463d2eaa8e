"""What an evaluation costs: time, and memory at rising N, with the embedded feature net; and what its cache spares.

    python benchmarks/evaluation.py                          # 1,000 and 2,500 subjects of four images, 128 px
    python benchmarks/evaluation.py --counts 64,128 --size-px 64 --docs out/results.md --json out/evaluation.json

Four sets are read (distilled, enhanced, baseline, baseline at other seeds), every metric is measured and the report
written. Images are made on the fly from noise of the subject's own seed, so that nothing but the evaluation holds them;
how long making them takes by itself is measured too. Every run is a process of its own, whose peak memory counts: one
without a cache, one that fills it, and one that finds everything in it. Prints a table, writes
``benchmarks/evaluation.json`` and a section of docs/results.md between its two marker lines. The exit code is 1 where
10,000 images take longer than the target.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from sections import write_section
from torch import Tensor

from topcoat.cost.machine import hardware
from topcoat.errors import TopcoatError
from topcoat.features import FeatureNet, Features, load_feature_net
from topcoat.files import write_json
from topcoat.images import gaussian_blur
from topcoat.metrics.evaluate import evaluate
from topcoat.reports.evaluation import SubjectImages, write_report

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- results evaluation: begin (benchmarks/evaluation.py) -->", "<!-- results evaluation: end -->"
TARGET_IMAGES, TARGET_SECONDS = 10_000, 300
"""At 128 px on 2 cores."""
STATES = ("no cache", "filling the cache", "from the cache")
_BATCH = 32
_PAIRED = ("distilled", "enhanced", "baseline")
ROLES = (*_PAIRED, "floor")
"""The sets that are read: images of each subject."""
_OTHER_SEEDS = 10_000_019


@dataclass(frozen=True)
class Measured:
    """One evaluation in a process of its own."""

    subjects: int
    state: str
    seconds: float
    images_seconds: float
    """Of these, about how many went into making the images: one pass over all sets by itself."""
    peak_bytes: int
    net_images: int
    """Images that the feature net was shown."""


class CountedNet:
    """The embedded net, with the number of images that it was shown."""

    def __init__(self, net: FeatureNet) -> None:
        self._net = net
        self.digest = net.digest
        self.images = 0

    def __call__(self, images: Tensor) -> Features:
        """Features of images ``(N, 3, H, W)``."""
        self.images += len(images)
        return self._net(images)


class Subjects:
    """Images of one set, batch by batch, the same in every run."""

    def __init__(self, count: int, size_px: int, role: str) -> None:
        self._count, self._size_px, self._role = count, size_px, role

    def __iter__(self) -> Iterator[Tensor]:
        for start in range(0, self._count, _BATCH):
            yield self.batch(start)

    def batch(self, start: int) -> Tensor:
        """``(N, 3, size, size)`` images from subject ``start``, a multiple of the batch size, on."""
        offset = _OTHER_SEEDS if self._role == "floor" else 0
        generator = torch.Generator().manual_seed(start + offset)
        side = self._size_px // 4
        coarse = torch.rand((min(_BATCH, self._count - start), 3, side, side), generator=generator)
        sharp = torch.nn.functional.interpolate(coarse, scale_factor=4, mode="bilinear")
        if self._role in ("baseline", "floor"):
            return sharp
        soft = gaussian_blur(sharp, 1.0)
        return soft if self._role == "distilled" else (soft + sharp) / 2


def main(arguments: list[str] | None = None) -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--counts", default="1000,2500", help="subjects, with commas between")
    parser.add_argument("--bare", action="store_true", help="only without a cache, a third of the time")
    parser.add_argument("--size-px", type=int, default=128, help="side of the images")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs" / "results.md", help="file whose section is written")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "evaluation.json", help="all figures")
    chosen = parser.parse_args(arguments)
    try:
        counts = [int(count) for count in chosen.counts.split(",")]
        return run(counts, STATES[:1] if chosen.bare else STATES, chosen.size_px, chosen.docs, chosen.json)
    except TopcoatError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130


def run(counts: Sequence[int], states: Sequence[str], size_px: int, docs: Path, figures: Path) -> int:
    """Measure, print, and write JSON and the section of the docs; 1 where the target is missed."""
    found: list[Measured] = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            for state in states:
                found.append(_in_a_process(count, size_px, state, folder))
                print(f"{count} subjects, {state}: {found[-1].seconds:.1f} s", file=sys.stderr)
    machine = hardware().as_dict()
    section = markdown(found, size_px, machine)
    print(f"\n{section}")
    write_json(figures, {"size_px": size_px, "runs": [asdict(one) for one in found], "hardware": machine})
    write_section(docs, BEGIN, END, section, title="# Results")
    late = [one for one in found if len(ROLES) * one.subjects == TARGET_IMAGES and one.seconds > TARGET_SECONDS]
    if late:
        print(f"{TARGET_IMAGES:,} images took {late[0].seconds:.0f} s, the target is {TARGET_SECONDS} s")
    return 1 if late else 0


def measure(count: int, size_px: int, state: str, folder: str) -> Measured:
    """One evaluation of ``count`` subjects and its report, with the peak memory of this process."""
    sets = {role: Subjects(count, size_px, role) for role in ROLES}
    began = time.perf_counter()
    for images in sets.values():
        deque(images, maxlen=0)
    made = time.perf_counter() - began

    def look_up(index: int) -> SubjectImages:
        start = index // _BATCH * _BATCH
        return {role: sets[role].batch(start)[index - start] for role in _PAIRED}, f"subject {index}"

    net = CountedNet(load_feature_net("eval"))
    began = time.perf_counter()
    evaluation = evaluate(
        sets["enhanced"],
        reference=sets["baseline"],
        distilled=sets["distilled"],
        floor=sets["floor"],
        features=net,
        groups=[{"third": str(index % 3)} for index in range(count)],
        cache=None if state == STATES[0] else Path(folder, "cache"),
    )
    write_report(Path(folder, "report"), evaluation, look_up)
    seconds = time.perf_counter() - began
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Measured(count, state, seconds, made, peak_bytes, net.images)


def markdown(found: Sequence[Measured], size_px: int, machine: dict[str, Any]) -> str:
    """The section of docs/results.md."""
    rows = "\n".join(
        f"| {one.subjects:,} | {one.state} | {one.seconds:.1f} | {one.images_seconds:.1f} | "
        f"{one.peak_bytes / 2**20:.0f} | {one.net_images:,} |"
        for one in found
    )
    bare = [one for one in found if one.state == STATES[0]]
    growth = bare[-1].peak_bytes / bare[0].peak_bytes - 1
    return f"""## Evaluating

`evaluate` with all metrics and the embedded feature net, and its report, for subjects of four images each at
{size_px} x {size_px} px, made on the fly: the seconds hold those of making them, which have their own column. Every
run is a process of its own; peak memory without a cache changes by {growth:+.1%} from {bare[0].subjects:,} to
{bare[-1].subjects:,} subjects. {machine["gpu"] or machine["cpu"]}, {machine["cores"]} cores, torch {machine["torch"]}.
Made by `benchmarks/evaluation.py`.

| subjects | features | seconds | of these, making images | peak MiB | images through the net |
|---:|---|---:|---:|---:|---:|
{rows}"""


def _in_a_process(count: int, size_px: int, state: str, folder: str) -> Measured:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (count, size_px, state, folder))


if __name__ == "__main__":
    sys.exit(main())
