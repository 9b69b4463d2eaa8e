"""The recipe's training loop: its rates, and a stop and a rerun that end where an uninterrupted run ends."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from recipes.mini import weights
from recipes.mini.flow import Condition, build_transformer, velocity
from recipes.mini.recipe import Recipe, WorkFolder
from recipes.mini.trainer import Plan, Trainee, train_transformer
from topcoat.files import read_json

TINY = Recipe(size_px=32, heads=1, head_dim=16, double_blocks=1, single_blocks=1, text_width=16, text_layers=1)
PLAN = Plan(
    stage="tiny", last=32, batch_size=4, peak_share=0.5, warm_up=8, decay_share=0.5, ema_halflife=8, snapshot_at=10
)


def _train(folder: Path, plan: Plan, stop_at: int | None = None) -> dict[str, Any]:
    torch.manual_seed(1)
    transformer = build_transformer(TINY)

    def batch_at(seen: int) -> Tensor:
        if seen == stop_at:
            raise KeyboardInterrupt
        return torch.randn(4, 4, 64, generator=torch.Generator().manual_seed(seen))

    def loss_of(tokens: Tensor) -> tuple[Tensor, Tensor]:
        condition = Condition(torch.ones(4, 16), torch.ones(4, 3, 16))
        loss = F.mse_loss(velocity(transformer, tokens, torch.full((4,), 0.5), condition), tokens)
        return loss, loss.detach()

    return train_transformer(plan, Trainee(transformer, folder), batch_at, loss_of)


def test_the_rate_warms_up_holds_and_falls_to_zero() -> None:
    assert PLAN.rate(0) == pytest.approx(0.5 / 8)
    assert PLAN.rate(10) == 0.5
    assert PLAN.rate(24) == pytest.approx(0.25)
    assert PLAN.rate(32) == 0


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _train(tmp_path / "whole", PLAN)
    monkeypatch.setattr("recipes.mini.trainer.CHECKPOINT_SECONDS", 0)
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path / "parts", PLAN, stop_at=16)
    figures = _train(tmp_path / "parts", PLAN)
    assert figures == whole
    for part in ("transformer", "snapshot"):
        name = f"{part}/diffusion_pytorch_model.safetensors"
        one, other = load_file(tmp_path / "whole" / name), load_file(tmp_path / "parts" / name)
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_snapshot_is_of_the_run_so_far(tmp_path: Path) -> None:
    _train(tmp_path / "whole", PLAN)
    early = load_file(tmp_path / "whole/snapshot/diffusion_pytorch_model.safetensors")
    late = load_file(tmp_path / "whole/transformer/diffusion_pytorch_model.safetensors")
    assert any(not torch.equal(early[key], late[key]) for key in late)


def test_a_finished_run_can_be_lengthened(tmp_path: Path) -> None:
    _train(tmp_path, PLAN)
    assert _train(tmp_path, dataclasses.replace(PLAN, last=40))["images_seen"] == 40


def test_kept_weights_go_on_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "KEPT", tmp_path / "kept")
    first, second = WorkFolder(tmp_path / "first"), WorkFolder(tmp_path / "second")
    _train(first.baseline, dataclasses.replace(PLAN, last=16))
    weights.keep(TINY, first)
    assert sorted(path.name for path in (tmp_path / "kept" / "baseline").iterdir()) == ["figures.json", "transformer"]
    weights.restore(second)
    assert weights.restored(second.baseline)
    with pytest.raises(KeyboardInterrupt):
        _train(second.baseline, PLAN, stop_at=16)
    figures = _train(second.baseline, PLAN)
    assert figures["images_seen"] == 32 and not weights.restored(second.baseline)
    weights.restore(second)  # leaves what is there
    assert read_json(second.baseline / "figures.json") == figures
