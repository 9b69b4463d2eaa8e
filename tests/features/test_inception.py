from __future__ import annotations

import importlib
import importlib.util
import types
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from topcoat.errors import ModelError
from topcoat.features import feature_net


class Extractor(nn.Module):
    """The interface of torch-fidelity's network: 8-bit images in, a tuple of features out."""

    def __init__(self, name: str, layers: list[str]) -> None:
        super().__init__()
        assert (name, layers) == ("inception-v3-compat", ["2048"])
        self.linear = nn.Linear(3, 7)
        nn.init.eye_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        assert images.dtype == torch.uint8
        return (self.linear(images.float().mean(dim=(2, 3))),)


@pytest.mark.skipif(importlib.util.find_spec("torch_fidelity") is not None, reason="torch-fidelity is installed here")
def test_without_the_package_one_sentence_says_what_to_do() -> None:
    with pytest.raises(
        ModelError, match=r"needs torch-fidelity, which is not installed; run pip install 'topcoat\[inc"
    ):
        feature_net("inception")


def test_it_is_shown_bytes_and_gives_its_pooled_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = Extractor
    monkeypatch.setattr(importlib, "import_module", lambda name: module)
    net = feature_net("inception")
    images = torch.rand(4, 3, 20, 30)
    found = net(images)
    torch.testing.assert_close(found.embedding[:, :3], (images * 255).round().mean(dim=(2, 3)))
    assert found.stages == () and len(net.digest) == 16


def test_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str, layers: list[str]) -> Any:
        raise OSError("no route to host")

    module: Any = types.ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = offline
    monkeypatch.setattr(importlib, "import_module", lambda name: module)
    with pytest.raises(ModelError, match="no route to host"):
        feature_net("inception")
