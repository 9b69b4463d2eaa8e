"""A pipeline's networks from its configs alone: on the meta device to be counted, or with random weights to be timed.

This is how a 24 GB model is counted on any laptop: every tensor is a shape. It goes through diffusers and transformers
because the network that is counted must be the one that runs.
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
from topcoat.generators.base import GeneratorSpec
from topcoat.generators.families import BY_DENOISER, Family
from topcoat.generators.quiet import quiet_libraries

Configs = Mapping[str, Mapping[str, Any]]
"""A pipeline's parts by folder name (transformer or unet, vae, text_encoder, ...), each as its config.json holds."""

_CLIP_TOKENS = 77
_ENCODERS = ("text_encoder", "text_encoder_2")
_DIFFUSERS = ("AutoencoderDC", "AutoencoderKL", "AutoencoderKLFlux2", "AutoencoderTiny", *BY_DENOISER)
_TRANSFORMERS = {
    "CLIPTextModel": "CLIPTextConfig",
    "CLIPTextModelWithProjection": "CLIPTextConfig",
    "T5EncoderModel": "T5Config",
    "Qwen3Model": "Qwen3Config",
    "Qwen3ForCausalLM": "Qwen3Config",
}


@dataclass(frozen=True)
class Networks:
    """The networks of one pipeline and how it calls them: one image, one pass.

    Each method returns a function that runs networks on inputs of the right shape: something to count or to time, not
    to look at.
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
        """Width and height must be multiples of this: the VAE's reduction times the packing."""
        return self._reduction * self.family.packing

    @property
    def parameters(self) -> int:
        """Weights of all networks together."""
        return sum(parameter.numel() for module in self.modules.values() for parameter in module.parameters())

    def step(self, width_px: int, height_px: int, text_tokens: int) -> Callable[[], object]:
        """One pass of the denoiser over one image.

        Raises `UsageError` for a size that is not a multiple of `size_multiple_px` or no text tokens.
        """
        for side in (width_px, height_px):
            if side < self.size_multiple_px or side % self.size_multiple_px:
                raise UsageError(f"a side of {side} px is not possible; use a multiple of {self.size_multiple_px}")
        if text_tokens < 1:
            raise UsageError(f"{text_tokens} text tokens are not possible; use 1 or more")
        height, width = height_px // self._reduction, width_px // self._reduction
        call = {
            "FluxPipeline": self._flux_step,
            "Flux2KleinPipeline": self._flux2_step,
            "StableDiffusionXLPipeline": self._sdxl_step,
            "ZImagePipeline": self._z_image_step,
        }[self.family.pipeline]
        return call(width, height, text_tokens)

    def vae_decode(self, width_px: int, height_px: int) -> Callable[[], object]:
        """The decoding of one image's latents."""
        channels = self.configs["vae"]["latent_channels"]
        latents = self._values(1, channels, height_px // self._reduction, width_px // self._reduction)
        vae: Any = self.modules["vae"]
        return lambda: vae.decode(latents, return_dict=False)

    def text_encode(self, text_tokens: int) -> Callable[[], object]:
        """Every text encoder on one prompt padded to ``text_tokens``; CLIP always reads its full length."""
        runs = [self._encoder(name, text_tokens) for name in _ENCODERS if name in self.modules]
        return lambda: [run() for run in runs]

    def _flux_step(self, width: int, height: int, text_tokens: int) -> Callable[[], object]:
        config = self.configs["transformer"]
        tokens = (width // 2) * (height // 2)
        inputs = {
            "hidden_states": self._values(1, tokens, config["in_channels"]),
            "encoder_hidden_states": self._values(1, text_tokens, config["joint_attention_dim"]),
            "pooled_projections": self._values(1, config["pooled_projection_dim"]),
            "timestep": self._values(1),
            "img_ids": self._values(tokens, 3),
            "txt_ids": self._values(text_tokens, 3),
            "guidance": self._values(1) if config.get("guidance_embeds") else None,
        }
        return lambda: self.denoiser(**inputs, return_dict=False)

    def _flux2_step(self, width: int, height: int, text_tokens: int) -> Callable[[], object]:
        config = self.configs["transformer"]
        tokens = (width // 2) * (height // 2)
        inputs = {
            "hidden_states": self._values(1, tokens, config["in_channels"]),
            "encoder_hidden_states": self._values(1, text_tokens, config["joint_attention_dim"]),
            "timestep": self._values(1),
            "img_ids": self._values(1, tokens, 4),
            "txt_ids": self._values(1, text_tokens, 4),
            "guidance": self._values(1) if config.get("guidance_embeds", True) else None,
        }
        return lambda: self.denoiser(**inputs, return_dict=False)

    def _sdxl_step(self, width: int, height: int, text_tokens: int) -> Callable[[], object]:
        config = self.configs["unet"]
        pooled = self.configs["text_encoder_2"]["projection_dim"]
        latents = self._values(1, config["in_channels"], height, width)
        text = self._values(1, _CLIP_TOKENS, config["cross_attention_dim"])
        extra = {"text_embeds": self._values(1, pooled), "time_ids": self._values(1, 6)}
        timestep = self._values(1)
        return lambda: self.denoiser(latents, timestep, text, added_cond_kwargs=extra, return_dict=False)

    def _z_image_step(self, width: int, height: int, text_tokens: int) -> Callable[[], object]:
        config = self.configs["transformer"]
        latents = self._values(config["in_channels"], 1, height, width)
        text = self._values(text_tokens, config["cap_feat_dim"])
        timestep = self._values(1)
        return lambda: self.denoiser([latents], timestep, [text], return_dict=False)

    def _encoder(self, name: str, text_tokens: int) -> Callable[[], object]:
        module = self.modules[name]
        kind = type(module).__name__
        if kind.startswith("CLIP"):
            text_tokens = self.configs[name].get("max_position_embeddings", _CLIP_TOKENS)
        tokens = torch.zeros(1, text_tokens, dtype=torch.long, device=self.device)
        if not kind.startswith("Qwen3"):
            return lambda: module(tokens)
        # The mask is given whole, because one that is derived from the tokens is read back, which meta tensors are not.
        mask = torch.ones(1, 1, text_tokens, text_tokens, dtype=torch.bool, device=self.device).tril()
        return lambda: module(input_ids=tokens, attention_mask=mask, output_hidden_states=True, use_cache=False)

    def _values(self, *shape: int) -> torch.Tensor:
        return torch.ones(*shape, device=self.device, dtype=self.dtype)

    @property
    def _reduction(self) -> int:
        config = self.configs["vae"]
        stages = config.get("block_out_channels") or config["decoder_block_out_channels"]
        return 2 ** (len(stages) - 1)


def build_on_meta(source: str | Path | Configs, transformer: str | Path | None = None) -> Networks:
    """The networks of a pipeline folder (diffusers layout) or of given configs, without weights.

    ``transformer`` is a folder whose ``transformer/`` replaces the one of ``source``. Raises `DataError` if a folder
    holds no pipeline that can be counted and `ModelError` for a class that cannot be built here.
    """
    return _networks(_all_configs(source, transformer), torch.device("meta"), torch.float32)


def build_with_random_weights(
    source: str | Path | Configs, transformer: str | Path | None, device: torch.device, dtype: torch.dtype
) -> Networks:
    """The same networks at full size with their initial random weights, on ``device``; raises like `build_on_meta`.

    What they compute means nothing; how long they take and what memory they need is that of the real model.
    """
    return _networks(_all_configs(source, transformer), device, dtype)


def weight_bytes(networks: Networks, spec: GeneratorSpec) -> int:
    """Memory for the weights of ``networks`` in the dtype of ``spec``."""
    return networks.parameters * torch.empty(0, dtype=getattr(torch, spec.dtype)).element_size()


def read_configs(folder: Path, transformer: Path | None = None) -> Configs:
    """The configs of a pipeline folder; raises `DataError` if one is missing or unreadable."""
    names = [name for name in ("transformer", "unet", "vae", *_ENCODERS) if (folder / name).is_dir()]
    if "vae" not in names or not {"transformer", "unet"} & {*names, *(("transformer",) if transformer else ())}:
        raise DataError(
            f"{folder} holds no diffusers pipeline (transformer or unet, vae, text_encoder); check the path"
        )
    index_file = folder / "model_index.json"
    index = _read_json(index_file, folder) if index_file.is_file() else {}
    configs: dict[str, Mapping[str, Any]] = {}
    for name in names:
        home = transformer if name == "transformer" and transformer is not None else folder
        config = dict(_read_json(home / name / "config.json", home))
        if name in index and name in _ENCODERS:
            config["architectures"] = [index[name][1]]  # the class that the pipeline loads, not the one that was saved
        configs[name] = config
    return configs


def _all_configs(source: str | Path | Configs, transformer: str | Path | None) -> Configs:
    other = None if transformer is None else Path(transformer)
    if isinstance(source, str | Path):
        return read_configs(Path(source), other)
    configs = dict(source)
    if other is not None:
        configs["transformer"] = _read_json(other / "transformer" / "config.json", other)
    return configs


def _networks(configs: Configs, device: torch.device, dtype: torch.dtype) -> Networks:
    name = "unet" if "unet" in configs else "transformer"
    kind = str(configs[name].get("_class_name"))
    family = BY_DENOISER.get(kind)
    if family is None:
        raise ModelError(f"the {name} is a {kind}, which cannot be counted yet; these can: {', '.join(BY_DENOISER)}")
    with torch.device(device), quiet_libraries(), _default_dtype(dtype):
        modules = {part: _build(part, config) for part, config in configs.items()}
    return Networks(family, modules, configs, device, dtype)


def _read_json(path: Path, folder: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read, so {folder} is no pipeline folder; check the path") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} holds no named settings, so {folder} is no pipeline folder; check the path")
    return found


def _build(name: str, config: Mapping[str, Any]) -> nn.Module:
    """One network from its config.json; the class is named by diffusers' or transformers' own key."""
    # Both libraries take seconds to import, so only who counts pays for them.
    import diffusers
    import transformers

    kind = str(config.get("_class_name") or next(iter(config.get("architectures") or ["unnamed"])))
    if kind in _DIFFUSERS:
        module = getattr(diffusers, kind).from_config(dict(config))
    elif kind in _TRANSFORMERS:
        settings = getattr(transformers, _TRANSFORMERS[kind]).from_dict(dict(config))
        module = getattr(transformers, kind)(settings)
    else:
        known = ", ".join((*_DIFFUSERS, *_TRANSFORMERS))
        raise ModelError(f"the {name} is a {kind}, which cannot be counted yet; these can: {known}")
    return module.eval()


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
