"""CLIP-IQA on a tiny random CLIP: that it asks what it says, and what it says where there are no weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers
from torch import Tensor

from topcoat.errors import ModelError, UsageError
from topcoat.features import FeatureNet, quality_net
from topcoat.features.pretrained import QUALITY_PROMPTS, ClipQuality, prepared
from topcoat.metrics.evaluate import evaluate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of random weights in the layout of a download."""
    path = tmp_path_factory.mktemp("clip")
    vocabulary = {
        word: number for number, word in enumerate(("<pad>", "<unk>", "<s>", "</s>", "Good", "Bad", "photo", "."))
    }
    core = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    core.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", unk_token="<unk>")
    tokenizer.save_pretrained(path)
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
        def __call__(self, images: Tensor) -> Tensor:
            calls.append(len(images))
            return super().__call__(images)

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
    with pytest.raises(UsageError, match="use clip, or clip: and a folder"):
        quality_net("niqe")
    with pytest.raises(ModelError, match=r"there is no folder \./nowhere"):
        quality_net("clip:./nowhere")
    with pytest.raises(ModelError, match="cannot be loaded"):
        quality_net(f"clip:{tmp_path}")
