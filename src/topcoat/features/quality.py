"""Nets that rate single images without a reference: what ``--quality`` takes.

All are read from safetensors in the formats of the Hugging Face hub. HPSv2, PickScore and ImageReward rate how well an
image suits its prompt, too; the others see the image alone.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from topcoat import hub
from topcoat.errors import UsageError
from topcoat.features.net import weights_digest
from topcoat.features.pretrained import (
    PREPROCESSING,
    complete_model,
    load_model,
    loading,
    prepared,
    side_of,
)

QUALITY_PROMPTS = ("Good photo.", "Bad photo.")
"""The prompts of CLIP-IQA (Wang, Chan and Loy 2023, arXiv 2207.12396), section 3.1."""
_WITHOUT = "leave --quality out"


class QualityNet(ABC):
    """Rates images; higher is better. Images are resized to the net's square, whatever their shape."""

    name: ClassVar[str]
    """Of its scores."""
    label: ClassVar[str]
    default: ClassVar[str]
    """Hub id of the weights."""
    needs_prompts: ClassVar[bool] = False

    def __init__(self, model: nn.Module, side_px: int, settings: str = "") -> None:
        self.side_px = side_px
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model: Any = model.eval().requires_grad_(False).to(self.device)
        self.digest = weights_digest(f"{PREPROCESSING}, {settings}{side_px} px", model.state_dict())

    @classmethod
    @abstractmethod
    def load(cls, source: str | None = None) -> QualityNet:
        """The net in a local folder or hub repository; raises `ModelError` where it cannot be loaded."""

    @torch.no_grad()
    def __call__(self, images: Tensor, prompts: Sequence[str] = ()) -> Tensor:
        """Ratings ``(N,)`` of images ``(N, 3, H, W)`` in [0, 1], on the CPU; a prompt for each where needed."""
        pixels = prepared(images.to(self.device, torch.float32), "clip", self.side_px)
        return self.rate(pixels, prompts).float().cpu()

    @abstractmethod
    def rate(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        """``(N,)`` ratings of resized and normalised images ``(N, 3, S, S)``."""


class ClipQuality(QualityNet):
    """CLIP-IQA; ``texts`` are the token ids ``(2, L)`` of the good and the bad prompt.

    The quality is the softmax of CLIP's similarities to the two, 0 to 1. Unlike the paper, images are resized to the
    net's square and its positional embedding stays.
    """

    name, label, default = "quality", "CLIP-IQA", "openai/clip-vit-base-patch16"

    def __init__(self, model: nn.Module, texts: Tensor, side_px: int) -> None:
        super().__init__(model, side_px, f"{QUALITY_PROMPTS}, ")
        self._texts = texts.to(self.device)

    @classmethod
    def load(cls, source: str | None = None) -> ClipQuality:
        """See `QualityNet.load`."""
        source = source or cls.default
        with loading("clip", source, _WITHOUT):
            model = load_model("clip", "CLIPModel", source)
            texts = _tokenizer(source)(list(QUALITY_PROMPTS), padding=True, return_tensors="pt")["input_ids"]
            return cls(model, texts, side_of(model.config.vision_config.image_size))

    def rate(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        """See `QualityNet.rate`."""
        output = self._model(input_ids=self._texts, pixel_values=pixels)
        return output.logits_per_image.softmax(dim=1)[:, 0]


class Preference(QualityNet):
    """A CLIP trained on people's choices: 100 times the cosine of image and prompt."""

    needs_prompts = True

    def __init__(self, model: nn.Module, tokenizer: Any, side_px: int) -> None:
        super().__init__(model, side_px, "preference, ")
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, source: str | None = None) -> Preference:
        """See `QualityNet.load`."""
        source = source or cls.default
        with loading(cls.name, source, _WITHOUT):
            model = load_model("clip", "CLIPModel", source)
            return cls(model, _tokenizer(source), side_of(model.config.vision_config.image_size))

    def rate(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        """See `QualityNet.rate`."""
        most = self._model.config.text_config.max_position_embeddings
        words = self._tokenizer(
            list(prompts), padding="max_length", truncation=True, max_length=most, return_tensors="pt"
        )
        output = self._model(input_ids=words["input_ids"].to(self.device), pixel_values=pixels)
        images, texts = (functional.normalize(part, dim=1) for part in (output.image_embeds, output.text_embeds))
        return 100 * (images * texts).sum(dim=1)


class HpsV2(Preference):
    """Human Preference Score v2 (Wu et al. 2023, arXiv 2306.09341), a CLIP-H; about 20 to 30."""

    name, label, default = "hpsv2", "HPS v2", "adams-story/HPSv2-hf"


class PickScore(Preference):
    """PickScore (Kirstain et al. 2023, arXiv 2305.01569), a CLIP-H; about 18 to 24."""

    name, label, default = "pickscore", "PickScore", "yuvalkirstain/PickScore_v1"


class Aesthetic(QualityNet):
    """LAION's aesthetic predictor: linear layers, without activations between, on CLIP-L's image embedding; 1 to 10.

    Weights are those of CLIP's vision part with the layers as ``layers.0.weight`` and on (``predictor`` in version 1).
    """

    name, label = "aesthetic", "LAION aesthetic"
    default = "shunk031/aesthetics-predictor-v2-sac-logos-ava1-l14-linearMSE"

    @classmethod
    def load(cls, source: str | None = None) -> Aesthetic:
        """See `QualityNet.load`."""
        source = source or cls.default
        with loading(cls.name, source, _WITHOUT):
            from safetensors.torch import load_file
            from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

            folder = _folder(source, ["config.json", "model.safetensors"])
            weights = load_file(folder / "model.safetensors")
            head = {name: value for name, value in weights.items() if name.startswith(("layers.", "predictor."))}
            config = CLIPVisionConfig.from_pretrained(folder)
            clip = complete_model(CLIPVisionModelWithProjection, str(folder), config)
            return cls(_Scorer(clip, _linear_layers(head)), side_of(config.image_size))

    def rate(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        """See `QualityNet.rate`."""
        embedding = self._model.net(pixel_values=pixels).image_embeds
        return self._model.layers(functional.normalize(embedding, dim=1)).squeeze(1)


class ImageReward(QualityNet):
    """ImageReward (Xu et al. 2023, arXiv 2304.05977): BLIP reads image and prompt; about -2 to 2, 0 on average.

    Weights have the names of the authors' checkpoint (``blip.visual_encoder...``, ``mlp.layers...``) in safetensors;
    sizes are read from them.
    """

    name, label, default = "image_reward", "ImageReward", "RE-N-Y/ImageReward"
    needs_prompts = True
    _WORDS = 35
    _MEAN, _STD = 0.16717362830052426, 1.0333394966054072  # as published, of the training set's rewards
    _TOKENIZER = "google-bert/bert-base-uncased"  # BLIP's own words follow its, and ImageReward uses none of them
    _HEAD_DIMENSIONS = 64

    def __init__(self, model: nn.Module, tokenizer: Any, side_px: int) -> None:
        super().__init__(model, side_px, "image reward, ")
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, source: str | None = None) -> ImageReward:
        """See `QualityNet.load`."""
        source = source or cls.default
        with loading(cls.name, source, _WITHOUT):
            from safetensors.torch import load_file
            from transformers import BlipTextModel, BlipVisionModel

            folder = _folder(source, ["model.safetensors", "tokenizer*", "vocab.txt"])
            weights = load_file(folder / "model.safetensors")
            own = any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt"))
            tokenizer = _tokenizer(str(folder) if own else cls._TOKENIZER)
            vision = _part(weights, "blip.visual_encoder.")
            text = _part(weights, "blip.text_encoder.")
            eyes = BlipVisionModel(_vision_config(vision, cls._HEAD_DIMENSIONS))
            reader = BlipTextModel(_text_config(text, vision, cls._HEAD_DIMENSIONS), add_pooling_layer=False)
            _fill(eyes, {_vision_name(name): value for name, value in vision.items()})
            _fill(reader, text)
            layers = _linear_layers(_part(weights, "mlp."))
            return cls(_Scorer(eyes, layers, reader), tokenizer, side_of(eyes.config.image_size))

    def rate(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        """See `QualityNet.rate`."""
        words = self._tokenizer(
            list(prompts), padding="max_length", truncation=True, max_length=self._WORDS, return_tensors="pt"
        )
        seen = self._model.net(pixel_values=pixels).last_hidden_state
        read = self._model.reader(
            input_ids=words["input_ids"].to(self.device),
            attention_mask=words["attention_mask"].to(self.device),
            encoder_hidden_states=seen,
            encoder_attention_mask=seen.new_ones(seen.shape[:2], dtype=torch.long),
        ).last_hidden_state
        return (self._model.layers(read[:, 0]).squeeze(1) - self._MEAN) / self._STD


QUALITY_NETS: Mapping[str, type[QualityNet]] = {
    "clip": ClipQuality,
    "aesthetic": Aesthetic,
    "hpsv2": HpsV2,
    "pickscore": PickScore,
    "imagereward": ImageReward,
}
"""Every quality net by its name; each can be followed by a colon and a folder or hub id."""


def quality_net(name: str) -> QualityNet:
    """The quality net called ``name``, as in `QUALITY_NETS`.

    Raises `UsageError` for an unknown name, `ModelError` where the weights cannot be loaded.
    """
    kind, _, source = name.partition(":")
    if kind not in QUALITY_NETS:
        raise UsageError(
            f"no quality net is called {name!r}; use some of: {', '.join(QUALITY_NETS)}, each with a colon and a "
            "folder or hub id where the usual weights are not meant"
        )
    return QUALITY_NETS[kind].load(source or None)


class _Scorer(nn.Module):
    """A net, the layers that make one number of what it gives, and where there is one the reader of prompts."""

    def __init__(self, net: nn.Module, layers: nn.Module, reader: nn.Module | None = None) -> None:
        super().__init__()
        self.net, self.layers, self.reader = net, layers, reader


def _tokenizer(source: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(source)


def _folder(source: str, files: Sequence[str]) -> Path:
    return Path(source) if Path(source).is_dir() else hub.download(source, files, what="the quality net")


def _part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    part = {name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)}
    if not part:
        raise ValueError(f"it lacks the weights {prefix}*")
    return part


def _fill(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load ``weights``, but those of a pooler, and of positions, which are counted; raises `RuntimeError` otherwise."""
    used = {name: value.float() for name, value in weights.items() if value.is_floating_point()}
    model.load_state_dict({name: value for name, value in used.items() if not name.startswith("pooler.")})


def _linear_layers(weights: Mapping[str, Tensor]) -> nn.Sequential:
    """The chain of linear layers in ``weights``, in the order of their numbers; its last gives one number."""
    names = [name[: -len(".weight")] for name, value in weights.items() if name.endswith(".weight") and value.ndim == 2]
    layers = nn.Sequential()
    for name in sorted(names, key=lambda name: [int(digits) for digits in re.findall(r"\d+", name)]):
        weight, bias = weights[f"{name}.weight"].float(), weights[f"{name}.bias"].float()
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.load_state_dict({"weight": weight, "bias": bias})
        layers.append(layer)
    if not names or layers[-1].out_features != 1:
        raise ValueError("it lacks the layers that make a rating")
    return layers


def _vision_config(weights: Mapping[str, Tensor], head_dimensions: int) -> Any:
    from transformers import BlipVisionConfig

    hidden, _, patch_px, _ = weights["patch_embed.proj.weight"].shape
    side = round((weights["pos_embed"].shape[1] - 1) ** 0.5)
    return BlipVisionConfig(
        hidden_size=hidden,
        intermediate_size=weights["blocks.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=_count(weights, r"blocks\.(\d+)\."),
        num_attention_heads=max(1, hidden // head_dimensions),
        image_size=side * patch_px,
        patch_size=patch_px,
        layer_norm_eps=1e-6,
    )


def _text_config(weights: Mapping[str, Tensor], vision: Mapping[str, Tensor], head_dimensions: int) -> Any:
    from transformers import BlipTextConfig

    words, hidden = weights["embeddings.word_embeddings.weight"].shape
    return BlipTextConfig(
        vocab_size=words,
        hidden_size=hidden,
        encoder_hidden_size=vision["patch_embed.proj.weight"].shape[0],
        intermediate_size=weights["encoder.layer.0.intermediate.dense.weight"].shape[0],
        num_hidden_layers=_count(weights, r"encoder\.layer\.(\d+)\."),
        num_attention_heads=max(1, hidden // head_dimensions),
        max_position_embeddings=weights["embeddings.position_embeddings.weight"].shape[0],
        is_decoder=True,
    )


def _count(weights: Mapping[str, Tensor], pattern: str) -> int:
    return 1 + max(int(found[1]) for name in weights if (found := re.match(pattern, name)))


_VISION_NAMES = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding",
    "patch_embed.proj": "embeddings.patch_embedding",
    "blocks": "encoder.layers",
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attn.qkv": "self_attn.qkv",
    "attn.proj": "self_attn.projection",
    "norm": "post_layernorm",
}
"""BLIP's names and those of transformers; longer ones come first."""


def _vision_name(name: str) -> str:
    for before, after in _VISION_NAMES.items():
        name = re.sub(rf"(^|\.){re.escape(before)}(?=\.|$)", rf"\g<1>{after}", name)
    return name
