"""Fakes that generate at once, a head of one line, and a study of seconds with heads of a few hundred weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import FakeHead
from topcoat.benchmark.study import Study
from topcoat.benchmark.study_plan import StudyRun, study_runs
from topcoat.features import FeatureNet
from topcoat.generators.base import Generator, ModelPair
from topcoat.heads import CycleGANConfig, DecoderConfig, UNetConfig
from topcoat.prompts import held_out_prompts, sample_prompts
from topcoat.training import CycleObjective, PairedObjective, TrainConfig

HELD_OUT = 10
PAIRS = 40


class SharpenHead(FakeHead):
    """A stand-in for a trained head: gives back part of what the plastic generator's 3x3 mean took away."""

    def __call__(self, inputs: Tensor, strength: float = 1.0) -> Tensor:
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
def generated(flux_pair: ModelPair, fake_generators: tuple[Generator, Generator]) -> tuple[Generator, Generator]:
    """Fast fakes with the specs of the tiny Flux pair, so that its cost can be counted from its configs."""
    kind = type(fake_generators[0])
    return kind(flux_pair.distilled, plastic=True), kind(flux_pair.baseline, plastic=False)  # type: ignore[call-arg]


def tiny(name: str, **settings: Any) -> TrainConfig:
    """A run of 4 steps."""
    common: dict[str, Any] = {"images": 16, "batch_size": 4, "crop_px": 16, "warmup_images": 4, "validation_images": 2}
    fixed: dict[str, Any] = {"checkpoint_every_seconds": 0.0, "device": "cpu", "precision": "float32", "wandb": "off"}
    return TrainConfig(name=name, **{**common, **fixed, **settings})


@pytest.fixture
def runs(flux_pair: ModelPair) -> list[StudyRun]:
    objective = PairedObjective(charbonnier=1.0)
    return study_runs(
        [
            tiny("paired", head=UNetConfig(channels=(4, 8)), objective=objective),
            tiny(
                "unpaired",
                head=CycleGANConfig(base_channels=2, blocks=1),
                objective=CycleObjective(discriminator_channels=2),
                crop_px=24,
            ),
            tiny("latents", head=DecoderConfig(channels=(8, 6, 4), blocks=(1, 0, 0)), objective=objective, flip=False),
        ],
        flux_pair,
    )


@pytest.fixture
def study(
    runs: list[StudyRun], flux_pair: ModelPair, generated: Any, net: FeatureNet, tmp_path: Path
) -> Callable[..., Study]:
    """``study("folder")`` is a study of the tiny runs; any argument of `Study` may be replaced."""

    def made(folder: str = "study", **changes: Any) -> Study:
        given: dict[str, Any] = {
            "pair": flux_pair,
            "runs": runs,
            "training_prompts": sample_prompts(PAIRS),
            "prompts": held_out_prompts(HELD_OUT, 1),
            "seeds": range(9_000_000, 9_000_000 + HELD_OUT),
            "output": tmp_path / folder,
            "batch_size": 4,
            "generators": generated,
            "features": net,
            "loss_features": net,
        }
        return Study(**{**given, **changes})

    return made
