"""A small build of fake generators, and all that it wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from topcoat.generators.base import ModelPair
from topcoat.pairs import PairDataset, build_pairs
from topcoat.prompts import sample_prompts

PROMPTS = sample_prompts(11)


def build(folder: Path, pair: ModelPair, generators: Any, **changes: Any) -> PairDataset:
    settings: dict[str, Any] = {"prompts": PROMPTS, "batch_size": 3, "shard_size": 4, "generators": generators}
    return build_pairs(folder, pair=pair, **(settings | changes))


def all_bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
