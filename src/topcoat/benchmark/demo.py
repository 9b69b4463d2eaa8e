"""The main job: distilled, distilled + head and baseline on the same subjects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from topcoat.benchmark.arms import Arm, Subjects
from topcoat.benchmark.compare import compare
from topcoat.benchmark.record import BASELINE, DISTILLED, ENHANCED, EXTRA, BenchmarkResult
from topcoat.benchmark.run import BATCH_SIZE, Progress
from topcoat.cost.flops import EXTRA_STEPS
from topcoat.generators.base import Generator, ModelPair
from topcoat.generators.presets import model_pair
from topcoat.heads.head import Head
from topcoat.metrics.embed import FeatureNetLike
from topcoat.prompts import Prompt

HEAD = "head"
"""The head's name."""


def run_benchmark(
    pair: ModelPair | str,
    head: Head,
    prompts: Sequence[str | Prompt],
    seeds: Sequence[int],
    *,
    on_progress: Progress | None = None,
    batch_size: int = BATCH_SIZE,
    cache: str | Path | None = None,
    generators: tuple[Generator, Generator] | None = None,
    features: FeatureNetLike | None = None,
) -> BenchmarkResult:
    """Compare distilled + head with both models, two controls and the noise floor.

    For an honest result, prompts *and* seeds must be held out: neither seen when the head was trained. Every image is
    measured as an 8-bit file holds it. ``on_progress(done, total, arm)`` counts images; ``cache`` is a folder in which
    generated batches are kept, so that a stopped run goes on (without one they stay in memory); ``generators``
    (distilled, baseline) and ``features`` replace what would be loaded.

    Raises `UsageError` for an impossible request, `ModelError` for a model that cannot be loaded, counted or run.
    """
    pair = model_pair(pair) if isinstance(pair, str) else pair
    fast, slow = pair.distilled.steps, pair.baseline.steps
    return compare(
        "demo",
        pair,
        {HEAD: head},
        {
            DISTILLED: Arm("distilled", fast),
            ENHANCED: Arm("distilled", fast, HEAD),
            BASELINE: Arm("baseline", slow),
        },
        Subjects.of(prompts, seeds, what="a benchmark"),
        timed_only=None if slow == EXTRA_STEPS else {EXTRA: Arm("baseline", EXTRA_STEPS)},
        shown=(DISTILLED, ENHANCED, BASELINE),
        cache=cache,
        batch_size=batch_size,
        generators=generators,
        features=features,
        on_progress=on_progress,
    )
