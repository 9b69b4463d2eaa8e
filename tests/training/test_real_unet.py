"""The run for real models: how far its head sees, that a crop gets what the whole picture gets, and that it trains."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.fake_pairs import FakeDataset
from tests.training.conftest import make_pair
from topcoat.features import FeatureNet
from topcoat.heads import Head, UNetConfig
from topcoat.training import PairedObjective, TrainConfig, train, with_settings
from topcoat.training.runs import real_unet


def seen_px(config: UNetConfig, size_px: int) -> int:
    """The side of the square of the input that one pixel in the middle of the output depends on, by its gradient."""
    network = config.build().double()
    for parameter in network.parameters():  # all positive: nothing cancels, and no ReLU is shut
        torch.nn.init.uniform_(parameter, 0.01, 0.02) if parameter.ndim > 1 else torch.nn.init.constant_(parameter, 0.5)
    images = torch.full((1, 3, size_px, size_px), 0.6, dtype=torch.float64, requires_grad=True)
    network(images)[0, :, size_px // 2, size_px // 2].sum().backward()
    assert images.grad is not None
    reached = images.grad.abs().sum((0, 1)) > 0
    rows, columns = (reached.any(axis).nonzero()[:, 0] for axis in (1, 0))
    assert len(rows) == int(rows[-1] - rows[0]) + 1  # without a gap
    assert int(rows[0]) > 0 and int(columns[0]) > 0  # not cut off by the border
    return min(len(rows), len(columns))


def narrow(config: UNetConfig) -> UNetConfig:
    """The same scales, blocks and window with two channels each."""
    return config.model_copy(update={"channels": (2,) * config.depth})


def head_config() -> UNetConfig:
    config = real_unet().last.head
    assert isinstance(config, UNetConfig)
    return config


def test_its_head_sees_more_than_512_px() -> None:
    config = narrow(head_config()).model_copy(update={"cbam": False})  # by its convolutions alone
    assert seen_px(config, 1024) == 756
    usual = UNetConfig(channels=(2, 2, 2, 2), cbam=False)
    assert seen_px(usual, 512) == 188


def test_its_crops_are_no_smaller_than_its_windows() -> None:
    crops, whole = real_unet().stages
    assert crops.crop_px == 384 and whole.crop_px is None
    assert crops.head == whole.head and head_config().attention_window_px == crops.crop_px
    assert crops.precision == whole.precision == "bfloat16" and crops.compile and whole.compile


@torch.no_grad()
def test_a_crop_is_treated_as_the_whole_picture() -> None:
    """The middle of a crop with the halo around it, cut out and inside; with global pooling they differ far more."""
    torch.manual_seed(0)
    config = UNetConfig(channels=(8, 8, 8), attention_window_px=64)
    images = torch.rand(1, 3, 384, 384)
    images[..., 300:] *= 0.2  # another distribution far from the crop
    change = {}
    for window in (64, 65_536):
        head = awake(config.model_copy(update={"attention_window_px": window}))
        whole = head.network(images)[..., 96:128, 96:128]
        crop = head.network(images[..., :224, :224])[..., 96:128, 96:128]
        change[window] = float((whole - crop).square().mean().sqrt() / whole.square().mean().sqrt())
    assert change[64] < 1e-5 < 100 * change[64] < change[65_536]


def awake(config: UNetConfig) -> Head:
    torch.manual_seed(3)
    network = config.build()
    for parameter in network.parameters():
        parameter.data.add_(torch.randn(parameter.shape) * 0.03)
    return Head(network, config)


def test_it_trains_compiled(features: FeatureNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Narrow and small, with every setting else: micro-batches, shared decodes, both stages, and a resume."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))  # traced, without a C++ compiler
    changes = (
        "head.channels=[4, 4]", "head.blocks_per_stage=1", "head.attention_window_px=32", "crops.crop_px=32",
        "objective.perceptual_net=embedded", "objective.discriminator.base_channels=4",
        "objective.discriminator.scales=1",
        "device=cpu", "crops.images=32", "whole.images=16", "warmup_images=8", "batch_size=8",
        "adversarial_after_images=8", "validation_images=2", "tensorboard=false", "wandb='off'",
    )  # fmt: skip
    run = with_settings(real_unet(), changes)
    data = FakeDataset([make_pair(seed, 64, 64) for seed in range(8)], [make_pair(seed, 64, 64) for seed in (50, 51)])
    compiled: list[Tensor] = []
    original = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: (compiled.append(self), original(self))[1])
    stopped = train(run, data, tmp_path / "run", features=features)
    records = [next(stopped), next(stopped)]
    stopped.close()
    records += train(run, data, tmp_path / "run", features=features)
    assert [record.stage for record in records] == ["crops"] * 4 + ["whole"] * 2
    assert not any(record.skipped_steps for record in records) and len(compiled) == 3
    head = Head.from_pretrained(tmp_path / "run")
    assert head.config == run.last.head
    image = data[0].distilled[None]
    assert float((head(image) - image).abs().max()) > 0


def test_compiling_changes_neither_run_nor_files(features: FeatureNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    config = TrainConfig(
        name="x", head=UNetConfig(channels=(4, 8)), objective=PairedObjective(charbonnier=1.0), images=8, batch_size=4,
        crop_px=16, device="cpu", precision="float32", tensorboard=False, wandb="off",
    )  # fmt: skip
    data = FakeDataset([make_pair(seed) for seed in range(4)])
    for name, compile in (("plain", False), ("compiled", True)):
        one = config.model_copy(update={"compile": compile})
        assert one.identity() == config.identity()
        list(train(one, data, tmp_path / name, features=features))
    plain, compiled = (Head.from_pretrained(tmp_path / name) for name in ("plain", "compiled"))
    assert list(plain.network.state_dict()) == list(compiled.network.state_dict())
    for one, other in zip(plain.network.parameters(), compiled.network.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
