"""Seeds of different purposes never meet."""

from __future__ import annotations

from itertools import pairwise

import pytest

from topcoat.errors import UsageError
from topcoat.generators.base import MAX_SEED
from topcoat.seeds import FIRST_SEED, FLOOR_SEED_OFFSET, noise_seeds


def test_the_table_is_ascending_and_leaves_room() -> None:
    firsts = [*FIRST_SEED.values(), FLOOR_SEED_OFFSET]
    assert all(later - earlier >= 1_000_000 for earlier, later in pairwise(firsts))
    assert 2 * FLOOR_SEED_OFFSET < MAX_SEED


@pytest.mark.parametrize("purpose", FIRST_SEED)
def test_a_purpose_ends_where_the_next_begins(purpose: str) -> None:
    seeds = noise_seeds(purpose, 1_000)  # type: ignore[arg-type]
    others = [first for name, first in FIRST_SEED.items() if name != purpose]
    assert len(seeds) == 1_000 and seeds[0] == FIRST_SEED[purpose] and not set(others) & set(seeds)  # type: ignore[index]
    # the noise floor of any purpose lies beyond the first seeds of all
    assert seeds[0] + FLOOR_SEED_OFFSET > max(FIRST_SEED.values())


def test_too_many_subjects_are_refused() -> None:
    assert len(noise_seeds("held-out", 1_000_000)) == 1_000_000
    with pytest.raises(UsageError, match="use at most 1,000,000"):
        noise_seeds("held-out", 1_000_001)
