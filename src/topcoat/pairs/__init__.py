"""Pairs: one distilled and one baseline image of the same subject, built once and kept in Parquet shards."""

from __future__ import annotations

from topcoat.pairs.build import build_pairs
from topcoat.pairs.dataset import ImageColumn, Pair, PairDataset
from topcoat.pairs.records import PairRecord

__all__ = ["ImageColumn", "Pair", "PairDataset", "PairRecord", "build_pairs"]
