"""Loading one pipeline: its own parts, another scheduler, LoRAs and quantised weights."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from typing import Any

import torch

from topcoat import hub
from topcoat.errors import ModelError, UsageError
from topcoat.generators.base import GeneratorSpec, LoraSpec, SchedulerSpec
from topcoat.generators.components import ComponentCache
from topcoat.generators.families import FAMILIES, Family


def load_pipeline(spec: GeneratorSpec, cache: ComponentCache | None) -> tuple[Any, Family]:
    """The diffusers pipeline of ``spec``, not yet on a device, and its family; raises as `load_generator` says."""
    import diffusers

    for source in _sources(spec):
        hub.check_source(source, spec.name)
    _check_packages(spec)
    dtype = getattr(torch, spec.dtype)
    parts = {} if cache is None else cache.get(spec)
    quantised = {} if spec.quantisation == "none" else {"quantization_config": _quantisation(spec)}
    try:
        if spec.transformer is not None:
            parts |= _own_parts(spec, dtype)
        pipeline: Any = diffusers.DiffusionPipeline.from_pretrained(
            spec.model,
            revision=spec.revision,
            variant=spec.variant,
            dtype=dtype,
            use_safetensors=True,
            **quantised,
            **parts,
        )
    except Exception as error:  # diffusers, transformers and the hub raise a dozen types; each means "cannot be had"
        raise ModelError(hub.load_error(error, spec.name, *_sources(spec), licence=spec.licence.name)) from error
    family = FAMILIES.get(type(pipeline).__name__)
    if family is None:
        kind, names = type(pipeline).__name__, ", ".join(FAMILIES)
        raise ModelError(f"{spec.model} is a {kind}, which is not supported; use one of: {names}")
    family.check(spec)
    if spec.scheduler is not None:
        pipeline.scheduler = _scheduler(spec.scheduler, pipeline.scheduler)
    if spec.loras:
        _add_loras(spec, pipeline)
    return pipeline, family


def _sources(spec: GeneratorSpec) -> list[str]:
    return [source for source in (spec.model, spec.transformer) if source is not None]


def _own_parts(spec: GeneratorSpec, dtype: torch.dtype) -> dict[str, Any]:
    """The transformer of ``spec.transformer`` and, where it has one, its scheduler."""
    import diffusers

    source = str(spec.transformer)
    quantised = {} if spec.quantisation == "none" else {"quantization_config": _weights_config(spec)}
    parts: dict[str, Any] = {
        "transformer": diffusers.AutoModel.from_pretrained(
            source, subfolder="transformer", dtype=dtype, use_safetensors=True, **quantised
        )
    }
    if not Path(source).is_dir() or (Path(source) / "scheduler").is_dir():
        config: Any = diffusers.FlowMatchEulerDiscreteScheduler.load_config(source, subfolder="scheduler")
        kind = getattr(diffusers, config["_class_name"])
        parts["scheduler"] = kind.from_config(config)
    return parts


def _scheduler(wanted: SchedulerSpec, current: Any) -> Any:
    """The scheduler that ``wanted`` names, with the settings of ``current`` and its own; raises `UsageError`."""
    import diffusers

    kind: Any = getattr(diffusers, wanted.name, None)
    if not (inspect.isclass(kind) and issubclass(kind, diffusers.SchedulerMixin)):
        raise UsageError(
            f"diffusers has no scheduler {wanted.name!r}; use the name of one of its classes, such as "
            f"{type(current).__name__}"
        )
    known = [name for name in inspect.signature(kind.__init__).parameters if name not in ("self", "kwargs")]
    unknown = [name for name in wanted.config if name not in known]
    if unknown:
        raise UsageError(f"{wanted.name} has no setting {unknown[0]!r}; use one of: {', '.join(known)}")
    return getattr(diffusers, wanted.name).from_config(current.config, **wanted.config)


def _add_loras(spec: GeneratorSpec, pipeline: Any) -> None:
    names = [f"lora_{number}" for number in range(len(spec.loras))]
    try:
        for name, lora in zip(names, spec.loras, strict=True):
            folder, file = _lora_source(lora)
            pipeline.load_lora_weights(
                folder, weight_name=file, revision=lora.revision, adapter_name=name, use_safetensors=True
            )
        pipeline.set_adapters(names, adapter_weights=[lora.scale for lora in spec.loras])
    except Exception as error:  # the hub's errors and what a LoRA of another model raises, each "cannot be had"
        raise ModelError(_lora_sentence(spec, error)) from error


def _lora_source(lora: LoraSpec) -> tuple[str, str | None]:
    """A folder or hub id, and the file in it."""
    path = Path(lora.model)
    return (str(path.parent), path.name) if path.is_file() else (lora.model, lora.weight_name)


def _lora_sentence(spec: GeneratorSpec, error: BaseException) -> str:
    sources = ", ".join(lora.model for lora in spec.loras)
    if all(Path(lora.model).exists() for lora in spec.loras):
        reason = hub.first_line(error)
        return f"{spec.name}: the LoRA {sources} does not fit this model ({reason}); use one made for {spec.model}"
    return hub.load_error(error, f"the LoRA of {spec.name}", spec.loras[0].model, licence=spec.licence.name)


def _check_packages(spec: GeneratorSpec) -> None:
    """Raise `ModelError` for a setting whose package is missing, before anything large is loaded."""
    package = spec.quantisation.partition("-")[0]
    if spec.quantisation != "none" and importlib.util.find_spec(package) is None:
        raise ModelError(
            f"{spec.name}: quantisation {spec.quantisation} needs the package {package}; install it with: "
            f"pip install {package}, or set quantisation: none"
        )
    if spec.loras and importlib.util.find_spec("peft") is None:
        raise ModelError(f"{spec.name}: LoRAs need the package peft; install it with: pip install 'topcoat[lora]'")


def _quantisation(spec: GeneratorSpec) -> Any:
    """The pipeline's setting by which its denoiser is loaded quantised, and nothing else is."""
    import diffusers

    weights = _weights_config(spec)
    return diffusers.PipelineQuantizationConfig(quant_mapping={"transformer": weights, "unet": weights})


def _weights_config(spec: GeneratorSpec) -> Any:
    import diffusers

    if spec.quantisation == "bitsandbytes-8bit":
        return diffusers.BitsAndBytesConfig(load_in_8bit=True)
    if spec.quantisation == "bitsandbytes-4bit":
        return diffusers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=getattr(torch, spec.dtype)
        )
    from torchao.quantization import Int8WeightOnlyConfig  # pyright: ignore[reportMissingImports]

    return diffusers.TorchAoConfig(Int8WeightOnlyConfig())
