"""Weights in place of a network's own: of another folder or repository, one file of them, or held in fewer bits."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch

from topcoat import hub
from topcoat.errors import ModelError
from topcoat.generators.base import GeneratorSpec, WeightsSpec
from topcoat.generators.families import Family


def replacements(spec: GeneratorSpec, family: Family) -> dict[str, Any]:
    """The networks that a spec replaces, and the scheduler beside another denoiser where there is one."""
    parts = {name: _network(name, weights, spec) for name, weights in spec.replaced.items()}
    denoiser = spec.replaced.get(family.denoiser)
    if denoiser is not None and denoiser.file is None and denoiser.subfolder is None:
        source = denoiser.model
        if not Path(source).is_dir() or (Path(source) / "scheduler").is_dir():
            parts["scheduler"] = _scheduler(denoiser)
    return parts


def _scheduler(beside: WeightsSpec) -> Any:
    import diffusers

    source: dict[str, Any] = {"subfolder": "scheduler", "revision": beside.revision}
    config: Any = diffusers.FlowMatchEulerDiscreteScheduler.load_config(beside.model, **source)
    return getattr(diffusers, config["_class_name"]).from_config(config)


def _network(name: str, weights: WeightsSpec, spec: GeneratorSpec) -> Any:
    import diffusers

    dtype = getattr(torch, spec.dtype)
    held = spec.quantisation if name != "vae" else "none"
    quantised = {} if held not in _IN_BITS else {"quantization_config": network_quantisation(held, dtype)}
    if weights.file is None:
        folder = Path(weights.model)
        at_root = folder.is_dir() and not (folder / name).is_dir()
        subfolder = weights.subfolder if weights.subfolder is not None else "" if at_root else name
        where: dict[str, Any] = {"subfolder": subfolder, "revision": weights.revision}
        load: Any = diffusers.AutoModel.from_pretrained
        return load(weights.model, dtype=dtype, use_safetensors=True, **where, **quantised)
    if weights.file.endswith(".gguf"):
        quantised = {"quantization_config": diffusers.GGUFQuantizationConfig(compute_dtype=dtype)}
    config: Any = diffusers.AutoModel.load_config(spec.model, subfolder=name, revision=spec.revision)
    kind: Any = getattr(diffusers, config["_class_name"])
    replaced = {"config": spec.model, "subfolder": name, "config_revision": spec.revision}
    network = kind.from_single_file(str(_file(weights)), dtype=dtype, **replaced, **quantised)
    if any(parameter.is_meta for parameter in network.parameters()):
        raise ValueError(f"{weights.file} lacks weights of a {type(network).__name__}")
    return network


def _file(weights: WeightsSpec) -> Path:
    """The one file, fetched if it is in a repository."""
    source = Path(weights.model)
    if source.is_file() or weights.weight_name is None:
        return source
    if source.is_dir():
        return source / weights.weight_name
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(weights.model, weights.weight_name, revision=weights.revision))


def check_sources(spec: GeneratorSpec) -> list[str]:
    """Every folder and hub id that a spec loads from; raises `ModelError` for one that is neither."""
    others = [weights.model for weights in spec.replaced.values()]
    for source in (spec.model, *others):
        if source == spec.model or not Path(source).is_file():
            hub.check_source(source, spec.name)
    for weights in spec.replaced.values():
        if weights.weight_name and Path(weights.model).is_dir() and not _file(weights).is_file():
            raise ModelError(f"{spec.name}: there is no file {_file(weights)}; correct weight_name")
    return [spec.model, *others]


def check_packages(spec: GeneratorSpec) -> None:
    """Raise `ModelError` for a setting whose package is missing, before anything large is loaded."""
    needed = [
        (f"{key} {value}", value.partition("-")[0], f"set {key}: none")
        for key, value in (("quantisation", spec.quantisation), ("text_quantisation", spec.text_quantisation))
        if value in _IN_BITS
    ]
    if any((weights.file or "").endswith(".gguf") for weights in spec.replaced.values()):
        needed.append(("a .gguf file", "gguf", "use a .safetensors file"))
    for what, package, otherwise in needed:
        if importlib.util.find_spec(package) is None:
            raise ModelError(
                f"{spec.name}: {what} needs the package {package}; install it with: pip install {package}, or "
                f"{otherwise}"
            )
    if spec.loras and importlib.util.find_spec("peft") is None:
        raise ModelError(f"{spec.name}: LoRAs need the package peft; install it with: pip install 'topcoat[lora]'")


_IN_BITS = ("bitsandbytes-8bit", "bitsandbytes-4bit", "torchao-int8")
"""The quantisations that happen while weights are loaded."""


def quantisation_of(spec: GeneratorSpec, index: dict[str, Any]) -> Any:
    """By what setting the pipeline of ``index`` (model_index.json) loads networks quantised; None if none are."""
    import diffusers
    import transformers

    dtype = getattr(torch, spec.dtype)
    mapping: dict[str, Any] = {}
    if spec.quantisation in _IN_BITS:
        mapping |= dict.fromkeys(("transformer", "unet"), network_quantisation(spec.quantisation, dtype))
    if spec.text_quantisation in _IN_BITS:
        encoders = [name for name in index if name.startswith("text_encoder")]
        mapping |= dict.fromkeys(encoders, network_quantisation(spec.text_quantisation, dtype, library=transformers))
    return diffusers.PipelineQuantizationConfig(quant_mapping=mapping) if mapping else None


def network_quantisation(kind: str, dtype: torch.dtype, library: Any = None) -> Any:
    """How one network is quantised, in the words of its library: diffusers, or transformers."""
    import diffusers

    library = library or diffusers
    if kind == "bitsandbytes-8bit":
        return library.BitsAndBytesConfig(load_in_8bit=True)
    if kind == "bitsandbytes-4bit":
        return library.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    from torchao.quantization import Int8WeightOnlyConfig  # pyright: ignore[reportMissingImports]

    return library.TorchAoConfig(Int8WeightOnlyConfig())
