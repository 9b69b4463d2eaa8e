from __future__ import annotations

import time

import pytest
import torch

from topcoat.cost import hardware, summarise, time_interleaved, time_median
from topcoat.errors import UsageError


def test_median_and_spread() -> None:
    found = summarise([5.0, 1.0, 2.0])
    assert (found.median_seconds, found.low, found.high, found.runs) == (2, 1, 5, 3)
    many = summarise([float(value) for value in range(20)])
    assert (many.low, many.high) == (2, 17)
    assert many.per(2).median_seconds == many.median_seconds / 2
    with pytest.raises(UsageError, match="no run"):
        summarise([])


def test_runs_take_turns_and_warm_up_is_not_counted() -> None:
    order: list[str] = []
    first = [0.2]

    def slow_at_first() -> None:
        order.append("a")
        time.sleep(first.pop() if first else 0)

    found = time_interleaved({"a": slow_at_first, "b": lambda: order.append("b")}, repeats=2, warmup=1)
    assert "".join(order) == "ababab"
    assert found["a"].runs == 2 and found["a"].high < 0.15
    with pytest.raises(UsageError, match="0 repeats"):
        time_median(lambda: None, 0)


def test_time_is_about_right() -> None:
    assert 0.02 <= time_median(lambda: time.sleep(0.02), 3).median_seconds < 0.2


def test_hardware_says_what_matters() -> None:
    found = hardware()
    assert found.cores >= 1 and found.torch_threads == torch.get_num_threads() and found.ram_gib > 0
    assert found.torch == torch.__version__
    assert found.as_dict()["cpu"] == found.cpu != ""
    assert "GiB RAM" in str(found)
