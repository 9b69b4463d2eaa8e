"""What a study trains, what it changes on a named run and says of it, and what it would take."""

from __future__ import annotations

from typing import Any

import pytest

from tests.benchmark.conftest import tiny
from topcoat.benchmark.study_plan import plan_study, study_runs, training_tflop
from topcoat.cost.flops import pair_cost
from topcoat.errors import UsageError
from topcoat.generators.base import ModelPair
from topcoat.generators.presets import model_pair
from topcoat.generators.vae import load_vae
from topcoat.heads import CycleGANConfig, UNetConfig
from topcoat.training import RUNS, STUDY_RUNS, PairedObjective
from topcoat.training.runs import paper_cyclegan, unet


def test_with_a_gpu_every_run_is_the_named_one(flux_pair: ModelPair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    runs = study_runs(STUDY_RUNS, flux_pair)
    vae = load_vae(flux_pair.distilled).decoder.config
    named = {name: RUNS[name]().fitted(vae) for name in STUDY_RUNS}
    assert {run.name: run.base for run in runs if run.base} == {"refiner": "unet", "latent-unet": "unet"}
    for run in runs:  # the stages of unet are trained once
        stages = named[run.name].stages
        assert run.config.stages == (stages if run.base is None else stages[2:])
    assert all(run.changed == () and run.reason == "" for run in runs)


def test_without_one_the_cyclegans_are_narrower_and_say_so(
    flux_pair: ModelPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    runs = {run.name: run for run in study_runs(STUDY_RUNS, flux_pair)}
    for name in ("paper-cyclegan", "paper-esa"):
        run = runs[name]
        assert getattr(run.config.last.objective, "discriminator_channels") == 16  # noqa: B009
        assert run.changed == (
            "head.base_channels 16, not 64",
            "objective.discriminator_channels 16, not 64",
            "images 20,000, not 200,000",
        )
        assert "no GPU" in run.reason and "TFLOP for each image" in run.reason
    assert runs["paper-unet"].config == RUNS["paper-unet"]() and not runs["paper-unet"].changed
    (forced,) = study_runs(["paper-cyclegan"], flux_pair, full_size=True)
    assert forced.config == paper_cyclegan() and not forced.changed


def test_a_number_of_images_is_obeyed(flux_pair: ModelPair) -> None:
    for run in study_runs(["paper-cyclegan", "unet"], flux_pair, train_images=500, full_size=False):
        assert run.config.images == 500
        assert not any(words.startswith("images") for words in run.changed)


def test_a_decoder_is_fitted_to_the_vae() -> None:
    (run,) = study_runs(["decoder"], model_pair("sdxl"))
    assert [stage.head.training_latents for stage in run.config.stages] == [4, 4]
    assert run.changed == ("head.latent_channels 4, not 16",) and "have 4 channels" in run.reason


def test_settings_of_ones_own_stay_as_they_are(flux_pair: ModelPair) -> None:
    own = paper_cyclegan().model_copy(update={"name": "mine"})
    (run,) = study_runs([own], flux_pair, full_size=False)
    assert run.config == own and not run.changed


def test_runs_start_from_the_head_that_their_first_stages_would_make(flux_pair: ModelPair) -> None:
    (alone,) = study_runs(["refiner"], flux_pair)
    assert alone.base is None and len(alone.config.stages) == 3
    (known,) = study_runs(["latent-unet"], flux_pair, known=["unet"])
    assert known.base == "unet" and [stage.name for stage in known.config.stages] == ["taught", "latents"]
    own = unet().last.model_copy(update={"name": "own"})
    assert [run.base for run in study_runs(["unet", own], flux_pair)] == [None, "unet"]
    with pytest.raises(UsageError, match="own goes on from the head of another run; name that run before it"):
        study_runs([own], flux_pair)


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ([], "1 or more runs"),
        (["worst-unet"], "no run named"),
        (["unet", "unet"], "two runs of the study are called unet"),
        ([tiny("../up", objective=PairedObjective(charbonnier=1))], "cannot be a folder"),
    ],
)
def test_runs_that_cannot_be_are_refused(flux_pair: ModelPair, runs: list[Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        study_runs(runs, flux_pair)


def test_the_plan_adds_up(flux_pair: ModelPair) -> None:
    paired = tiny("paired", head=UNetConfig(channels=(4, 8)), objective=PairedObjective(charbonnier=1))
    narrow = paper_cyclegan().last.model_copy(
        update={"crop_px": 24, "head": CycleGANConfig(base_channels=2), "images": 5}
    )
    runs = study_runs([paired, narrow], flux_pair)
    stages = {
        stage.name: stage
        for stage in plan_study(flux_pair, {run.name: run.config for run in runs}, pairs=100, held_out=10, batch_size=4)
    }
    assert list(stages) == [
        "pairs", "train paired", "train paper-cyclegan", "generate",
        "evaluate paired", "evaluate paper-cyclegan", "report",
    ]  # fmt: skip
    table = pair_cost(flux_pair)
    assert stages["pairs"].tflop == pytest.approx(100 * (table.distilled.tflop + table.baseline.tflop))
    forward = paired.head.flops(16, 16) / 1e12
    assert stages["train paired"].tflop == pytest.approx(16 * 3 * forward)
    assert training_tflop(narrow, flux_pair) == pytest.approx(3 * 6 * narrow.head.flops(24, 24) / 1e12)
    extra = next(cost.tflop for cost in table.baseline_at if cost.steps == 28)
    assert stages["generate"].tflop == pytest.approx(
        10 * (table.distilled.tflop + 2 * table.baseline.tflop) + 10 * extra
    )
    assert stages["evaluate paired"].tflop == pytest.approx(10 * paired.head.flops(48, 32) / 1e12)
