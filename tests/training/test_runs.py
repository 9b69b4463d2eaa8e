"""Moving average, schedules, settings and named runs."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from tests.heads.vaes import TINY_VAE
from topcoat.errors import UsageError
from topcoat.heads import (
    CycleGANConfig,
    ESACycleGANConfig,
    Head,
    LatentUNetConfig,
    NAFNetConfig,
    RefinerConfig,
    UNetConfig,
)
from topcoat.training import (
    RUN_NAMES,
    RUNS,
    CycleObjective,
    LatentObjective,
    PairedObjective,
    RunConfig,
    TrainConfig,
    run_config,
    with_settings,
)
from topcoat.training.distributed import resolved_precision
from topcoat.training.optim import Ema, adversarial_factor, ema_decay, learning_rate_factor
from topcoat.training.runs import debug, latent_unet, paper_cyclegan, paper_esa, paper_unet, refiner, unet


def test_ema_halves_the_past_in_a_halflife():
    decay = ema_decay(images_seen=10**9, step_images=10, halflife_images=50)
    assert decay**5 == pytest.approx(0.5)
    assert ema_decay(10, 10, 1e6) < 1e-5  # the ramp-up forgets the first weights
    assert ema_decay(0, 10, 1e6) == 0


def test_ema_update_does_not_depend_on_the_step_size():
    def after(step_images: int) -> float:
        network = nn.Linear(1, 1)
        nn.init.zeros_(network.weight)
        ema = Ema(network)
        nn.init.ones_(network.weight)
        for _ in range(40 // step_images):
            ema.update(network, ema_decay(10**9, step_images, 20))
        return float(ema.network.get_parameter("weight"))

    assert after(2) == pytest.approx(0.75)
    assert after(8) == pytest.approx(0.75)


def test_ema_copies_buffers_and_takes_no_gradient():
    network = nn.BatchNorm1d(2)
    ema = Ema(network)
    network(torch.randn(8, 2) + 3)
    ema.update(network, 0.9)
    torch.testing.assert_close(ema.network.get_buffer("running_mean"), network.running_mean)
    assert not any(weight.requires_grad for weight in ema.network.parameters())


def test_learning_rate_rises_then_falls_to_zero():
    factors = [learning_rate_factor(seen, 100, 1000) for seen in range(0, 1001, 10)]
    assert factors[0] == 0 and factors[10] == 1 and factors[-1] == pytest.approx(0)
    assert factors[5] == pytest.approx(0.5)
    assert factors[55] == pytest.approx(0.5)
    assert sorted(set(factors[:11])) == factors[:11]
    assert sorted(set(factors[10:]), reverse=True) == factors[10:]
    assert learning_rate_factor(1010, 100, 1000) == pytest.approx(0)  # the last batch may overshoot
    assert learning_rate_factor(5, 0, 10) == pytest.approx(0.5)
    assert learning_rate_factor(10, 50, 20) == pytest.approx(0.2)  # a run shorter than its warm-up


def test_constant_then_a_line_to_zero():
    factors = [learning_rate_factor(seen, 0, 100, "constant-linear") for seen in (1, 25, 50, 75, 100, 110)]
    assert factors == [1, 1, 1, pytest.approx(0.5), pytest.approx(0), pytest.approx(0)]


def test_adversary_comes_in_slowly():
    assert [adversarial_factor(seen, 100, 50) for seen in (0, 100, 125, 150, 900)] == [0, 0, 0.5, 1, 1]
    assert adversarial_factor(101, 100, 0) == 1


def test_paper_run_is_exactly_the_two_terms():
    objective = paper_unet().last.objective
    assert isinstance(objective, PairedObjective)
    active = {name: weight for name, weight in objective.weights().items() if weight}
    assert active == {"gradient_input": 1.0, "perceptual": 1.0}
    assert objective.gradient_input_kind == "forward"


def test_named_runs():
    assert set(RUNS) == set(RUN_NAMES)
    for name, run in RUNS.items():
        settings = run()
        assert settings.name == name
        assert RunConfig.model_validate(settings.model_dump()) == settings  # every check holds, from a file too
    assert run_config("paper-unet") == paper_unet() and run_config(unet()) == unet()
    assert run_config("unet/whole").stages == unet().stages[1:]
    weights = debug().last.objective.weights()
    assert all(weight > 0 for weight in weights.values())
    with pytest.raises(UsageError, match="unet"):
        run_config("worst-unet")
    with pytest.raises(UsageError, match="no stage 'halves'; use one of crops, whole"):
        run_config("unet/halves")


def test_stages_fit_the_heads_they_go_on_from():
    for run in RUNS.values():
        stages = run().stages
        assert stages[0].previous is None
        for before, stage in pairwise(stages):
            assert stage.previous is not None
            base = stage.head.painter if isinstance(stage.head, RefinerConfig) else stage.head
            assert stage.previous == "teacher" or base == before.head


def test_paper_cyclegan_is_the_authors_recipe():
    config = paper_cyclegan().last
    assert config.objective == CycleObjective(
        cycle=10, identity=5, adversarial=1, pool_images=50, discriminator_channels=64
    )
    assert (config.batch_size, config.learning_rate, config.discriminator_learning_rate) == (1, 2e-4, 2e-4)
    assert config.betas == (0.5, 0.999) and config.schedule == "constant-linear"
    assert config.head == CycleGANConfig()
    assert paper_esa().last == config.model_copy(update={"name": "paper-esa", "head": ESACycleGANConfig()})


def test_settings_are_changed_by_name():
    changes = ["head.base_channels=16", "objective.pool_images=5", "learning_rate=1e-4", "crop_px=null"]
    run = with_settings(paper_cyclegan(), changes)
    config = run.last
    assert config.head == CycleGANConfig(base_channels=16) and config.objective == CycleObjective(pool_images=5)
    assert (config.learning_rate, config.crop_px) == (1e-4, None)
    assert run.name == config.name == "paper-cyclegan" and run.images == paper_cyclegan().images
    nafnet = with_settings(unet(), ["head.kind=nafnet", "head.width=8"])
    assert [stage.head for stage in nafnet.stages] == [NAFNetConfig(width=8)] * 2
    assert with_settings(unet(), ["head.kind=unet"]) == unet() == with_settings(unet(), [])
    latent = with_settings(unet(), ["objective.kind=latent", "head.kind=latent-unet", "flip=false", "crop_px=null"])
    assert latent.last.objective == LatentObjective()


def test_settings_of_one_stage_are_changed_by_its_name():
    run = with_settings(unet(), ["whole.learning_rate=1e-4", "batch_size=8"])
    assert [stage.learning_rate for stage in run.stages] == [unet().stages[0].learning_rate, 1e-4]
    assert [stage.batch_size for stage in run.stages] == [8, 8]
    with pytest.raises(UsageError, match="stage whole: learning_rate"):
        with_settings(unet(), ["whole.learning_rate=-1"])


def test_images_are_shared_by_the_stages():
    assert [stage.images for stage in unet().with_images(2_200).stages] == [2_000, 200]
    assert unet().with_images(75_001).images == 75_001
    with pytest.raises(UsageError, match="images"):
        unet().with_images(1)


def test_a_head_to_start_from_stands_for_the_stages_before():
    config = UNetConfig()
    image_head = Head(config.build(), config)
    assert refiner().starting_from(None) == refiner()
    assert refiner().starting_from(image_head).stages[0].name == "refiner"
    assert latent_unet().starting_from(image_head).stages[0].name == "taught"
    assert unet().starting_from(image_head).stages[0].name == "crops"
    latents = LatentUNetConfig(channels=(8,), vae=TINY_VAE, latent_channels=4, vae_scale=4)
    latent_head = Head(latents.build(), latents)
    assert latent_unet().starting_from(latent_head).stages[0].name == "latents"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("learning_rate", "write name=value"),
        ("=3", "write name=value"),
        ("heed.width=3", "heed holds none"),
        ("head.widht=3", "widht"),
        ("learning_rate=fast", "learning_rate"),
        ("seed=[1", "cannot be read"),
        ("gradient_accumulation_steps=3", "multiple of gradient_accumulation_steps"),
    ],
)
def test_bad_changes_are_refused(change: str, words: str):
    with pytest.raises(UsageError, match=words):
        with_settings(unet(), [change])


def test_run_from_a_file(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    head = "head: {kind: unet, channels: [4, 8]}\n"
    path.write_text("name: mine\nimages: 10\nobjective: {kind: paired, charbonnier: 1}\n" + head)
    config = run_config(str(path)).last
    assert config.head == UNetConfig(channels=(4, 8)) and config.objective == PairedObjective(charbonnier=1)
    path.write_text("name: mine\nimages: 10\nobjective: {kind: paired, charbonier: 1}\n")
    with pytest.raises(UsageError, match=r"charbonier: unknown key, did you mean charbonnier\?"):
        run_config(str(path))
    path.write_text(json.dumps(unet().model_dump(mode="json")))  # JSON is YAML
    assert run_config(str(path)) == unet()


CYCLE = {"kind": "cycle"}


@pytest.mark.parametrize(
    "change",
    [
        {"images": 0},
        {"batch_size": 0},
        {"learning_rate": 0},
        {"crop_px": 20},
        {"seed": -1},
        {"objective": {"kind": "paired"}},
        {"objective": {"kind": "paired", "charbonnier": -1}},
        {"objective": {"kind": "mystery"}},
        {"objective": {"charbonnier": 1}},
        {"precision": "float8"},
        {"unknown": 1},
        {"gradient_accumulation_steps": 3},
        {"betas": [0.9]},
        {"losses": {"charbonnier": 1}},
        {"objective": {"kind": "paired", "feature_matching": 1}},
        {"objective": {"kind": "cycle", "cycle": 0, "identity": 0, "adversarial": 0}},
        {"objective": CYCLE, "head": {"kind": "decoder"}, "flip": False},
        {"objective": {"kind": "latent"}, "flip": False},
        {"objective": {"kind": "latent"}, "head": {"kind": "decoder"}, "flip": False, "crop_px": None},
        {"head": {"kind": "decoder"}},
        {"head": {"kind": "decoder"}, "flip": False, "crop_px": 20},
        {"head": {"kind": "esa-cyclegan"}, "crop_px": 56},
        {"head": {"kind": "mystery"}},
        {"head": {"kind": "refiner"}, "flip": False},
        {"objective": CYCLE, "crop_px": 16},
    ],
)
def test_bad_settings_are_refused(change: dict[str, object]):
    good = {"name": "x", "images": 10, "objective": {"kind": "paired", "charbonnier": 1}}
    TrainConfig.model_validate(good)
    with pytest.raises(ValidationError):
        TrainConfig.model_validate({**good, **change})


def test_identity_leaves_out_where_it_runs_and_what_is_at_its_default():
    config = TrainConfig(name="x", images=10, objective=PairedObjective(charbonnier=1))
    moved = config.model_copy(update={"device": "cuda", "checkpoint_every_seconds": 1.0, "cache_mebibytes": 0})
    assert moved.identity() == config.identity()
    assert config.model_copy(update={"seed": 1}).identity() != config.identity()
    assert config.identity() == {
        "name": "x",
        "images": 10,
        "objective": {"kind": "paired", "charbonnier": 1.0},
        "head": UNetConfig().model_dump(mode="json"),
    }
    cycle = TrainConfig(name="x", images=10, head=CycleGANConfig(), objective=CycleObjective())
    assert cycle.identity()["objective"] == {"kind": "cycle"} and cycle.identity()["head"]["kind"] == "cyclegan"


def test_every_run_and_stage_is_in_the_docs():
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    names = {*RUN_NAMES, *(stage.name for run in RUNS.values() for stage in run().stages)}
    assert [name for name in names if f"`{name}`" not in text] == []


def test_run_names_are_known_without_torch():
    code = "import sys; from topcoat.training import RUN_NAMES; assert 'torch' not in sys.modules and RUN_NAMES"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_precision_is_chosen_by_hardware(monkeypatch: pytest.MonkeyPatch):
    cpu = torch.device("cpu")
    assert resolved_precision("bfloat16", cpu) == "bfloat16"
    for native, expected in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda native=native: {"avx512_bf16": native})
        assert resolved_precision("auto", cpu) == expected
    assert resolved_precision("auto", torch.device("mps")) == "float32"
