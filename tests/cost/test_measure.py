from __future__ import annotations

import time

import pytest
import torch

from topcoat.cost.machine import hardware
from topcoat.cost.measure import summarise, timed
from topcoat.errors import UsageError


def test_median_and_spread() -> None:
    found = summarise([5.0, 1.0, 2.0])
    assert (found.median_seconds, found.low, found.high, found.runs) == (2, 1, 5, 3)
    many = summarise([float(value) for value in range(20)])
    assert (many.low, many.high) == (2, 17)
    with pytest.raises(UsageError, match="no run"):
        summarise([])


def test_time_is_about_right() -> None:
    result, seconds = timed(lambda: time.sleep(0.02) or "done")
    assert result == "done" and 0.02 <= seconds < 0.2


def test_hardware_says_what_matters() -> None:
    found = hardware()
    assert found.cores >= 1 and found.torch_threads == torch.get_num_threads() and found.ram_gib > 0
    assert found.torch == torch.__version__
    assert found.as_dict()["cpu"] == found.cpu != ""
    assert "GiB RAM" in str(found)
