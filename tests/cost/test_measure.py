from __future__ import annotations

import time

import pytest
import torch

from topcoat.cost.machine import hardware
from topcoat.cost.measure import summarise, timed
from topcoat.errors import UsageError


def test_median_and_spread() -> None:
    timing = summarise([5.0, 1.0, 2.0])
    assert (timing.median_seconds, timing.low, timing.high, timing.runs) == (2, 1, 5, 3)
    many = summarise([float(value) for value in range(20)])
    assert (many.low, many.high) == (2, 17)
    with pytest.raises(UsageError, match="no run"):
        summarise([])


def test_time_is_about_right() -> None:
    result, seconds = timed(lambda: time.sleep(0.02) or "done")
    assert result == "done" and 0.02 <= seconds < 0.2


def test_hardware_says_what_matters() -> None:
    machine = hardware()
    assert machine.cores >= 1 and machine.torch_threads == torch.get_num_threads() and machine.ram_gib > 0
    assert machine.torch == torch.__version__
    assert machine.as_dict()["cpu"] == machine.cpu != ""
    assert "GiB RAM" in str(machine)
