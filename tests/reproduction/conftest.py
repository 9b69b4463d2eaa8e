"""A study of seconds: fakes that paint, heads of a few hundred weights."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.proof.conftest import net, painted
from topcoat.features import FeatureNet
from topcoat.generators.base import ModelPair
from topcoat.heads import CycleGANConfig, DecoderConfig, UNetConfig
from topcoat.prompts import held_out_prompts, sample_prompts
from topcoat.reproduction import Reproduction, StudyRun, study_runs
from topcoat.training import CycleConfig, LossWeights, TrainConfig

__all__ = ["net", "painted"]

HELD_OUT = 10
PAIRS = 40


def tiny(name: str, **settings: Any) -> TrainConfig:
    """A run of 4 steps."""
    common: dict[str, Any] = {"images": 16, "batch_size": 4, "crop_px": 16, "warmup_images": 4, "validation_images": 2}
    fixed: dict[str, Any] = {"checkpoint_every_seconds": 0.0, "device": "cpu", "precision": "float32", "wandb": "off"}
    return TrainConfig(name=name, **{**common, **fixed, **settings})


@pytest.fixture
def runs(flux_pair: ModelPair) -> list[StudyRun]:
    losses = LossWeights(charbonnier=1.0)
    return study_runs(
        [
            tiny("paired", head=UNetConfig(channels=(4, 8)), losses=losses),
            tiny(
                "unpaired",
                head=CycleGANConfig(base_channels=2, blocks=1),
                cycle=CycleConfig(discriminator_channels=2),
                crop_px=24,
            ),
            tiny("latents", head=DecoderConfig(channels=(8, 6, 4), blocks=(1, 0, 0)), losses=losses, flip=False),
        ],
        flux_pair,
    )


@pytest.fixture
def study(
    runs: list[StudyRun], flux_pair: ModelPair, painted: Any, net: FeatureNet, tmp_path: Path
) -> Callable[..., Reproduction]:
    """``study("folder")`` is a study of the tiny runs; any argument of `Reproduction` may be replaced."""

    def made(folder: str = "study", **changes: Any) -> Reproduction:
        given: dict[str, Any] = {
            "pair": flux_pair,
            "runs": runs,
            "training_prompts": sample_prompts(PAIRS),
            "prompts": held_out_prompts(HELD_OUT, 1),
            "seeds": range(9_000_000, 9_000_000 + HELD_OUT),
            "output": tmp_path / folder,
            "batch_size": 4,
            "generators": painted,
            "features": net,
            "loss_features": net,
        }
        return Reproduction(**{**given, **changes})

    return made


@pytest.fixture
def judging() -> Any:
    """The module whose names are replaced in tests."""
    return importlib.import_module("topcoat.reproduction.judging")
