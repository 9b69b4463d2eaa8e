"""topcoat: baseline-quality portraits at the distilled model's price.

    import topcoat

    pair = topcoat.model_pair("mini")
    pipe = topcoat.Pipeline(pair.distilled, topcoat.Head.default())
    images = pipe(["studio portrait of an old man, beard"], seeds=[7])

Names are imported when they are first used, so that a bare ``import topcoat`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from topcoat.benchmark.compare import run_benchmark
    from topcoat.errors import DataError, ModelError, TopcoatError, UsageError
    from topcoat.generators.base import GeneratorSpec, ModelPair
    from topcoat.generators.diffusers import load_generator
    from topcoat.generators.presets import model_pair
    from topcoat.heads.head import Head
    from topcoat.images import read_image, write_image
    from topcoat.metrics.evaluate import Evaluation, evaluate
    from topcoat.pairs.build import build_pairs
    from topcoat.pairs.dataset import PairDataset
    from topcoat.pipeline import Pipeline
    from topcoat.prompts import Prompt, sample_prompts
    from topcoat.reports.benchmark import write_benchmark
    from topcoat.training.loop import train

__version__ = "0.1.0"

__all__ = [
    "DataError",
    "Evaluation",
    "GeneratorSpec",
    "Head",
    "ModelError",
    "ModelPair",
    "PairDataset",
    "Pipeline",
    "Prompt",
    "TopcoatError",
    "UsageError",
    "__version__",
    "build_pairs",
    "evaluate",
    "load_generator",
    "model_pair",
    "read_image",
    "run_benchmark",
    "sample_prompts",
    "train",
    "write_benchmark",
    "write_image",
]

_HOMES = {
    "DataError": "topcoat.errors",
    "Evaluation": "topcoat.metrics.evaluate",
    "GeneratorSpec": "topcoat.generators.base",
    "Head": "topcoat.heads.head",
    "ModelError": "topcoat.errors",
    "ModelPair": "topcoat.generators.base",
    "PairDataset": "topcoat.pairs.dataset",
    "Pipeline": "topcoat.pipeline",
    "Prompt": "topcoat.prompts",
    "TopcoatError": "topcoat.errors",
    "UsageError": "topcoat.errors",
    "build_pairs": "topcoat.pairs.build",
    "evaluate": "topcoat.metrics.evaluate",
    "load_generator": "topcoat.generators.diffusers",
    "model_pair": "topcoat.generators.presets",
    "read_image": "topcoat.images",
    "run_benchmark": "topcoat.benchmark.compare",
    "sample_prompts": "topcoat.prompts",
    "train": "topcoat.training.loop",
    "write_benchmark": "topcoat.reports.benchmark",
    "write_image": "topcoat.images",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'topcoat' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
