"""Face recognition nets: an ArcFace-like ONNX file, and image nets of transformers, each in a tiny folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torch.nn import functional

from topcoat.errors import ModelError
from topcoat.features import feature_net
from topcoat.features.face import ONNX_NAME

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")


def onnx_net(path: Path, batch: int | str = "N") -> Tensor:
    """Write a net that averages 4 x 4 areas and multiplies them; returns its weight ``(D, 48)``."""
    helper = onnx.helper
    weight = torch.randn(8, 48, generator=torch.Generator().manual_seed(0))
    nodes = [
        helper.make_node("AveragePool", ["x"], ["areas"], kernel_shape=[28, 28], strides=[28, 28]),
        helper.make_node("Flatten", ["areas"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["y"], transB=1),
    ]
    values = helper.make_tensor("w", onnx.TensorProto.FLOAT, weight.shape, weight.flatten().tolist())
    shapes = (("x", [batch, 3, 112, 112]), ("y", [batch, 8]))
    inputs, outputs = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes)
    graph = helper.make_graph(nodes, "arcface", [inputs], [outputs], [values])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return weight


def pictures(count: int = 3) -> Tensor:
    return torch.rand(count, 3, 150, 140, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("batch", ["N", 1])
def test_an_onnx_net_sees_the_whole_picture_from_minus_1_to_1(tmp_path: Path, batch: int | str) -> None:
    weight = onnx_net(tmp_path / ONNX_NAME, batch)
    (tmp_path / "detector.onnx").write_bytes(b"another file of the folder")
    seen = feature_net(f"face:{tmp_path}")(pictures())
    small = functional.interpolate(pictures(), size=(112, 112), mode="bicubic", antialias=True).clamp(0, 1)
    expected = functional.avg_pool2d(small * 2 - 1, 28).flatten(1) @ weight.T
    torch.testing.assert_close(seen.embedding, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(seen.identity, functional.normalize(expected, dim=1), rtol=1e-4, atol=1e-5)
    assert seen.stages == ()
    same = feature_net(str(tmp_path / ONNX_NAME))
    assert same.digest == feature_net(f"face:{tmp_path}").digest


def test_identity_may_have_a_net_of_its_own(tmp_path: Path) -> None:
    onnx_net(tmp_path / "own.onnx")
    both, own, face = (feature_net("embedded", f"face:{tmp_path}"), feature_net(), feature_net(f"face:{tmp_path}"))
    images = pictures()
    seen = both(images)
    assert torch.equal(seen.embedding, own(images).embedding) and torch.equal(seen.identity, face(images).identity)
    assert len({both.digest, own.digest, face.digest}) == 3


def test_what_is_no_such_net_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"0 ONNX files and no config\.json"):
        feature_net(f"face:{tmp_path}")
    with pytest.raises(ModelError, match="there is no file"):
        feature_net("face:./nowhere.onnx")
    (tmp_path / "one.onnx").write_bytes(b"noise")
    with pytest.raises(ModelError, match="is no ONNX network"):
        feature_net(f"face:{tmp_path}")


TINY: dict[str, tuple[Any, Any]] = {
    "vit": (
        transformers.ViTConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=32,
            patch_size=8,
        ),
        transformers.ViTForImageClassification,
    ),
    "convnext": (
        transformers.ConvNextConfig(hidden_sizes=[4, 8], depths=[1, 1], num_stages=2, patch_size=4),
        transformers.ConvNextForImageClassification,
    ),
    "resnet": (
        transformers.ResNetConfig(embedding_size=4, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"),
        transformers.ResNetForImageClassification,
    ),
}


@pytest.mark.parametrize("kind", TINY)
def test_a_classifier_of_transformers_is_a_face_net(kind: str, tmp_path: Path) -> None:
    config, model_class = TINY[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = model_class(config).eval()
    model.save_pretrained(tmp_path)
    preparation = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "size": {"height": 32, "width": 32}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(preparation))
    seen = feature_net(f"face:{tmp_path}")(pictures())
    small = functional.interpolate(pictures(), size=(32, 32), mode="bicubic", antialias=True).clamp(0, 1)
    with torch.no_grad():
        inner: Any = getattr(model, model.base_model_prefix)
        output = inner(pixel_values=(small - 0.5) / 0.25)
    last = output.last_hidden_state
    expected = last[:, 0] if kind == "vit" else output.pooler_output.flatten(1)
    torch.testing.assert_close(seen.embedding, expected, rtol=1e-4, atol=1e-5)
    assert seen.stages[0].ndim == 4 and seen.stages[0].shape[0] == 3
    torch.testing.assert_close(feature_net(str(tmp_path))(pictures()).identity, seen.identity)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        feature_net(f"face:{tmp_path}")


def test_a_net_that_reads_no_images_is_refused(tmp_path: Path) -> None:
    config = transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
                                     vocab_size=10, max_position_embeddings=8)  # fmt: skip
    transformers.BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="reads no images"):
        feature_net(str(tmp_path))
