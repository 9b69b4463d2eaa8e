"""Pairs: one distilled and one baseline image of the same subject, built once and kept in Parquet shards."""

from __future__ import annotations

from topcoat.pairs.build import build_pairs
from topcoat.pairs.dataset import ImageColumn, Pair, PairDataset
from topcoat.pairs.duplicates import drop_pairs
from topcoat.pairs.engines import LocalEngine, RayEngine
from topcoat.pairs.schema import PairingConfig, PairRecord

__all__ = [
    "ImageColumn",
    "LocalEngine",
    "Pair",
    "PairDataset",
    "PairRecord",
    "PairingConfig",
    "RayEngine",
    "build_pairs",
    "drop_pairs",
]
