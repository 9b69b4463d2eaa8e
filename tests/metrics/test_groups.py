from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from topcoat.errors import UsageError
from topcoat.metrics.base import mean_interval
from topcoat.metrics.gap import gap_closed
from topcoat.metrics.groups import compare_groups, group_gaps, holm


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1, 1])
    assert holm([]) == []


def test_the_interval_of_a_mean_is_scipys() -> None:
    values = torch.randn(80, generator=torch.Generator().manual_seed(0)).double() ** 2
    found = mean_interval(values, resamples=4000)
    expected = stats.bootstrap((values.numpy(),), np.mean, n_resamples=4000, method="percentile", rng=1)
    assert found.value == pytest.approx(float(values.mean()))
    ends = expected.confidence_interval
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high), abs=0.05)
    assert found == mean_interval(values, resamples=4000) != mean_interval(values, resamples=4000, seed=1)
    with pytest.raises(UsageError, match="2 or more values"):
        mean_interval(values[:1])


def test_a_real_difference_is_stated_and_noise_is_not() -> None:
    generator = torch.Generator().manual_seed(1)
    n = 400
    groups = [{"skin": "dark" if row % 4 == 0 else "fair", "age": str(row % 5)} for row in range(n)]
    values = torch.randn(n, generator=generator).double()
    values[::4] -= 1.5
    found = compare_groups({"identity": values}, groups)
    assert {(one.attribute, one.group) for one in found.differences} == {
        ("skin", "dark")
    }  # fair is the same comparison
    assert found.comparisons == 6 and "6 comparisons" in found.statement() and "1 exceeds noise" in found.statement()
    dark = next(one for one in found.scores if one.group == "dark")
    others = values[[row for row in range(n) if row % 4]]
    welch: Any = stats.ttest_ind(values[::4].numpy(), others.numpy(), equal_var=False)
    assert dark.p_value == pytest.approx(float(welch.pvalue) * 6)
    assert dark.low < dark.mean < dark.high < 0 and dark.n == 100
    assert "identity of skin = dark is -1." in dark.sentence() and "below" in dark.sentence()


def test_of_many_comparisons_of_noise_hardly_any_is_called_real() -> None:
    generator = torch.Generator().manual_seed(2)
    groups = [{f"a{column}": str((row >> column) & 1) for column in range(8)} for row in range(256)]
    alarms = 0
    for _ in range(20):
        alarms += bool(compare_groups({"score": torch.randn(256, generator=generator)}, groups).differences)
    assert alarms <= 4  # 5 % of 20 is 1; without the correction nearly all would be alarms


def test_small_groups_missing_values_and_single_valued_attributes() -> None:
    groups = [{"hair": "red"} if row < 5 else {"hair": "brown", "pair": "mini"} for row in range(40)]
    values = torch.arange(40).double()
    values[7] = torch.nan
    found = compare_groups({"score": values}, groups)
    assert [(one.group, one.n, one.p_value) for one in found.scores] == [("brown", 34, None), ("red", 5, None)]
    assert "20 images" in found.statement()
    with pytest.raises(UsageError, match="40 images have groups, but 39"):
        compare_groups({"score": values[1:]}, groups)


def test_the_gap_within_a_group_is_that_of_its_rows() -> None:
    generator = torch.Generator().manual_seed(3)
    y, other, noise = (torch.randn(120, 4, generator=generator) for _ in range(3))
    x = y + 2 + 0.1 * noise
    z = torch.cat([y[:60] + 0.2, x[60:]])
    groups = [{"half": "first" if row < 60 else "second", "tiny": "a" if row < 10 else "b"} for row in range(120)]
    gaps = {one.group: one for one in group_gaps(x, z, y, other, groups)}
    assert set(gaps) == {"first", "second", "b"}
    first, second = gaps["first"].gap, gaps["second"].gap
    assert first is not None and second is not None
    expected = gap_closed(x[:60], z[:60], y[:60], other[:60]).share
    assert expected is not None and first.value == pytest.approx(expected.value) and first.value > 0.9
    assert second.value == pytest.approx(0, abs=1e-9)
