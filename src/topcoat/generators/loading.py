"""Loading one pipeline: shared parts, another scheduler, LoRAs, quantised weights, and its place on a device."""

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

_OWN_PARTS = ("transformer", "unet", "scheduler")


class ComponentCache:
    """Loaded text encoders, tokenizers and VAEs, so that two specs of one `model` load them once.

    Specs that offload share nothing, because each offloading pipeline moves its parts by itself; nor do specs with
    LoRAs, which may change the text encoders too.
    """

    def __init__(self) -> None:
        self._parts: dict[tuple[str | None, ...], dict[str, Any]] = {}

    def get(self, spec: GeneratorSpec) -> dict[str, Any]:
        """The parts that are loaded for this spec already."""
        return dict(self._parts.get(self._key(spec), {})) if self._shares(spec) else {}

    def add(self, spec: GeneratorSpec, components: dict[str, Any]) -> None:
        """Remember every part but the denoiser and the scheduler, which each model has for itself."""
        if self._shares(spec):
            shared = {name: part for name, part in components.items() if name not in _OWN_PARTS and part is not None}
            self._parts[self._key(spec)] = shared

    @staticmethod
    def _key(spec: GeneratorSpec) -> tuple[str | None, ...]:
        return (spec.model, spec.revision, spec.variant, spec.dtype, spec.device)

    @staticmethod
    def _shares(spec: GeneratorSpec) -> bool:
        return spec.offload == "none" and not spec.loras


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


def load_pipeline(spec: GeneratorSpec, cache: ComponentCache | None) -> tuple[Any, Family]:
    """The diffusers pipeline of ``spec`` on its device, and its family; raises as `load_generator` says."""
    import diffusers

    device_of(spec)
    sources = [source for source in (spec.model, spec.transformer) if source is not None]
    for source in sources:
        hub.check_source(source, spec.name)
    _check_packages(spec)
    family = _family(spec)
    family.check(spec)
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
    pipeline.set_progress_bar_config(disable=True)
    place(pipeline, spec)
    if cache is not None:
        cache.add(spec, pipeline.components)
    return pipeline, family


def _family(spec: GeneratorSpec) -> Family:
    """The family of ``spec.model`` by its model_index.json, before anything large is fetched or loaded."""
    import diffusers

    try:
        index: Any = diffusers.DiffusionPipeline.load_config(spec.model, revision=spec.revision)
    except Exception as error:  # as in load_pipeline
        raise ModelError(hub.load_error(error, spec.name, spec.model, licence=spec.licence.name)) from error
    return family_named(str(index.get("_class_name")), spec.model)


def place(pipeline: Any, spec: GeneratorSpec) -> None:
    """Move a pipeline to the spec's device, or have each part moved there when it runs."""
    device = device_of(spec)
    if spec.offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif spec.offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.to(device)


def device_of(spec: GeneratorSpec) -> torch.device:
    """The device that ``spec`` names; raises `UsageError` for one that is unknown or not here."""
    if spec.device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(spec.device)
    except RuntimeError:
        raise UsageError(f"device {spec.device!r} is unknown; use auto, cpu, cuda, cuda:1 or mps") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device {spec.device!r} is not here; {torch.cuda.device_count()} CUDA devices are, use auto")
    return device


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
