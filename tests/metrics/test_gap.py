from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.metrics.frechet import GaussianStatistics, frechet_distance
from topcoat.metrics.gap import GapClosed, gap_closed


def share(gap: GapClosed) -> float:
    assert gap.share is not None
    return gap.share.value


def sets(n: int, d: int, seed: int, closed: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, z, y, y': x is shifted off y by 2 in one direction, z goes ``closed`` of the way back (in distance)."""
    generator = torch.Generator().manual_seed(seed)
    y, other = torch.randn(n, d, generator=generator), torch.randn(n, d, generator=generator)
    shift = torch.zeros(d)
    shift[0] = 2
    noise = 0.1 * torch.randn(n, d, generator=generator)
    return y + shift + noise, y + shift * (1 - closed) ** 0.5 + noise, y, other


def test_value_is_the_share_of_the_distances() -> None:
    x, z, y, y2 = sets(300, 6, seed=0, closed=0.6)
    found = gap_closed(x, z, y, y2, resamples=20)
    to_y = [frechet_distance(GaussianStatistics.of(part), GaussianStatistics.of(y)) for part in (x, z, y2)]
    assert [found.distilled.value, found.enhanced.value, found.floor.value] == pytest.approx(to_y, rel=1e-9)
    assert share(found) == pytest.approx((to_y[0] - to_y[1]) / (to_y[0] - to_y[2]), rel=1e-9)


def test_do_nothing_is_zero_and_the_baseline_itself_is_over_one() -> None:
    x, _, y, y2 = sets(200, 4, seed=1, closed=0)
    assert share(gap_closed(x, x, y, y2, resamples=20)) == pytest.approx(0, abs=1e-12)
    perfect = gap_closed(x, y, y, y2, resamples=20)
    assert share(perfect) >= 1


def test_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    # A smaller floor set is biased more, so the truth is that of this very number of images: the mean of many draws.
    found = [gap_closed(*sets(200, 3, seed=seed, closed=0.5), resamples=40) for seed in range(40)]
    truth = sum(map(share, found)) / len(found)
    assert truth == pytest.approx(0.5, abs=0.02)
    inside = 0
    for one in found:
        assert one.share is not None and one.share.low <= one.share.value <= one.share.high
        for part in (one.distilled, one.enhanced, one.floor):
            assert 0 <= part.low <= part.value <= part.high
        inside += one.share.low <= truth <= one.share.high
    assert inside >= 32


def test_bootstrap_is_seeded_and_takes_seconds() -> None:
    parts = sets(1000, 64, seed=2, closed=0.5)
    start = time.perf_counter()
    gap_closed(*parts)
    assert time.perf_counter() - start < 10  # about 1 on an idle core
    few = sets(50, 4, seed=2, closed=0.5)
    assert gap_closed(*few, resamples=20, seed=1) == gap_closed(*few, resamples=20, seed=1)
    assert gap_closed(*few, resamples=20, seed=1) != gap_closed(*few, resamples=20, seed=2)


def test_floor_of_another_size_is_drawn_by_itself() -> None:
    x, z, y, y2 = sets(100, 4, seed=3, closed=0.5)
    found = gap_closed(x, z, y, y2[:60], resamples=20)
    assert found.share is not None


def test_without_a_gap_there_is_no_share() -> None:
    generator = torch.Generator().manual_seed(4)
    y = torch.randn(50, 4, generator=generator)
    found = gap_closed(y, y, y, torch.randn(50, 4, generator=generator), resamples=20)
    assert found.share is None
    assert found.distilled.value == pytest.approx(0, abs=1e-9)


def test_extrapolation_is_twice_the_whole_less_the_mean_of_the_halves() -> None:
    x, z, y, y2 = sets(90, 6, seed=3, closed=0.6)

    def distance(a: Tensor, b: Tensor) -> float:
        return frechet_distance(GaussianStatistics.of(a), GaussianStatistics.of(b))

    expected = [2 * distance(a, y) - (distance(a[::2], y[::2]) + distance(a[1::2], y[1::2])) / 2 for a in (x, z, y2)]
    found = gap_closed(x, z, y, y2, resamples=20, extrapolated=True)
    assert [found.distilled.value, found.enhanced.value] == pytest.approx(expected[:2], rel=1e-9)
    assert found.floor.value == pytest.approx(max(0.0, expected[2]), rel=1e-9)


def test_extrapolation_tells_the_share_that_few_subjects_exaggerate() -> None:
    # y and y' are of one distribution, so the true floor is 0 and the true share 0.75.
    generator = torch.Generator().manual_seed(5)
    y, other = torch.randn(192, 16, generator=generator), torch.randn(192, 16, generator=generator)
    shift = torch.zeros(16)
    shift[0] = 1.2
    plain = gap_closed(y + shift, y + shift / 2, y, other, resamples=50)
    assert plain.floor.value > 0.7 and share(plain) > 1.5
    found = gap_closed(y + shift, y + shift / 2, y, other, resamples=50, extrapolated=True)
    assert found.floor.value < 0.2
    assert share(found) == pytest.approx(0.75, abs=0.1)


def test_extrapolation_refuses_too_few_and_unequal_sets() -> None:
    x, z, y, y2 = sets(20, 12, seed=0, closed=0.5)
    with pytest.raises(UsageError, match="24 or more"):
        gap_closed(x, z, y, y2, extrapolated=True)
    x, z, y, y2 = sets(40, 12, seed=0, closed=0.5)
    with pytest.raises(UsageError, match="same 24 or more"):
        gap_closed(x, z, y, y2[:30], extrapolated=True)


def test_refusals() -> None:
    x, z, y, y2 = sets(10, 4, seed=0, closed=0.5)
    with pytest.raises(UsageError, match="same subjects"):
        gap_closed(x[:5], z, y, y2)
    with pytest.raises(UsageError, match="one feature net"):
        gap_closed(x[:, :3], z, y, y2)
    with pytest.raises(UsageError, match="2 or more"):
        gap_closed(x[:1], z[:1], y[:1], y2)
    with pytest.raises(UsageError, match="resamples"):
        gap_closed(x, z, y, y2, resamples=1)
