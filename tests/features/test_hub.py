from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, Dinov2Config, Dinov2Model

from topcoat.errors import ModelError
from topcoat.features import feature_net
from topcoat.features.pretrained import HubFeatureNet
from topcoat.metrics.evaluate import evaluate


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dinov2")
    config = Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=56, patch_size=14)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Dinov2Model(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        projection_dim=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        CLIPVisionModelWithProjection(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.rand(5, 3, 40, 48, generator=torch.Generator().manual_seed(1))


def test_dinov2_is_the_class_token_of_resized_normalised_images(dinov2: Path, pictures: Tensor) -> None:
    net = feature_net(f"dinov2:{dinov2}")
    features = net(pictures)
    pixels = functional.interpolate(pictures, size=(56, 56), mode="bicubic", antialias=True).clamp(0, 1)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    model = Dinov2Model.from_pretrained(dinov2).eval()
    with torch.no_grad():
        expected = model(pixel_values=(pixels - mean.view(3, 1, 1)) / deviation.view(3, 1, 1))
    torch.testing.assert_close(features.embedding, expected.last_hidden_state[:, 0])
    torch.testing.assert_close(features.identity.norm(dim=1), torch.ones(5))
    assert [tuple(stage.shape) for stage in features.stages] == [(5, 16, 4, 4)]
    first_patch = expected.last_hidden_state[:, 1]
    torch.testing.assert_close(features.stages[0][:, :, 0, 0], first_patch)


def test_clip_is_the_projected_embedding(clip: Path, pictures: Tensor) -> None:
    net = feature_net(f"clip:{clip}")
    features = net(pictures)
    assert features.embedding.shape == (5, 8) and features.stages[0].shape == (5, 16, 4, 4)
    pixels = functional.interpolate(pictures, size=(32, 32), mode="bicubic", antialias=True).clamp(0, 1)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    deviation = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    model = CLIPVisionModelWithProjection.from_pretrained(clip).eval()
    with torch.no_grad():
        expected = model(pixel_values=(pixels - mean) / deviation).image_embeds
    torch.testing.assert_close(features.embedding, expected)


def test_an_image_does_not_depend_on_its_batch(dinov2: Path, pictures: Tensor) -> None:
    net = HubFeatureNet.load("dinov2", str(dinov2))
    torch.testing.assert_close(net(pictures).embedding[3:4], net(pictures[3:4]).embedding, rtol=1e-4, atol=1e-5)


def test_the_digest_is_of_weights_and_preprocessing(dinov2: Path, clip: Path) -> None:
    one, again = (HubFeatureNet.load("dinov2", str(dinov2)) for _ in range(2))
    assert one.digest == again.digest != HubFeatureNet.load("clip", str(clip)).digest
    model = Dinov2Model.from_pretrained(dinov2)
    assert HubFeatureNet(model, "dinov2", 56).digest == one.digest != HubFeatureNet(model, "dinov2", 42).digest
    with torch.no_grad():
        next(model.parameters()).add_(1e-3)
    assert HubFeatureNet(model, "dinov2", 56).digest != one.digest


def test_an_evaluation_names_the_net(dinov2: Path, pictures: Tensor) -> None:
    name = f"dinov2:{dinov2}"
    found = evaluate(pictures, reference=pictures, features=name, metrics=["paired"])
    assert (found.features.net, found.features.dimensions) == (name, 16)
    assert found.value("frechet") == pytest.approx(0, abs=1e-6)
    assert found.value("perceptual") is not None


def test_weights_that_cannot_be_had(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"dinov2 weights cannot be loaded from .*it holds a clip_vision_model model"):
        HubFeatureNet.load("dinov2", str(clip))
    with pytest.raises(ModelError, match="clip weights cannot be loaded from"):
        HubFeatureNet.load("clip", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError) as error:
        HubFeatureNet.load("dinov2", "nobody/no-such-model")
    assert str(error.value).count("\n") == 0 and "--features embedded" in str(error.value)


def test_a_hub_id_or_folder_alone_is_read_by_its_config(dinov2: Path, clip: Path) -> None:
    for kind, folder in (("dinov2", dinov2), ("clip", clip)):
        assert feature_net(str(folder)).digest == feature_net(f"{kind}:{folder}").digest
