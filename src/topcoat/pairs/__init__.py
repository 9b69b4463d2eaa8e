"""Pairs: one distilled and one baseline image of the same subject, built once and kept in Parquet shards."""

from __future__ import annotations

from topcoat.pairs.build import build_pairs
from topcoat.pairs.dataset import ImageColumn, Pair, PairDataset
from topcoat.pairs.dropping import drop_pairs
from topcoat.pairs.engines import LocalEngine, RayEngine
from topcoat.pairs.painting import Painting
from topcoat.pairs.records import PairRecord

__all__ = [
    "ImageColumn",
    "LocalEngine",
    "Painting",
    "Pair",
    "PairDataset",
    "PairRecord",
    "RayEngine",
    "build_pairs",
    "drop_pairs",
]
