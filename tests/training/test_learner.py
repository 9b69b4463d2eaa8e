from __future__ import annotations

import pytest
import torch
from torch import nn

from topcoat.training.learner import USUAL_STEPS, Learner
from topcoat.training.processes import Processes


def learner(precision: str = "float32", **changes: float) -> Learner:
    torch.manual_seed(0)
    settings = {"clip_norm": 1.0, "explosion": 100.0, **changes}
    return Learner(nn.Linear(3, 1), Processes("cpu", precision), betas=(0.9, 0.99), **settings)


def pushed(one: Learner, factor: float = 1.0) -> bool:
    """A step against a loss with a gradient of that size; False if it was refused."""
    one.backward(factor * one.network(torch.ones(1, 3)).sum())
    good = one.check()
    if good:
        one.apply(0.01)
    else:
        one.clear()
    return good


def copied(one: Learner) -> dict[str, torch.Tensor]:
    """Its state; `tensors` shares memory with it."""
    return {name: value.clone() for name, value in one.tensors("x").items()}


def weights(one: Learner) -> list[float]:
    return [float(value) for parameter in one.network.parameters() for value in parameter.detach().flatten()]


def test_a_step_changes_weights_and_forgets_the_gradient():
    one = learner()
    before = weights(one)
    assert pushed(one)
    assert weights(one) != before
    assert all(parameter.grad is None for parameter in one.network.parameters())


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(factor: float):
    one = learner()
    pushed(one)
    before = copied(one)
    assert not pushed(one, factor)
    assert all(torch.equal(value, before[name]) for name, value in one.tensors("x").items())


def test_an_explosion_is_refused_once_it_is_known_what_is_usual():
    one = learner()
    assert pushed(one, 1e6)  # nothing is usual yet
    one = learner()
    assert all(pushed(one, 1.0 + step % 3) for step in range(USUAL_STEPS + 5))
    before = copied(one)
    assert not pushed(one, 1000.0)
    assert all(torch.equal(value, before[name]) for name, value in one.tensors("x").items())
    assert pushed(one, 50.0)  # large, but not out of all proportion
    assert pushed(one, 0.0)  # a step of zero length is no explosion, and not usual either
    assert pushed(one, 1.0)


def test_no_gradient_is_no_step():
    one = learner()
    before = weights(one)
    assert one.check()
    one.apply(0.1)
    assert weights(one) == before


def test_float16_scales_its_losses_and_keeps_the_scale():
    one = learner("float16")
    assert pushed(one)
    full = learner("float32")
    assert pushed(full)
    assert weights(one) == pytest.approx(weights(full))  # scaling changes no step
    before = copied(one)["scale.x"][0]
    assert not pushed(one, float("inf"))
    after = copied(one)
    assert float(after["scale.x"][0]) == float(before) / 2
    other = learner("float16")
    other.load_tensors("x", after)
    pushed(one)
    pushed(other)
    ours, theirs = one.tensors("x"), other.tensors("x")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
