"""The text encoders of all families: how each class is built and called."""

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
