"""A FLUX-like pipeline's networks on the meta device: their shapes without their weights.

This is how a 24 GB model is counted on any laptop: built from its configs alone, every tensor a shape. Beside the
adapter in `topcoat.generators.diffusers`, this is the one other importer of diffusers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from topcoat.errors import DataError, ModelError, UsageError
from topcoat.generators.quiet import quiet_libraries

Configs = Mapping[str, Mapping[str, Any]]
"""A pipeline's parts by folder name (transformer, vae, text_encoder, text_encoder_2), each as its config.json holds."""

COMPONENTS = ("transformer", "vae", "text_encoder", "text_encoder_2")
_PATCH = 2
"""FLUX packs 2x2 latents into one token."""


@dataclass(frozen=True)
class MetaComponents:
    """The networks of one FLUX-like pipeline on the meta device, and how a pipeline calls them.

    Each method returns a function that runs one network on inputs of batch 1: something to count, not to keep.
    """

    transformer: nn.Module
    vae: nn.Module
    text_encoder: nn.Module
    text_encoder_2: nn.Module
    configs: Configs

    @property
    def size_multiple_px(self) -> int:
        """Width and height must be multiples of this: the VAE's reduction times the 2x2 packing."""
        return self._reduction * _PATCH

    def transformer_step(self, width_px: int, height_px: int, text_tokens: int) -> Callable[[], object]:
        """One denoising step of one image."""
        for side in (width_px, height_px):
            if side < self.size_multiple_px or side % self.size_multiple_px:
                raise UsageError(f"a side of {side} px is not possible; use a multiple of {self.size_multiple_px}")
        if text_tokens < 1:
            raise UsageError(f"{text_tokens} text tokens are not possible; use 1 or more")
        config = self.configs["transformer"]
        image_tokens = (width_px // self.size_multiple_px) * (height_px // self.size_multiple_px)
        inputs = {
            "hidden_states": _meta(1, image_tokens, config["in_channels"]),
            "encoder_hidden_states": _meta(1, text_tokens, config["joint_attention_dim"]),
            "pooled_projections": _meta(1, config["pooled_projection_dim"]),
            "timestep": _meta(1),
            "img_ids": _meta(image_tokens, 3),
            "txt_ids": _meta(text_tokens, 3),
            "guidance": _meta(1) if config.get("guidance_embeds") else None,
        }
        return lambda: self.transformer(**inputs, return_dict=False)

    def vae_decode(self, width_px: int, height_px: int) -> Callable[[], object]:
        """The decoding of one image's latents."""
        channels = self.configs["vae"]["latent_channels"]
        latents = _meta(1, channels, height_px // self._reduction, width_px // self._reduction)
        return lambda: self.vae.decode(latents, return_dict=False)  # type: ignore[operator] - every diffusers VAE has it

    def clip_encode(self) -> Callable[[], object]:
        """The pooled text encoder on one prompt; CLIP always reads its full length."""
        length = self.configs["text_encoder"].get("max_position_embeddings", 77)
        tokens = torch.zeros(1, length, dtype=torch.long, device="meta")
        return lambda: self.text_encoder(tokens)

    def t5_encode(self, text_tokens: int) -> Callable[[], object]:
        """The token text encoder on one prompt padded to ``text_tokens``."""
        tokens = torch.zeros(1, text_tokens, dtype=torch.long, device="meta")
        return lambda: self.text_encoder_2(tokens)

    @property
    def _reduction(self) -> int:
        config = self.configs["vae"]
        stages = config.get("block_out_channels") or config["decoder_block_out_channels"]
        return 2 ** (len(stages) - 1)


def build_on_meta(source: str | Path | Configs, transformer: str | Path | None = None) -> MetaComponents:
    """The networks of a pipeline folder (diffusers layout) or of given configs, without weights.

    ``transformer`` is a folder whose ``transformer/`` replaces the one of ``source``. Raises `DataError` if a folder
    holds no FLUX-like pipeline and `ModelError` for a class that cannot be built here.
    """
    if isinstance(source, str | Path):
        configs = read_configs(Path(source), None if transformer is None else Path(transformer))
    else:
        configs = dict(source)
        if transformer is not None:
            configs["transformer"] = _read_config(Path(transformer), "transformer")
    with torch.device("meta"), quiet_libraries():
        parts = {name: _build(name, configs[name]) for name in COMPONENTS}
    return MetaComponents(**parts, configs=configs)


def read_configs(folder: Path, transformer: Path | None = None) -> Configs:
    """The configs of a pipeline folder; raises `DataError` if one is missing or unreadable."""
    return {
        name: _read_config(transformer if name == "transformer" and transformer is not None else folder, name)
        for name in COMPONENTS
    }


def _read_config(folder: Path, name: str) -> Mapping[str, Any]:
    path = folder / name / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read, so {folder} is no FLUX-like pipeline folder; check the path"
        ) from error
    if not isinstance(found, dict):
        raise DataError(f"{path} holds no named settings, so {folder} is no FLUX-like pipeline folder; check the path")
    return found


def _build(name: str, config: Mapping[str, Any]) -> nn.Module:
    """One network from its config.json; the class is named by diffusers' or transformers' own key."""
    # Both libraries take seconds to import, so only who counts pays for them.
    import diffusers
    import transformers

    kind = str(config.get("_class_name") or next(iter(config.get("architectures") or ["unnamed"])))
    if kind in ("FluxTransformer2DModel", "AutoencoderDC", "AutoencoderKL", "AutoencoderTiny"):
        module = getattr(diffusers, kind).from_config(dict(config))
    elif kind == "CLIPTextModel":
        module = transformers.CLIPTextModel(transformers.CLIPTextConfig.from_dict(dict(config)))
    elif kind == "T5EncoderModel":
        module = transformers.T5EncoderModel(transformers.T5Config.from_dict(dict(config)))
    else:
        raise ModelError(f"the {name} is a {kind}, which cannot be counted yet; FLUX.1-like pipelines can")
    return module.eval()


def _meta(*shape: int) -> torch.Tensor:
    return torch.empty(*shape, device="meta")
