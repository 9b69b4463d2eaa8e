"""Text encoders that families share: how each class is built and called, and the published sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

CLIP_TOKENS = 77
"""The length to which CLIP pads every text."""


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """One class of transformers: the class of its config, and what it reads for a text of a number of tokens."""

    config_class: str
    inputs: Callable[[Mapping[str, Any], int, torch.device], dict[str, Any]]


def _clip_inputs(config: Mapping[str, Any], text_tokens: int, device: torch.device) -> dict[str, Any]:
    return {"input_ids": _tokens(config.get("max_position_embeddings", CLIP_TOKENS), device)}


def _t5_inputs(config: Mapping[str, Any], text_tokens: int, device: torch.device) -> dict[str, Any]:
    return {"input_ids": _tokens(text_tokens, device)}


def _qwen3_inputs(config: Mapping[str, Any], text_tokens: int, device: torch.device) -> dict[str, Any]:
    # The mask is given because one derived from the tokens is read back, which meta tensors cannot be.
    mask = torch.ones(1, 1, text_tokens, text_tokens, dtype=torch.bool, device=device).tril()
    tokens = _tokens(text_tokens, device)
    return {"input_ids": tokens, "attention_mask": mask, "output_hidden_states": True, "use_cache": False}


def _tokens(count: int, device: torch.device) -> torch.Tensor:
    return torch.zeros(1, count, dtype=torch.long, device=device)


TEXT_ENCODERS: Mapping[str, TextEncoder] = {
    "CLIPTextModel": TextEncoder("CLIPTextConfig", _clip_inputs),
    "CLIPTextModelWithProjection": TextEncoder("CLIPTextConfig", _clip_inputs),
    "T5EncoderModel": TextEncoder("T5Config", _t5_inputs),
    "Qwen3Model": TextEncoder("Qwen3Config", _qwen3_inputs),
    "Qwen3ForCausalLM": TextEncoder("Qwen3Config", _qwen3_inputs),
}
"""Name of the class in transformers -> how it is built and called."""

CLIP_L: Mapping[str, Any] = {
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "projection_dim": 768,
}
CLIP_BIG_G: Mapping[str, Any] = {
    "architectures": ["CLIPTextModelWithProjection"],
    "model_type": "clip_text_model",
    "vocab_size": 49408,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "max_position_embeddings": 77,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}
T5_XXL: Mapping[str, Any] = {
    "architectures": ["T5EncoderModel"],
    "model_type": "t5",
    "vocab_size": 32128,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
}


def qwen3_4b(name: str) -> Mapping[str, Any]:
    """Qwen3 4B as the class ``name``: FLUX.2 runs it with its language head, Z-Image without."""
    return {
        "architectures": [name],
        "model_type": "qwen3",
        "vocab_size": 151936,
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40960,
        "tie_word_embeddings": True,
    }
