"""Discriminator, moving average, schedules, settings and named runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from topcoat.errors import UsageError
from topcoat.heads import UNetConfig
from topcoat.training import RUNS, LossWeights, TrainConfig, best_unet, debug, paper_unet, run_config
from topcoat.training.discriminator import DiscriminatorConfig, PatchDiscriminator
from topcoat.training.ema import Ema, ema_decay
from topcoat.training.paired import resolved_precision
from topcoat.training.schedule import adversarial_factor, learning_rate_factor


def test_discriminator_scores_patches():
    network = PatchDiscriminator(DiscriminatorConfig())
    scores = network(torch.rand(2, 3, 96, 96))
    assert scores.shape == (2, 1, 11, 11)
    assert 0.1e6 < sum(weight.numel() for weight in network.parameters()) < 0.2e6
    image = torch.rand(1, 3, 96, 96, requires_grad=True)
    network(image)[0, 0, 5, 5].backward()
    assert image.grad is not None
    assert int((image.grad.abs().sum((0, 1, 3)) > 0).sum()) == 46  # the patch that its text promises


def test_discriminator_is_spectrally_normalised():
    torch.manual_seed(0)
    network = PatchDiscriminator(DiscriminatorConfig(base_channels=8, layers=2))
    for _ in range(60):
        network(torch.rand(1, 3, 32, 32))
    for layer in network.layers:
        if isinstance(layer, nn.Conv2d):
            largest = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), ord=2)
            assert float(largest) == pytest.approx(1, abs=0.02)


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
    assert {RUNS[name]().name for name in RUNS} == {"best-unet", "paper-unet", "debug"}
    assert all(weight > 0 for weight in debug().losses.named().values())
    assert run_config(debug()) is not None
    with pytest.raises(UsageError, match="best-unet"):
        run_config("worst-unet")


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
        {"precision": "float16"},
        {"unknown": 1},
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
