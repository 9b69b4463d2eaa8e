"""Moving average, schedules, settings and named runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from topcoat.errors import UsageError
from topcoat.heads import CycleGANConfig, ESACycleGANConfig, NAFNetConfig, UNetConfig
from topcoat.training import (
    RUNS,
    CycleConfig,
    LatentConfig,
    LossWeights,
    TrainConfig,
    best_unet,
    debug,
    paper_cyclegan,
    paper_esa,
    paper_unet,
    run_config,
    with_settings,
)
from topcoat.training.ema import Ema, ema_decay
from topcoat.training.processes import resolved_precision
from topcoat.training.schedule import adversarial_factor, learning_rate_factor


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
    config = paper_unet()
    active = {name: weight for name, weight in config.losses.named().items() if weight}
    assert active == {"gradient_input": 1.0, "perceptual": 1.0}
    assert config.losses.gradient_input_kind == "forward"


def test_named_runs():
    assert run_config("unet") == run_config("best-unet") == best_unet()
    assert run_config("paper-unet") == paper_unet()
    assert {RUNS[name]().name for name in RUNS} == set(RUNS) - {"unet"}
    for name, run in RUNS.items():
        settings = run()
        assert TrainConfig.model_validate(settings.model_dump()) == settings, name  # every check holds, from a file too
        assert settings.name == name or name == "unet"
    assert all(weight > 0 for weight in debug().losses.named().values())
    assert run_config(debug()) is not None
    with pytest.raises(UsageError, match="best-unet"):
        run_config("worst-unet")


def test_paper_cyclegan_is_the_authors_recipe():
    config = paper_cyclegan()
    assert config.cycle == CycleConfig(cycle=10, identity=5, adversarial=1, pool_images=50, discriminator_channels=64)
    assert (config.batch_size, config.learning_rate, config.discriminator_learning_rate) == (1, 2e-4, 2e-4)
    assert config.betas == (0.5, 0.999) and config.schedule == "constant-linear"
    assert config.head == CycleGANConfig() and not any(config.losses.named().values())
    assert paper_esa() == config.model_copy(update={"name": "paper-esa", "head": ESACycleGANConfig()})


def test_settings_are_changed_by_name():
    config = with_settings(
        paper_cyclegan(), ["head.base_channels=16", "cycle.pool_images=5", "learning_rate=1e-4", "crop_px=null"]
    )
    assert config.head == CycleGANConfig(base_channels=16) and config.cycle is not None
    assert (config.cycle.pool_images, config.learning_rate, config.crop_px) == (5, 1e-4, None)
    assert config.name == "paper-cyclegan" and config.images == paper_cyclegan().images
    nafnet = with_settings(best_unet(), ["head.kind=nafnet", "head.width=8"])
    assert nafnet.head == NAFNetConfig(width=8)
    assert with_settings(best_unet(), ["head.kind=unet"]) == best_unet() == with_settings(best_unet(), [])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("learning_rate", "write name=value"),
        ("=3", "write name=value"),
        ("heed.width=3", "heed holds none"),
        ("head.widht=3", "widht"),
        ("learning_rate=fast", "learning_rate"),
        ("seed=[1", "cannot be read"),
        ("accumulate=3", "multiple of accumulate"),
    ],
)
def test_bad_changes_are_refused(change: str, words: str):
    with pytest.raises(UsageError, match=words):
        with_settings(best_unet(), [change])


def test_run_from_a_file(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nimages: 10\nlosses: {charbonnier: 1}\nhead: {kind: unet, channels: [4, 8]}\n")
    config = run_config(str(path))
    assert config.head == UNetConfig(channels=(4, 8)) and config.losses.charbonnier == 1
    path.write_text("name: mine\nimages: 10\nlosses: {charbonier: 1}\n")
    with pytest.raises(UsageError, match="charbonnier"):
        run_config(str(path))


@pytest.mark.parametrize(
    "change",
    [
        {"images": 0},
        {"batch_size": 0},
        {"learning_rate": 0},
        {"crop_px": 20},
        {"seed": -1},
        {"losses": {}},
        {"losses": {"charbonnier": -1}},
        {"precision": "float8"},
        {"unknown": 1},
        {"accumulate": 3},
        {"betas": [0.9]},
        {"cycle": {}},
        {"losses": {"feature_matching": 1}},
        {"losses": {}, "cycle": {"cycle": 0, "identity": 0, "adversarial": 0}},
        {"losses": {}, "cycle": {}, "head": {"kind": "decoder"}, "flip": False},
        {"head": {"kind": "decoder"}},
        {"head": {"kind": "decoder"}, "flip": False, "crop_px": 20},
        {"head": {"kind": "esa-cyclegan"}, "crop_px": 56},
        {"head": {"kind": "mystery"}},
        {"losses": {}, "cycle": {}, "crop_px": 16},
    ],
)
def test_bad_settings_are_refused(change: dict[str, object]):
    with pytest.raises(ValidationError):
        TrainConfig.model_validate({"name": "x", "images": 10, "losses": {"charbonnier": 1}, **change})


def test_identity_leaves_out_where_it_runs():
    config = TrainConfig(name="x", images=10, losses=LossWeights(charbonnier=1))
    moved = config.model_copy(update={"device": "cuda", "checkpoint_every_seconds": 1.0, "cache_mebibytes": 0})
    assert moved.identity() == config.identity()
    assert config.model_copy(update={"seed": 1}).identity() != config.identity()


def test_precision_is_chosen_by_hardware(monkeypatch: pytest.MonkeyPatch):
    cpu = torch.device("cpu")
    assert resolved_precision("bfloat16", cpu) == "bfloat16"
    for native, expected in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda native=native: {"avx512_bf16": native})
        assert resolved_precision("auto", cpu) == expected
    assert resolved_precision("auto", torch.device("mps")) == "float32"


def test_later_settings_at_their_defaults_leave_the_identity_of_older_runs() -> None:
    identity = run_config("best-unet").identity()
    assert not {"starts_from", "teacher", "latent"} & set(identity)
    assert not {"transport", "spectrum"} & set(identity["losses"])
    finish = run_config("finish-unet").identity()
    assert finish["starts_from"] == "best-unet" and finish["losses"]["transport"] > 0 < finish["losses"]["spectrum"]
    latent = run_config("latent-unet").model_copy(update={"latent": LatentConfig()})
    older = {"l1": 1.0, "spectrum": 0.1, "contrast": 0.3, "adversarial": 0.15, "discriminator_channels": 64}
    assert latent.identity()["latent"] == older
    moved = latent.model_copy(update={"latent": LatentConfig(transport=1.0)})
    assert moved.identity()["latent"] == {**older, "transport": 1.0}


def test_finishing_runs_fit_the_heads_they_go_on_from() -> None:
    for name in ("finish-unet", "finish-decoder", "finish-latent-unet"):
        finish = run_config(name)
        assert finish.starts_from is not None
        assert finish.name == name and finish.head == run_config(finish.starts_from).head
