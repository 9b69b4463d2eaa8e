"""Noise seeds by purpose: one table, so that no two purposes share a subject.

A purpose owns the seeds from its first one up to the first of the next purpose.
"""

from __future__ import annotations

from typing import Literal

from topcoat.errors import UsageError

Purpose = Literal["pairs", "held-out", "distillation", "results", "gap"]

FIRST_SEED: dict[Purpose, int] = {
    "pairs": 1_000_000,  # training pairs; far from the small seeds that people pick by hand
    "held-out": 9_000_000,  # topcoat demo, frontier and reproduce
    "distillation": 10_000_000,  # the images that the mini pair is distilled on
    "results": 50_000_000,  # benchmarks/results.py and benchmarks/frontier.py
    "gap": 70_000_000,  # the recipe's measure of the mini pair's gap
}
"""The first seed of each purpose, in ascending order."""
MAX_SEED = 2**63 - 1
"""Largest seed: the largest integer that a dataset column holds."""
FLOOR_SEED_OFFSET = 1_000_000_007
"""Added to a subject's seed for the noise floor: the baseline on the same prompt at another seed, beyond the table."""


def noise_seeds(purpose: Purpose, count: int) -> range:
    """The first ``count`` seeds of a purpose; raises `UsageError` where they would reach into the next one."""
    first = FIRST_SEED[purpose]
    later = [seed for seed in (*FIRST_SEED.values(), FLOOR_SEED_OFFSET) if seed > first]
    if first + count > min(later):
        raise UsageError(f"{count:,} subjects are too many for {purpose} seeds; use at most {min(later) - first:,}")
    return range(first, first + count)
