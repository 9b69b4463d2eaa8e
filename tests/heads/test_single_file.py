"""A head as one file: settings and weights come back, and a U-Net is known by its weights alone."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from topcoat.cli.app import app
from topcoat.errors import DataError, UsageError
from topcoat.heads import Head
from topcoat.heads.single_file import SETTINGS_KEY, is_head, settings_and_weights, write_single_file
from topcoat.heads.unet import UNet, UNetConfig

SHAPES = (
    UNetConfig(),
    UNetConfig(channels=(8,), unshuffle=1, cbam=False, blocks_per_stage=2),
    UNetConfig(channels=(8, 12, 16), unshuffle=4, upsampling="resize", blocks_per_stage=3),
)


@pytest.mark.parametrize("config", [*SHAPES, UNetConfig(channels=(8, 16), attention_window_px=32)])
def test_settings_and_weights_come_back(config: UNetConfig, tmp_path: Path) -> None:
    head = Head(UNet(config), config)
    write_single_file(head, tmp_path / "head.safetensors")
    state = load_file(tmp_path / "head.safetensors")
    read, complete, weights = settings_and_weights(state)
    assert is_head(state) and complete and read == config and SETTINGS_KEY not in weights
    network = read.build()
    network.load_state_dict(weights)
    assert Head(network, read).digest == head.digest


@pytest.mark.parametrize("config", SHAPES)
def test_a_unet_is_known_by_its_weights(config: UNetConfig, tmp_path: Path) -> None:
    Head(UNet(config), config).save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    assert is_head(state)
    assert settings_and_weights(state)[:2] == (config, not config.cbam)


def test_other_weights_are_none_of_a_head() -> None:
    state = UNet(SHAPES[1]).state_dict()
    assert not is_head({name: value for name, value in state.items() if name != "middle.0.first.weight"})
    assert not is_head(state | {"stem.weight": torch.zeros(8, 4, 3, 3), "out.weight": torch.zeros(4, 8, 3, 3)})
    with pytest.raises(
        DataError, match=r"the head's settings cannot be read \(.*\); export it again with this topcoat"
    ):
        settings_and_weights(state | {SETTINGS_KEY: torch.tensor([123, 1], dtype=torch.uint8)})
    with pytest.raises(DataError, match="there is no kind of head named 'new'"):
        text = torch.frombuffer(bytearray(b'{"kind": "new"}'), dtype=torch.uint8)
        settings_and_weights(state | {SETTINGS_KEY: text})
    with pytest.raises(UsageError, match="this one decodes latents"):
        write_single_file(Head.load("embedded-decoder"), "head.safetensors")


def test_export_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    done = CliRunner().invoke(app, ["export", "embedded", "-o", str(path)])
    assert done.exit_code == 0 and "head.safetensors: unet, float32" in done.output
    config, _, weights = settings_and_weights(load_file(path))
    network = config.build()
    network.load_state_dict(weights)
    assert Head(network, config).digest == Head.default().digest
    done = CliRunner().invoke(app, ["export", "embedded", "-o", str(path), "--fp16"])
    assert done.exit_code == 2 and "--fp16 and --int8 are for ONNX files" in done.output


def test_spandrel_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    monkeypatch.delitem(sys.modules, "topcoat.integrations.spandrel", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'topcoat\[spandrel\]'"):
        importlib.import_module("topcoat.integrations.spandrel")
