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
    "benchmark.compare": ("run_benchmark",),
    "errors": ("DataError", "ModelError", "TopcoatError", "UsageError"),
    "generators.base": ("GeneratorSpec", "ModelPair"),
    "generators.diffusers": ("load_generator",),
    "generators.presets": ("model_pair",),
    "heads.head": ("Head",),
    "images": ("read_image", "write_image"),
    "metrics.evaluate": ("Evaluation", "evaluate"),
    "pairs.build": ("build_pairs",),
    "pairs.dataset": ("PairDataset",),
    "pipeline": ("Pipeline",),
    "prompts": ("Prompt", "sample_prompts"),
    "reports.benchmark": ("write_benchmark",),
    "training.loop": ("train",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            globals()[name] = value = getattr(importlib.import_module(f"topcoat.{home}"), name)
            return value
    raise AttributeError(f"module 'topcoat' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
