"""Parts that tiny pipelines share: encoders, a VAE, a U-Net, a tokenizer; with random weights."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any


class _Library:
    """A library imported at its first use, untyped: its hints take one-element tuples where any length is meant."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._name), name)


diffusers, transformers = _Library("diffusers"), _Library("transformers")

CHAT = (
    "{% for message in messages %}{% if message['content'] is string %}{{ message['content'] }} {% else %}"
    "{% for part in message['content'] %}{{ part['text'] }} {% endfor %}{% endif %}{% endfor %}"
)

LANGUAGE_MODEL = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_heads": 2}
CLIP = {
    "vocab_size": 32,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 77,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "pad_token_id": 0,
}
WORDS = (*"abcdefghij", "studio", "portrait", "young", "old", "woman", "man", "red", "hair", "brown", "eyes")


def qwen(kind: str, layers: int) -> Any:
    return getattr(transformers, kind)(
        transformers.Qwen3Config(**LANGUAGE_MODEL | {"num_hidden_layers": layers}, head_dim=8)
    )


def clip(width: int, projects: bool = True) -> Any:
    config = transformers.CLIPTextConfig(hidden_size=width, projection_dim=width, **CLIP)
    return (transformers.CLIPTextModelWithProjection if projects else transformers.CLIPTextModel)(config)


def t5(width: int) -> Any:
    config = transformers.T5Config(vocab_size=32, d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return transformers.T5EncoderModel(config)


def vae(channels: int, **more: Any) -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        **more,
    )


def unet(**more: Any) -> Any:
    return diffusers.UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        **more,
    )


def euler() -> Any:
    return diffusers.EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
    )


def tiny_tokenizer(length: int = 64, words: Sequence[str] = WORDS) -> Any:
    """Reads whole words, and any other than ``words`` as an unknown one."""
    import tokenizers

    vocabulary = {word: number for number, word in enumerate(["<pad>", "<unk>", "<s>", "</s>", *words])}
    core = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    core.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=length,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        chat_template=CHAT,
    )
