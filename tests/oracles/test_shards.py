"""Tiny builds: rows, images and latents of the shards. The schema's metadata and the files as such are not held."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.conftest import FakeGenerator, fake_spec
from tests.oracles.golden import Golden, digest_of
from topcoat.generators.base import ModelPair
from topcoat.generators.presets import model_pair
from topcoat.pairs import PairingConfig, build_pairs
from topcoat.prompts import sample_prompts

# Adapters: change these with the library, never the golden values.


def build_fakes(folder: Path) -> None:
    """11 pairs of the tests' fakes in shards of 4, in batches of 3."""
    pair = ModelPair(name="fake", distilled=fake_spec("plastic", 2), baseline=fake_spec("good", 8))
    generators = FakeGenerator(pair.distilled, plastic=True), FakeGenerator(pair.baseline, plastic=False)
    build_pairs(folder, sample_prompts(11), pair, batch_size=3, shard_size=4, generators=generators)


def build_mini(folder: Path) -> None:
    """3 pairs of the mini pair with latents of both sides and a second step count, in shards of 2."""
    pairing = PairingConfig(distilled_steps=(2,), latents=True, baseline_latents=True)
    build_pairs(folder, sample_prompts(3), _short_mini(), batch_size=2, shard_size=2, pairing=pairing)


def build_img2img(folder: Path) -> None:
    """2 pairs whose baseline starts from the distilled image."""
    pairing = PairingConfig(method="img2img", strength=0.5)
    build_pairs(folder, sample_prompts(2), _short_mini(), batch_size=2, pairing=pairing)


def _short_mini() -> ModelPair:
    pair = model_pair("mini")
    return pair.model_copy(update={"baseline": pair.baseline.model_copy(update={"steps": 4})})


TEXTS = ("id", "prompt", "seed", "split", "attributes")
"""Columns that are equal everywhere; every other one holds images or latents."""
COLUMN_NAMES: dict[str, str] = {}
"""A column's name in the golden values, where the library has another one."""


# Oracles


def rows_of(folder: Path) -> list[list[dict[str, Any]]]:
    """The rows of every shard, in order."""
    return [pq.read_table(path).to_pylist() for path in sorted(folder.glob("data/*.parquet"))]


@pytest.mark.parametrize("build", [build_fakes, build_mini, build_img2img], ids=lambda build: build.__name__)
def test_build(golden: Golden, tmp_path: Path, build: Any) -> None:
    name = build.__name__
    build(tmp_path)
    shards = rows_of(tmp_path)
    rows = [row for shard in shards for row in shard]
    golden.exact(f"{name} shards", [[row["id"] for row in shard] for shard in shards])
    golden.exact(f"{name} texts", [{column: row[column] for column in TEXTS} for row in rows])
    golden.exact(f"{name} columns", sorted(COLUMN_NAMES.get(column, column) for column in rows[0]))
    digests: dict[str, str] = {}
    for column in (column for column in rows[0] if column not in TEXTS):
        called, cells = COLUMN_NAMES.get(column, column), [row[column] for row in rows]
        if isinstance(cells[0], dict):
            arrays = [np.asarray(Image.open(io.BytesIO(cell["bytes"])).convert("RGB")) for cell in cells]
            digests[f"{called} encoded"] = digest_of(cell["bytes"] for cell in cells)
        else:
            arrays = [np.asarray(cell, dtype=np.float16) for cell in cells]
        digests[called] = digest_of(array.tobytes() for array in arrays)
        golden.close(f"{name} {called}", [_summary(array) for array in arrays], rel=2e-3, abs=2e-3)
    golden.bits(name, digests)


def _summary(array: np.ndarray) -> dict[str, Any]:
    values = array.astype(np.float64)
    grid = [float(part.mean()) for half in np.array_split(values, 2, -2) for part in np.array_split(half, 2, -1)]
    return {"shape": list(array.shape), "mean": float(values.mean()), "std": float(values.std()), "quarters": grid}
