"""Engines: where the shards of a dataset are made. Whichever it is, the same prompts give the same bytes."""

from __future__ import annotations

from topcoat.pairs.engines.base import ENGINES, Engine, EngineName, named_engine
from topcoat.pairs.engines.cluster import RayEngine
from topcoat.pairs.engines.local import LocalEngine

__all__ = ["ENGINES", "Engine", "EngineName", "LocalEngine", "RayEngine", "named_engine"]
