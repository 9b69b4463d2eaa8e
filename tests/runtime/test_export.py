"""Exported heads of every kind: what is written, what is checked before, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.heads.vaes import TINY_VAE
from tests.oracles.inputs import dulled, portraits
from topcoat.errors import ModelError, UsageError
from topcoat.heads import CycleGANConfig, Head, NAFNetConfig, UNetConfig
from topcoat.heads.kinds import parse_head_config
from topcoat.heads.network import HeadConfig, LatentHeadConfig
from topcoat.runtime import export
from topcoat.runtime.export import export_head
from topcoat.runtime.onnx_session import OnnxSession
from topcoat.runtime.opening import open_runtime


class Pairs:
    """Pairs in memory, as `PairDataset` gives them."""

    def __init__(self, count: int) -> None:
        baseline = portraits(count, seed=3, size_px=48)
        self._images = {"distilled": dulled(baseline), "baseline": baseline}

    def __len__(self) -> int:
        return len(self._images["baseline"])

    def image(self, index: int, side: str) -> Tensor:
        return self._images[side][index]


@pytest.fixture(autouse=True)
def real_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of the mini pair, whose loading takes its time."""

    def chosen(record: Any, pairs: Any) -> Tensor:
        return portraits(2, seed=9, size_px=128) if record.channels == 3 else torch.randn(2, record.channels, 16, 16)

    monkeypatch.setattr(export, "_real_inputs", chosen)


def head_of(config: HeadConfig, amount: float = 0.02) -> Head:
    torch.manual_seed(4)
    network = config.build()
    for parameter in network.parameters():
        parameter.data.add_(torch.randn(parameter.shape) * amount)
    return Head(network, config)


def test_a_file_runs_as_the_head_does_and_says_what_it_is(tmp_path: Path) -> None:
    head = head_of(UNetConfig(channels=(4, 8)))
    made = export_head(head, tmp_path / "new" / "head.onnx", name="mine")
    assert len(made.differences) == 6 and max(made.differences.values()) < 1e-5
    runtime = open_runtime(made.path, tile_px=128, threads=1)
    assert runtime.record == made.record
    assert (made.record.name, made.record.digest, made.record.precision) == ("mine", head.digest, "float32")
    assert made.record.halo_px == 192 and made.record.largest_tile_difference is not None
    images = torch.rand(1, 3, 150, 530)
    np.testing.assert_allclose(runtime(images.numpy(), 0.5), head(images, 0.5).numpy(), rtol=0, atol=1e-3)
    assert [path.name for path in made.path.parent.iterdir()] == ["head.onnx"]
    text = made.path.read_bytes()
    assert b"site-packages" not in text and str(Path(__file__).parents[2]).encode() not in text


@pytest.mark.slow
def test_half_precision_is_half_as_large_and_nearly_the_same(tmp_path: Path) -> None:
    head = head_of(UNetConfig(channels=(8, 16), cbam=False))
    plain, half = (
        export_head(head, tmp_path / f"{precision}.onnx", name="h", precision=precision)
        for precision in ("float32", "float16")
    )
    assert half.record.precision == "float16"
    assert 1e-6 < max(half.differences.values()) < 1 / 255
    assert half.path.stat().st_size < plain.path.stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nafnet", "cyclegan", "esa-cyclegan", "decoder", "latent-unet", "refiner"])
def test_every_kind_can_be_exported(kind: str, tmp_path: Path) -> None:
    latent = {"vae": TINY_VAE, "latent_channels": 4, "vae_scale": 2, "channels": (8, 8)}
    settings: dict[str, dict[str, Any]] = {
        "nafnet": {"width": 8, "encoder": (1, 1), "decoder": (1, 1), "middle": 1},
        "cyclegan": {"base_channels": 8, "blocks": 2},
        "esa-cyclegan": {"base_channels": 8, "blocks": 2},
        "latent-unet": latent,
        "refiner": {"latent": latent, "painter": {"kind": "unet", "channels": (4, 8)}},
    }
    config = parse_head_config({"kind": kind, **settings.get(kind, {})}, source="the test")
    made = export_head(head_of(config), tmp_path / "head.onnx", name=kind)
    assert max(made.differences.values()) <= 1e-4
    assert (made.record.halo_px is not None) == isinstance(config, NAFNetConfig)
    assert made.record.input == ("latent" if isinstance(config, LatentHeadConfig) else "image")
    assert made.record.size_multiple * made.record.scale % math.gcd(config.size_multiple, 8) == 0


def test_a_file_that_differs_from_torch_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = OnnxSession.run
    monkeypatch.setattr(OnnxSession, "run", lambda *given: run(*given) + np.float32(2e-4))
    with pytest.raises(ModelError, match=r"differs from torch by 0\.0002.*nothing was written"):
        export_head(head_of(UNetConfig(channels=(4,))), tmp_path / "head.onnx", name="h")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_head_whose_tiles_show_is_not_tiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UNetConfig, "halo_px", 16)  # too little for this network
    made = export_head(head_of(UNetConfig(channels=(8, 8)), 0.1), tmp_path / "head.onnx", name="h")
    assert made.record.largest_tile_difference is not None and made.record.largest_tile_difference > 1 / 255
    assert made.record.halo_px is None
    with pytest.raises(UsageError, match="cannot work in tiles"):
        open_runtime(made.path, tile_px=256)


@pytest.mark.slow
def test_int8_is_calibrated_and_its_loss_measured(tmp_path: Path) -> None:
    pairs: Any = Pairs(40)
    made = export_head(Head.default(), tmp_path / "head.onnx", name="h", precision="int8", pairs=pairs)
    assert made.loss is not None and made.loss.pairs == 20
    assert 0 < made.loss.rms_to_float32 < 1 / 255
    assert made.record.precision == "int8" and open_runtime(made.path).record == made.record
    assert (
        made.path.stat().st_size
        < 0.5 * (Path(export.__file__).parents[1] / "assets/mini/head/head.onnx").stat().st_size
    )


@pytest.mark.slow
def test_int8_that_loses_too_much_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("topcoat.runtime.quantise.CHANGE_LIMIT", 1e-9)
    pairs: Any = Pairs(32)
    head = head_of(UNetConfig(channels=(4,), cbam=False))
    with pytest.raises(ModelError, match=r"on 16 pairs int8 differs from float32 by rms .* nothing was written"):
        export_head(head, tmp_path / "head.onnx", name="h", precision="int8", pairs=pairs)
    assert list(tmp_path.iterdir()) == []
    few: Any = Pairs(10)
    with pytest.raises(UsageError, match="cannot be calibrated on 10 pairs"):
        export_head(head, tmp_path / "head.onnx", name="h", precision="int8", pairs=few)


def test_a_generator_of_another_kind_pools_over_the_whole_picture() -> None:
    assert CycleGANConfig().halo_px is None
