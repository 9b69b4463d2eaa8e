"""A pipeline's networks from its configs alone: on the meta device to be counted, or with random weights to be timed.

This is how a 24 GB model is counted on any laptop: every tensor is a shape. The classes are those of diffusers and
transformers, because the network that is counted must be the one that runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from topcoat.errors import DataError, ModelError, UsageError
from topcoat.generators.base import WeightsSpec
from topcoat.generators.families import FAMILIES, Configs, Family, family_of
from topcoat.generators.families.base import OneImage
from topcoat.generators.latents import decode
from topcoat.generators.loading import quiet_libraries
from topcoat.generators.vae import channels_of, scale_of, vae_classes
from topcoat.prompts.clip import CLIP_TOKENS

_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """One class of transformers: the class of its config, and what it reads for a text of a number of tokens."""

    config_class: str
    inputs: Callable[[Mapping[str, Any], int, torch.device], dict[str, Any]]


def _clip_inputs(config: Mapping[str, Any], text_tokens: int, device: torch.device) -> dict[str, Any]:
    return {"input_ids": _tokens(config.get("max_position_embeddings", CLIP_TOKENS), device)}


def _t5_inputs(config: Mapping[str, Any], text_tokens: int, device: torch.device) -> dict[str, Any]:
    return {"input_ids": _tokens(text_tokens, device)}


def _language_model_inputs(config: Mapping[str, Any], text_tokens: int, device: torch.device) -> dict[str, Any]:
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
    "Qwen3Model": TextEncoder("Qwen3Config", _language_model_inputs),
    "Qwen3ForCausalLM": TextEncoder("Qwen3Config", _language_model_inputs),
    "Qwen2_5_VLForConditionalGeneration": TextEncoder("Qwen2_5_VLConfig", _language_model_inputs),
    "Mistral3ForConditionalGeneration": TextEncoder("Mistral3Config", _language_model_inputs),
    "Gemma2Model": TextEncoder("Gemma2Config", _language_model_inputs),
}
"""Name of the class in transformers -> how it is built and called."""


@dataclass(frozen=True)
class Networks:
    """The networks of one pipeline and how it calls them: one image, one pass.

    Each method returns a function that runs networks on inputs of the right shape, to count or to time them.
    """

    family: Family
    modules: Mapping[str, nn.Module]
    configs: Configs
    device: torch.device
    dtype: torch.dtype

    @property
    def denoiser(self) -> nn.Module:
        """The transformer or U-Net that runs in every step."""
        return self.modules[self.family.denoiser]

    @property
    def size_multiple_px(self) -> int:
        """Width and height must be multiples of this: pixels per latent times the packing."""
        return scale_of(self.configs["vae"]) * self.family.packing

    @property
    def parameters(self) -> int:
        """Weights of all networks together."""
        return sum(parameter.numel() for module in self.modules.values() for parameter in module.parameters())

    def step(self, width_px: int, height_px: int, text_tokens: int) -> Callable[[], object]:
        """One pass of the denoiser over one image, with its text padded to ``text_tokens`` where it is padded.

        Raises `UsageError` for a size that is not a multiple of `size_multiple_px` or no text tokens.
        """
        for side in (width_px, height_px):
            if side < self.size_multiple_px or side % self.size_multiple_px:
                raise UsageError(f"a side of {side} px is not possible; use a multiple of {self.size_multiple_px}")
        if text_tokens < 1:
            raise UsageError(f"{text_tokens} text tokens are not possible; use 1 or more")
        height, width = self._latent_size(width_px, height_px)
        read = self.family.denoiser_tokens(text_tokens)
        inputs = self.family.denoiser_inputs(OneImage(self.configs, height, width, read, self._ones))
        return lambda: self.denoiser(**inputs, return_dict=False)

    def vae_decode(self, width_px: int, height_px: int) -> Callable[[], object]:
        """The decoding of one image's latents."""
        latents = self._ones(1, channels_of(self.configs["vae"]), *self._latent_size(width_px, height_px))
        vae = self.modules["vae"]
        return lambda: decode(vae, latents)

    def text_encode(self, text_tokens: int) -> Callable[[], object]:
        """Every text encoder on one prompt padded to ``text_tokens``; CLIP always reads its full length."""
        calls: list[tuple[nn.Module, dict[str, Any]]] = []
        for name in _ENCODERS:
            module = self.modules.get(name)
            if module is not None:
                encoder = TEXT_ENCODERS[type(module).__name__]
                tokens = self.family.encoder_tokens(text_tokens)
                calls.append((module, encoder.inputs(self.configs[name], tokens, self.device)))
        return lambda: [module(**inputs) for module, inputs in calls]

    def _latent_size(self, width_px: int, height_px: int) -> tuple[int, int]:
        scale = scale_of(self.configs["vae"])
        return height_px // scale, width_px // scale

    def _ones(self, *shape: int) -> torch.Tensor:
        return torch.ones(*shape, device=self.device, dtype=self.dtype)


def build_networks(
    configs: Configs, device: torch.device | str = "meta", dtype: torch.dtype = torch.float32
) -> Networks:
    """The networks that ``configs`` describe: shapes without weights on the meta device, random weights elsewhere.

    What random weights compute means nothing; how long that takes and what memory it needs is that of the real model.
    Raises `ModelError` for a class that cannot be built here.
    """
    family = family_of(configs)
    device = torch.device(device)
    with device, quiet_libraries(), _default_dtype(dtype):
        modules = {name: _build(name, config) for name, config in configs.items() if name != "model_index"}
    return Networks(family, modules, configs, device, dtype)


def configs_of(source: str | Path) -> Configs:
    """The configs of a pipeline folder (diffusers layout); raises `DataError` if it holds none that can be counted."""
    folder = Path(source)
    names = [name for name in ("transformer", "unet", "vae", *_ENCODERS) if (folder / name).is_dir()]
    if "vae" not in names or not {"transformer", "unet"} & {*names}:
        raise DataError(
            f"{folder} holds no diffusers pipeline (transformer or unet, vae, text_encoder); check the path"
        )
    index = _read_json(folder, "model_index.json")
    configs: dict[str, Mapping[str, Any]] = {"model_index": index}
    for name in names:
        configs[name] = _read_json(folder / name)
        if name in index and name in _ENCODERS:  # the class that the pipeline loads, not the one that was saved
            configs[name] = {**configs[name], "architectures": [index[name][1]]}
    return configs


def config_of(name: str, weights: WeightsSpec) -> Mapping[str, Any] | None:
    """The config of a local folder of weights for the network ``name``; None where it is that of what is replaced.

    A file of weights has no settings, and weights on the hub are taken to be of the same shape: they are made for it.
    """
    folder = Path(weights.model)
    if weights.file is not None or not folder.is_dir():
        return None
    within = weights.subfolder if weights.subfolder is not None else name
    return _read_json(folder / within if (folder / within).is_dir() else folder)


def _read_json(folder: Path, file: str = "config.json") -> dict[str, Any]:
    path = folder / file
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read, so {folder} is no pipeline folder; check the path") from error
    if not isinstance(config, dict):
        raise DataError(f"{path} holds no named settings, so {folder} is no pipeline folder; check the path")
    return config


def _build(name: str, config: Mapping[str, Any]) -> nn.Module:
    """One network from its config.json; the class is named by diffusers' or transformers' own key."""
    import diffusers
    import transformers

    class_name = str(config.get("_class_name") or next(iter(config.get("architectures") or ["unnamed"])))
    from_diffusers = (*vae_classes(), *(family.denoiser_class for family in FAMILIES.values()))
    if class_name in from_diffusers:
        module = getattr(diffusers, class_name).from_config(dict(config))
    elif class_name in TEXT_ENCODERS:
        settings = getattr(transformers, TEXT_ENCODERS[class_name].config_class).from_dict(dict(config))
        module = getattr(transformers, class_name)(settings)
    else:
        known = ", ".join((*from_diffusers, *TEXT_ENCODERS))
        raise ModelError(f"the {name} is a {class_name}, which cannot be counted yet; these can: {known}")
    return module.eval()


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
