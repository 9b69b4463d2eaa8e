from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import FakeHead
from topcoat.features import FeatureNet
from topcoat.generators.base import Generator, ModelPair


class SharpenHead(FakeHead):
    """A stand-in for a trained head: gives back part of what the plastic generator's 3x3 mean took away."""

    def __call__(self, inputs: Tensor, /, strength: float = 1.0) -> Tensor:
        blurred = nn.functional.avg_pool2d(nn.functional.pad(inputs, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
        return (inputs + 0.8 * strength * (inputs - blurred)).clamp(0, 1)


@pytest.fixture(scope="session")
def head() -> SharpenHead:
    torch.manual_seed(0)
    return SharpenHead()


@pytest.fixture(scope="session")
def net() -> FeatureNet:
    return FeatureNet.tiny(0)


@pytest.fixture
def painted(flux_pair: ModelPair, fake_generators: tuple[Generator, Generator]) -> tuple[Generator, Generator]:
    """Fast fakes with the specs of the tiny Flux pair, so that its cost can be counted from its configs."""
    kind = type(fake_generators[0])
    return kind(flux_pair.distilled, plastic=True), kind(flux_pair.baseline, plastic=False)  # type: ignore[call-arg]
