"""Loading one pipeline: another scheduler, LoRAs, quantised weights, and parts that are loaded already."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from topcoat import hub
from topcoat.errors import ModelError, UsageError
from topcoat.generators.base import GeneratorSpec, LoraSpec, SchedulerSpec
from topcoat.generators.families import Family, family_named
from topcoat.generators.placement import ComponentCache, device_of


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep the notices and loading bars of diffusers and transformers off the terminal; download bars stay."""
    from diffusers.utils import logging as diffusers_logging
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    before = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    downloads = not are_progress_bars_disabled()
    try:
        for library in libraries:
            library.set_verbosity_error()
            library.disable_progress_bar()
        if downloads:  # transformers has just switched these off too
            enable_progress_bars()
        yield
    finally:
        for library, (verbosity, bars) in zip(libraries, before, strict=True):
            library.set_verbosity(verbosity)
            if bars and (downloads or library is diffusers_logging):
                library.enable_progress_bar()


def load_pipeline(spec: GeneratorSpec, cache: ComponentCache) -> tuple[Any, Family]:
    """The diffusers pipeline of ``spec``, not yet in its place, and its family; raises as `load_generator` says."""
    import diffusers

    device_of(spec)
    sources = [source for source in (spec.model, spec.transformer) if source is not None]
    for source in sources:
        hub.check_source(source, spec.name)
    _check_packages(spec)
    family = _family(spec)
    family.check(spec)
    dtype = getattr(torch, spec.dtype)
    quantised = {} if spec.quantisation == "none" else {"quantization_config": _quantisation(spec)}
    try:
        parts = {} if spec.transformer is None else _own_parts(spec, dtype)
        folder = _folder(spec, parts | dict(family.load_arguments))
        parts = cache.get(spec, folder) | parts
        pipeline: Any = diffusers.DiffusionPipeline.from_pretrained(
            folder,
            variant=spec.variant,
            dtype=dtype,
            use_safetensors=True,
            **family.load_arguments,
            **quantised,
            **parts,
        )
    except Exception as error:  # diffusers, transformers and the hub raise a dozen types for a model that will not load
        raise ModelError(hub.load_error(error, spec.name, *sources, licence=spec.licence.name)) from error
    cell_px = pipeline.vae_scale_factor * family.packing
    if spec.width_px % cell_px or spec.height_px % cell_px:
        raise UsageError(
            f"{spec.name} has no size {spec.width_px}x{spec.height_px}; width and height must be multiples of {cell_px}"
        )
    if spec.scheduler is not None:
        pipeline.scheduler = _scheduler(spec.scheduler, pipeline.scheduler)
    if spec.loras:
        _add_loras(spec, pipeline)
    if spec.vae_tiling:
        _tile(spec, pipeline.vae)
    pipeline.set_progress_bar_config(disable=True)
    cache.add(spec, folder, pipeline.components)
    return pipeline, family


def _family(spec: GeneratorSpec) -> Family:
    """The family of ``spec.model`` by its model_index.json, before anything large is fetched or loaded."""
    import diffusers

    try:
        index: Any = diffusers.DiffusionPipeline.load_config(spec.model, revision=spec.revision)
    except Exception as error:  # as in load_pipeline
        raise ModelError(hub.load_error(error, spec.name, spec.model, licence=spec.licence.name)) from error
    return family_named(str(index.get("_class_name")), spec.model)


def _folder(spec: GeneratorSpec, parts: dict[str, Any]) -> Path:
    """The folder of a pipeline; from the hub it is fetched first, without the networks that ``parts`` replaces."""
    import diffusers

    if Path(spec.model).is_dir():
        return Path(spec.model)
    download: Any = diffusers.DiffusionPipeline.download
    return Path(download(spec.model, revision=spec.revision, variant=spec.variant, use_safetensors=True, **parts))


def _tile(spec: GeneratorSpec, vae: Any) -> None:
    """Have a VAE work in tiles; `UsageError` for one that cannot."""
    try:
        vae.enable_tiling()
    except (AttributeError, NotImplementedError):
        raise UsageError(f"{spec.name}: its VAE, a {type(vae).__name__}, has no tiles; remove vae_tiling") from None


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
        parts["scheduler"] = getattr(diffusers, config["_class_name"]).from_config(config)
    return parts


def _scheduler(wanted: SchedulerSpec, current: Any) -> Any:
    """The scheduler that ``wanted`` names, with the settings of ``current`` and its own; raises `UsageError`."""
    import diffusers

    scheduler_class: Any = getattr(diffusers, wanted.name, None)
    if not (inspect.isclass(scheduler_class) and issubclass(scheduler_class, diffusers.SchedulerMixin)):
        raise UsageError(
            f"diffusers has no scheduler {wanted.name!r}; use the name of one of its classes, such as "
            f"{type(current).__name__}"
        )
    known = [name for name in inspect.signature(scheduler_class.__init__).parameters if name not in ("self", "kwargs")]
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
    except Exception as error:  # errors of the hub, and whatever a LoRA of another model raises
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
