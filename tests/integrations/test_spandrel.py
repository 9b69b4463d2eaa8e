"""spandrel loads our files and gives what our heads give; it is no dev package, since it brings torchvision."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from topcoat.embedded import MINI
from topcoat.heads import Head
from topcoat.heads.nafnet import NAFNetConfig
from topcoat.heads.single_file import write_single_file
from topcoat.heads.unet import UNet, UNetConfig

spandrel = pytest.importorskip("spandrel", reason="spandrel (extra spandrel) is not installed: it brings torchvision")

IMAGES = torch.rand(1, 3, 77, 130, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def loader() -> Iterator[Any]:
    from topcoat.integrations.spandrel import ARCHITECTURE, register

    registry = spandrel.MAIN_REGISTRY.copy()
    register(registry)
    register(registry)  # twice is once
    assert ARCHITECTURE in registry and ARCHITECTURE not in spandrel.MAIN_REGISTRY
    yield spandrel.ModelLoader(registry=registry)


def test_a_heads_own_file_gives_what_the_head_gives(loader: Any) -> None:
    with pytest.warns(UserWarning, match="does not say over which window the head's attention pools"):
        model = loader.load_from_file(MINI / "head" / "model.safetensors")
    assert model.architecture.id == "topcoat" and model.tags == ["unet"] and model.scale == 1
    for size in ((77, 130), (1, 1), (16, 200)):
        images = IMAGES[..., : size[0], : size[1]]
        assert torch.equal(model(images), Head.default()(images))


@pytest.mark.parametrize("window_px", [32, 128])
def test_an_exported_file_says_its_window(loader: Any, tmp_path: Path, window_px: int) -> None:
    config = UNetConfig(channels=(16, 24, 32), attention_window_px=window_px)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet(config)
        torch.nn.init.normal_(network.out.weight, std=0.05)
    head = Head(network, config)
    write_single_file(head, tmp_path / "head.safetensors")
    images = torch.rand(1, 3, 300, 310, generator=torch.Generator().manual_seed(1))
    model = loader.load_from_file(tmp_path / "head.safetensors")
    assert torch.equal(model(images), head(images))
    assert not torch.equal(head(images), images)


def test_other_kinds_and_other_models(loader: Any, tmp_path: Path) -> None:
    config = NAFNetConfig()
    head = Head(config.build(), config)
    write_single_file(head, tmp_path / "nafnet.safetensors")
    model = loader.load_from_file(tmp_path / "nafnet.safetensors")
    assert model.tags == ["nafnet"] and torch.equal(model(IMAGES), head(IMAGES))
    for support in spandrel.MAIN_REGISTRY:
        assert not support.detect(UNet(UNetConfig()).state_dict()), support.architecture.id
