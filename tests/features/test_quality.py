"""CLIP-IQA on a tiny random CLIP: that it asks what it says, and what it says where there are no weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.tiny_parts import tiny_tokenizer
from topcoat.errors import ModelError, UsageError
from topcoat.features import FeatureNet, quality_net
from topcoat.features.pretrained import prepared
from topcoat.features.quality import QUALITY_PROMPTS, ClipQuality
from topcoat.metrics.evaluate import evaluate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of random weights in the layout of a download."""
    path = tmp_path_factory.mktemp("clip")
    tiny_tokenizer(8, ("Good", "Bad", "photo", ".")).save_pretrained(path)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {
        **small,
        "vocab_size": 8,
        "max_position_embeddings": 8,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "pad_token_id": 0,
    }
    config = transformers.CLIPConfig(
        text_config=text, vision_config={**small, "image_size": 16, "patch_size": 8}, projection_dim=8
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.CLIPModel(config).save_pretrained(path)
    return path


def pictures(count: int = 3) -> Tensor:
    return torch.rand(count, 3, 24, 20, generator=torch.Generator().manual_seed(1))


def test_it_is_the_softmax_over_both_prompts(folder: Path) -> None:
    net = quality_net(f"clip:{folder}")
    images = pictures()
    found = net(images)
    assert found.shape == (3,) and bool(((found > 0) & (found < 1)).all())
    torch.testing.assert_close(net(images[1:2]), found[1:2])  # a neighbour changes nothing
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(list(QUALITY_PROMPTS), return_tensors="pt")["input_ids"]
    with torch.no_grad():
        output = model(input_ids=tokens, pixel_values=prepared(images, "clip", 16))
        good, bad = (output.image_embeds @ output.text_embeds.T * model.logit_scale.exp()).unbind(1)
    torch.testing.assert_close(found, torch.sigmoid(good - bad), rtol=1e-4, atol=1e-5)


def test_an_evaluation_has_it_for_every_set(folder: Path, tmp_path: Path) -> None:
    images, calls = pictures(12).repeat(1, 1, 2, 2), list[int]()

    class Counted(ClipQuality):
        def __call__(self, images: Tensor, prompts: Sequence[str] = ()) -> Tensor:
            calls.append(len(images))
            return super().__call__(images, prompts)

    quality = Counted.load(str(folder))
    quality.digest = "counted"
    options: dict[str, Any] = {"reference": images.flip(0), "distilled": images, "metrics": [], "cache": tmp_path}
    found = evaluate(images, features=FeatureNet.tiny(0), quality=quality, **options)
    assert found.value("quality") == pytest.approx(found.value("quality", "reference"))
    rows = [row for row in found.as_dict()["scores"] if row["metric"] == "quality"]
    assert {row["arm"] for row in rows} == {"enhanced", "distilled", "reference"}
    assert {(row["net"], row["digest"]) for row in rows} == {("quality", "counted")}
    assert "Quality of each image by itself" in found.markdown()
    seen = len(calls)
    evaluate(images, features=FeatureNet.tiny(0), quality=quality, **options)
    assert len(calls) == seen  # the second run has it from the cache
    assert evaluate(images, features=FeatureNet.tiny(0), reference=images, metrics=[]).value("quality") is None


def test_what_cannot_be_had_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="use some of: clip, aesthetic, hpsv2, pickscore, imagereward, each with a colon"
    ):
        quality_net("niqe")
    with pytest.raises(ModelError, match=r"there is no folder \./nowhere"):
        quality_net("clip:./nowhere")
    with pytest.raises(ModelError, match="cannot be loaded"):
        quality_net(f"clip:{tmp_path}")


def test_a_preference_is_the_cosine_of_image_and_prompt(folder: Path) -> None:
    images, prompts = pictures(), ["Good photo", "Bad", "photo ."]
    found = quality_net(f"hpsv2:{folder}")(images, prompts)
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for row, prompt in enumerate(prompts):
        words = tokenizer([prompt], padding="max_length", max_length=8, truncation=True, return_tensors="pt")
        with torch.no_grad():
            output = model(input_ids=words["input_ids"], pixel_values=prepared(images[row : row + 1], "clip", 16))
        cosine = torch.nn.functional.cosine_similarity(output.image_embeds, output.text_embeds)
        torch.testing.assert_close(found[row : row + 1], 100 * cosine, rtol=1e-4, atol=1e-4)


def test_the_aesthetic_head_is_linear_on_the_unit_embedding(folder: Path, tmp_path: Path) -> None:
    vision: Any = transformers.CLIPConfig.from_pretrained(folder).vision_config
    vision.projection_dim = 8
    clip = transformers.CLIPVisionModelWithProjection(vision).eval()
    clip.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "aesthetics_predictor"}))
    generator = torch.Generator().manual_seed(3)
    first, bias, last = (torch.randn(shape, generator=generator) for shape in ((4, 8), (4,), (1, 4)))
    weights = load_file(tmp_path / "model.safetensors")
    layers = {
        "layers.0.weight": first,
        "layers.0.bias": bias,
        "layers.10.weight": last,
        "layers.10.bias": bias[:1] + 0,
    }
    save_file({**weights, **layers}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    found = quality_net(f"aesthetic:{tmp_path}")(pictures())
    with torch.no_grad():
        embedding = clip(pixel_values=prepared(pictures(), "clip", 16)).image_embeds
    unit = embedding / embedding.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found, ((unit @ first.T + bias) @ last.T + bias[:1]).squeeze(1), rtol=1e-4, atol=1e-5)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lacks the layers that make a rating"):
        quality_net(f"aesthetic:{tmp_path}")


def test_image_reward_reads_the_authors_names(folder: Path, tmp_path: Path) -> None:
    small: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 1,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        eyes = transformers.BlipVisionModel(
            transformers.BlipVisionConfig(**small, image_size=32, patch_size=16, layer_norm_eps=1e-6)
        ).eval()
        text = transformers.BlipTextConfig(
            **small, vocab_size=8, encoder_hidden_size=64, max_position_embeddings=40, bos_token_id=2, eos_token_id=3,
            sep_token_id=3, pad_token_id=0,
        )  # fmt: skip
        reader = transformers.BlipTextModel(text, add_pooling_layer=False).eval()
        layers = torch.nn.Sequential(torch.nn.Linear(64, 4), torch.nn.Linear(4, 1))
    names = [  # of transformers, and of the authors' checkpoint
        ("embeddings.class_embedding", "cls_token"), ("embeddings.position_embedding", "pos_embed"),
        ("embeddings.patch_embedding", "patch_embed.proj"), ("encoder.layers", "blocks"), ("layer_norm", "norm"),
        ("self_attn.qkv", "attn.qkv"), ("self_attn.projection", "attn.proj"), ("post_layernorm", "norm"),
    ]  # fmt: skip
    weights: dict[str, Tensor] = {}
    for name, value in eyes.state_dict().items():
        for ours, theirs in names:
            name = name.replace(ours, theirs)
        weights[f"blip.visual_encoder.{name}"] = value
    assert "blip.visual_encoder.blocks.1.norm2.weight" in weights and "blip.visual_encoder.norm.bias" in weights
    weights |= {f"blip.text_encoder.{name}": value for name, value in reader.state_dict().items()}
    weights |= {
        "blip.text_encoder.embeddings.position_ids": torch.arange(40)[None],
        "blip.vision_proj.bias": torch.ones(3),
    }
    weights |= {
        f"mlp.layers.{number}.{name}": value
        for number, layer in ((0, layers[0]), (7, layers[1]))
        for name, value in layer.state_dict().items()
    }
    save_file(weights, tmp_path / "model.safetensors")
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    prompts = ["Good photo", "Bad", "photo ."]
    found = quality_net(f"imagereward:{tmp_path}")(pictures(), prompts)
    words = transformers.AutoTokenizer.from_pretrained(folder)(
        prompts, padding="max_length", max_length=35, truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        seen = eyes(pixel_values=prepared(pictures(), "clip", 32)).last_hidden_state
        read = reader(
            input_ids=words["input_ids"],
            attention_mask=words["attention_mask"],
            encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(seen.shape[:2]),
        ).last_hidden_state[:, 0]
        rewards = (layers(read).squeeze(1) - 0.16717362830052426) / 1.0333394966054072
    torch.testing.assert_close(found, rewards, rtol=1e-4, atol=1e-5)
    del weights["blip.visual_encoder.norm.bias"]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="cannot be loaded"):
        quality_net(f"imagereward:{tmp_path}")


def test_an_evaluation_gives_each_image_its_own_prompt(folder: Path, tmp_path: Path) -> None:
    images, prompts = pictures(6).repeat(1, 1, 2, 2), ["Good photo", "Bad", "photo .", "Good", "Bad photo", "."]
    options: dict[str, Any] = {"metrics": [], "cache": tmp_path, "batch_size": 4, "features": FeatureNet.tiny(0)}
    names = [f"hpsv2:{folder}", f"clip:{folder}"]
    found = evaluate(images, reference=images.flip(0), quality=names, prompts=prompts, **options)
    net = quality_net(names[0])
    assert found.value("hpsv2") == pytest.approx(float(net(images, prompts).mean()))
    assert found.value("hpsv2", "reference") == pytest.approx(float(net(images.flip(0), prompts).mean()))
    again = evaluate(images, reference=images.flip(0), quality=names, prompts=prompts, **options)
    assert [one.value for one in again.scores] == pytest.approx([one.value for one in found.scores])
    assert found.value("quality") is not None and set(found.settings["quality_digests"]) == {"hpsv2", "quality"}
    with pytest.raises(UsageError, match="hpsv2 rates images with their prompts"):
        evaluate(images, reference=images, quality=names[0], **options)
