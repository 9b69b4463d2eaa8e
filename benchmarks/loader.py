"""Pairs and crops a second that training's loader reads from 1024 px pairs, beside another checkout's.

    python benchmarks/loader.py                                       # a few minutes on 2 cores
    git worktree add ../before cd5f016
    python benchmarks/loader.py --other ../before/src --rounds 5      # interleaved with that code

Pairs are noise with the statistics of photographs (1/f, and the noise of a sensor), as PNG and as lossless WebP, in
shards as ``pairs build`` writes them; no image is kept in memory, file caches are warm. Each measurement is a process
of its own, of one thread for torch; all of them take turns. Prints a table and writes ``benchmarks/loader.json``. ``CPU
ms`` is what the processors spend on an image, which tells more than the rate where a machine has other work.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PAIRS = 24
SIDE_PX = 1024
WARM_BATCHES = 1
MEASURED_SECONDS = 4.0
"""Each measurement takes at least so long."""


@dataclass(frozen=True)
class Case:
    """One way to read: image format, side of the cut (None: whole images), cuts of a decoded pair, threads."""

    image_format: str
    crop_px: int | None
    crops_per_decode: int = 1
    workers: int = 2


@dataclass(frozen=True)
class Row:
    """What was measured of one case: of each round, images a second and the processors' seconds for an image."""

    code: str
    case: Case
    images_per_second: list[float]
    cpu_seconds: list[float]


CASES = (
    Case("png", 96, 1, 1),
    Case("png", 96, 1, 2),
    Case("png", 384, 1, 2),
    Case("png", None, 1, 2),
    Case("png", 96, 8, 2),
    Case("png", 384, 8, 2),
    Case("webp", 96, 1, 2),
    Case("webp", 96, 8, 2),
    Case("webp", 384, 8, 2),
)


def main(arguments: list[str] | None = None) -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--other", type=Path, help="the src folder of a checkout to compare with")
    parser.add_argument("--rounds", type=int, default=3, help="every measurement so often, in turns")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "loader.json", help="figures")
    parser.add_argument("--measure", nargs=3, metavar=("FOLDER", "CASE", "CODE"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.measure:
        folder, case, code = given.measure
        print(json.dumps(measured(Path(folder), Case(**json.loads(case)), old=code == "other")))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        return run(Path(folder), given)


def run(folder: Path, given: argparse.Namespace) -> int:
    """Write the pairs, measure in turns, print and write."""
    from topcoat.cost.machine import hardware
    from topcoat.files import write_json

    sizes = {name: write_pairs(folder / name, name) for name in ("png", "webp")}
    work = [("this", case) for case in CASES]
    if given.other is not None:
        work += [("other", Case("png", side, 1, 1)) for side in (96, None)]
    rates: dict[tuple[str, Case], list[tuple[float, float]]] = {item: [] for item in work}
    for _ in range(given.rounds):
        for code, case in work:
            source = given.other if code == "other" else None
            rates[code, case].append(in_process(folder, case, code, source or ROOT / "src"))
    rows = [Row(code, case, [rate for rate, _ in all_], [ms for _, ms in all_]) for (code, case), all_ in rates.items()]
    print("code   format   crop  crops a decode  workers  images/s  CPU ms   lowest-highest")
    for row in rows:
        case, rate, spent = row.case, statistics.median(row.images_per_second), statistics.median(row.cpu_seconds)
        print(
            f"{row.code:6} {case.image_format:6} {case.crop_px or 'whole'!s:>6} {case.crops_per_decode:>15} "
            f"{case.workers:>8} {rate:>9.1f} {1e3 * spent:>7.1f}   "
            f"{min(row.images_per_second):.1f}-{max(row.images_per_second):.1f}"
        )
    encoding = {name: {"bytes_per_image": size, "encode_seconds": seconds} for name, (size, seconds) in sizes.items()}
    for name, (size, seconds) in sizes.items():
        print(f"{name}: {size / 1e6:.2f} MB an image, {seconds:.3f} s to encode")
    rows_json = [asdict(row) for row in rows]
    write_json(
        given.json, {"hardware": str(hardware()), "rounds": given.rounds, "rows": rows_json, "encoding": encoding}
    )
    print(f"written to {given.json}")
    return 0


def in_process(folder: Path, case: Case, code: str, source: Path) -> tuple[float, float]:
    """What `measured` gives, of the code in ``source``."""
    command = [sys.executable, __file__, "--measure", str(folder / case.image_format), json.dumps(asdict(case)), code]
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def measured(folder: Path, case: Case, *, old: bool) -> tuple[float, float]:
    """Images a second that `Batches` gives, in batches of 16; and the processor's seconds that one takes."""
    from topcoat.pairs.dataset import PairDataset
    from topcoat.training import data

    options: dict[str, Any] = (
        {} if old else {"batch_size": 16, "crops_per_decode": case.crops_per_decode, "workers": case.workers}
    )
    if old:
        pairs = data.CachedPairs(PairDataset.open(folder), 0)
    else:
        from topcoat.training.decoded import CachedPairs

        pairs = CachedPairs(PairDataset.open(folder), 0)
    batches = data.Batches(pairs, seed=0, crop_px=case.crop_px, flip=True, size_multiple=16, **options)
    done = WARM_BATCHES * 16
    batches.batch(0, done)
    began, first, spent = time.perf_counter(), done, time.process_time()
    while time.perf_counter() - began < MEASURED_SECONDS or (done - first) % (16 * case.crops_per_decode):
        batches.batch(done, 16)
        done += 16
    images, seconds, spent = done - first, time.perf_counter() - began, time.process_time() - spent
    if not old:
        batches.close()
    return images / seconds, spent / images


def write_pairs(folder: Path, image_format: str) -> tuple[float, float]:
    """Write `PAIRS` pairs; gives the mean bytes of an image, and the seconds that one takes to encode."""
    import torch

    from topcoat.images import encode_png, encode_webp
    from topcoat.pairs.manifest import FORMAT_VERSION, Manifest, versions, write_manifest
    from topcoat.pairs.schema import PairRecord, as_row, shard_schema
    from topcoat.pairs.shards import write_shard

    random = np.random.default_rng(0)
    images = [torch.from_numpy(photograph(random)) for _ in range(6)]
    encode = encode_png if image_format == "png" else encode_webp
    began = time.perf_counter()
    size = statistics.mean(len(encode(image)) for image in images)
    seconds = (time.perf_counter() - began) / len(images)

    def row(index: int) -> dict[str, object]:
        sides = {"distilled": images[index % 6], "baseline": images[(index + 1) % 6]}
        row = as_row(PairRecord(f"p{index}", "a portrait", index), sides)
        for name, image in sides.items():
            row[name] = {"bytes": encode(image), "path": f"p{index}-{name}.{image_format}"}
        return row

    shard = write_shard(folder / "data" / "train-00000.parquet", map(row, range(PAIRS)), shard_schema())
    side = {"width_px": SIDE_PX, "height_px": SIDE_PX, "licence": {"name": "none", "url": ""}}
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        pair="noise",
        distilled={"name": "distilled", **side},
        baseline={"name": "baseline", **side},
        imported="noise",
        shard_size=PAIRS,
        versions=versions(),
        shards=(shard,),
        failures=(),
        dropped=(),
    )
    write_manifest(folder, manifest)
    return size, seconds


def photograph(random: np.random.Generator) -> np.ndarray:
    """``(3, H, W)`` in [0, 1]: noise that falls with frequency, much the same in the three colours, and fine noise."""
    across, down = np.fft.rfftfreq(SIDE_PX), np.fft.fftfreq(SIDE_PX)
    power = across[None, :] ** 2 + down[:, None] ** 2
    power[0, 0] = 1

    def clouds() -> np.ndarray:
        white = np.fft.rfft2(random.standard_normal((SIDE_PX, SIDE_PX)))
        return np.fft.irfft2(white / power**0.6)

    shared = clouds()
    colours = []
    for _ in range(3):
        one = shared + 0.2 * clouds()
        one = (one - one.mean()) / one.std() * 0.18 + 0.5
        colours.append(one + random.standard_normal(one.shape) * 0.006)
    return np.stack(colours).clip(0, 1).astype(np.float32)


if __name__ == "__main__":
    sys.exit(main())
