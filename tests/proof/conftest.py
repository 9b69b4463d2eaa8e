from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from topcoat.features import FeatureNet
from topcoat.generators.base import Generator, ModelPair


@dataclass(frozen=True)
class SharpenDescriptor:
    size_multiple: int = 4


class SharpenHead:
    """A stand-in for a trained head: gives back part of what the plastic generator's 3x3 mean took away."""

    digest = "sharpen"

    def __init__(self) -> None:
        self.network: nn.Module = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.descriptor = SharpenDescriptor()
        self.device = torch.device("cpu")

    def to(self, device: torch.device) -> None:
        self.device = device

    def __call__(self, images: Tensor, strength: float = 1.0) -> Tensor:
        blurred = nn.functional.avg_pool2d(nn.functional.pad(images, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
        return (images + 0.8 * strength * (images - blurred)).clamp(0, 1)


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
