from __future__ import annotations

import pytest
import torch
from torch import nn

from topcoat.training import PairedObjective, TrainConfig
from topcoat.training.distributed import Processes
from topcoat.training.optim import USUAL_STEPS, Optimisation


def optimisation(precision: str = "float32") -> Optimisation:
    torch.manual_seed(0)
    objective = PairedObjective(charbonnier=1.0)
    settings = TrainConfig(name="x", objective=objective, images=1, grad_spike_factor=100.0)
    return Optimisation(nn.Linear(3, 1), settings, Processes("cpu", precision))


def pushed(one: Optimisation, factor: float = 1.0) -> bool:
    """A step against a loss with a gradient of that size; False if it was refused."""
    one.backward(factor * one.network(torch.ones(1, 3)).sum())
    good = one.check()
    if good:
        one.apply(0.01)
    else:
        one.clear()
    return good


def copied(one: Optimisation) -> dict[str, torch.Tensor]:
    """Its state; `tensors` shares memory with it."""
    return {name: value.clone() for name, value in one.tensors("x").items()}


def weights(one: Optimisation) -> list[float]:
    return [float(value) for parameter in one.network.parameters() for value in parameter.detach().flatten()]


def test_a_step_changes_weights_and_forgets_the_gradient():
    one = optimisation()
    before = weights(one)
    assert pushed(one)
    assert weights(one) != before
    assert all(parameter.grad is None for parameter in one.network.parameters())


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(factor: float):
    one = optimisation()
    pushed(one)
    before = copied(one)
    assert not pushed(one, factor)
    assert all(torch.equal(value, before[name]) for name, value in one.tensors("x").items())


def test_a_spike_is_refused_once_enough_steps_were_taken():
    one = optimisation()
    assert pushed(one, 1e6)  # nothing is usual yet
    one = optimisation()
    assert all(pushed(one, 1.0 + step % 3) for step in range(USUAL_STEPS + 5))
    before = copied(one)
    assert not pushed(one, 1000.0)
    assert all(torch.equal(value, before[name]) for name, value in one.tensors("x").items())
    assert pushed(one, 50.0)  # large, but not out of all proportion
    assert pushed(one, 0.0)  # a step of zero length is no spike, and not usual either
    assert pushed(one, 1.0)


def test_no_gradient_is_no_step():
    one = optimisation()
    before = weights(one)
    assert one.check()
    one.apply(0.1)
    assert weights(one) == before


def test_float16_scales_its_losses_and_keeps_the_scale():
    one = optimisation("float16")
    assert pushed(one)
    full = optimisation("float32")
    assert pushed(full)
    assert weights(one) == pytest.approx(weights(full))  # scaling changes no step
    before = copied(one)["scale.x"][0]
    assert not pushed(one, float("inf"))
    after = copied(one)
    assert float(after["scale.x"][0]) == float(before) / 2
    other = optimisation("float16")
    other.load_tensors("x", after)
    pushed(one)
    pushed(other)
    ours, theirs = one.tensors("x"), other.tensors("x")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
