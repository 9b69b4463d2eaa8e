from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import FakeHead
from topcoat.cost import flops
from topcoat.generators.base import GeneratorSpec, Licence, ModelPair

LICENCE = Licence(name="test", url="https://example.org", note="")

TINY: dict[str, dict[str, Any]] = {
    "model_index": {"_class_name": "FluxPipeline"},
    "transformer": {
        "_class_name": "FluxTransformer2DModel",
        "patch_size": 1,
        "in_channels": 64,
        "num_layers": 1,
        "num_single_layers": 1,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 32,
        "pooled_projection_dim": 32,
        "guidance_embeds": False,
        "axes_dims_rope": [4, 6, 6],
    },
    "vae": {
        "_class_name": "AutoencoderTiny",
        "encoder_block_out_channels": [8, 8, 8, 8],
        "decoder_block_out_channels": [8, 8, 8, 8],
        "latent_channels": 16,
        "num_encoder_blocks": [1, 1, 1, 1],
        "num_decoder_blocks": [1, 1, 1, 1],
    },
    "text_encoder": {
        "architectures": ["CLIPTextModel"],
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 16,
        "projection_dim": 32,
    },
    "text_encoder_2": {
        "architectures": ["T5EncoderModel"],
        "vocab_size": 64,
        "d_model": 32,
        "d_kv": 16,
        "d_ff": 64,
        "num_layers": 1,
        "num_heads": 2,
        "feed_forward_proj": "gated-gelu",
    },
}


def write_configs(folder: Path, configs: dict[str, dict[str, Any]]) -> Path:
    folder.mkdir()
    for name, config in configs.items():
        if name == "model_index":
            (folder / "model_index.json").write_text(json.dumps(config))
            continue
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def tiny_folder(tmp_path: Path) -> Path:
    """A pipeline folder of configs alone, without weights."""
    return write_configs(tmp_path / "tiny", TINY)


@pytest.fixture
def tiny_pair(tiny_folder: Path, tmp_path: Path) -> ModelPair:
    """A baseline, and a distilled model with twice as many blocks in a folder of its own."""
    student = dict(TINY["transformer"], num_single_layers=2)
    other = write_configs(tmp_path / "student", {"transformer": student})
    baseline = GeneratorSpec(
        name="tiny baseline",
        model=str(tiny_folder),
        revision=None,
        transformer=None,
        steps=10,
        guidance_scale=0.0,
        max_sequence_length=8,
        width_px=32,
        height_px=32,
        dtype="float32",
        licence=LICENCE,
    )
    distilled = baseline.model_copy(update={"name": "tiny distilled", "steps": 2, "transformer": str(other)})
    return ModelPair(name="tiny", distilled=distilled, baseline=baseline)


class BrighterHead(FakeHead):
    """Makes images a little brighter."""

    def __call__(self, inputs: Tensor, strength: float = 1.0) -> Tensor:
        return (inputs + 0.02 * strength).clamp(0, 1)


@pytest.fixture
def fake_head() -> BrighterHead:
    torch.manual_seed(0)
    return BrighterHead()


@pytest.fixture
def one_tflop_a_pass(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every pass of a network counts as 1 TFLOP."""
    flops._tflop.cache_clear()
    monkeypatch.setattr(flops, "count_flops", lambda run: 10**12)
    yield
    flops._tflop.cache_clear()
