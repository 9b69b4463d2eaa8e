"""Loading one pipeline: another scheduler, LoRAs, quantised weights, and parts that are loaded already."""

from __future__ import annotations

import contextlib
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
from topcoat.generators.speed import tune
from topcoat.generators.weights import check_packages, check_sources, quantisation_of, replacements


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
    sources = check_sources(spec)
    check_packages(spec)
    index = _model_index(spec)
    family = family_named(str(index.get("_class_name")), spec.model)
    family.check(spec)
    dtype = getattr(torch, spec.dtype)
    quantisation = quantisation_of(spec, index)
    quantised = {} if quantisation is None else {"quantization_config": quantisation}
    try:
        parts = replacements(spec, family)
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
    check_size(spec, pipeline, family)
    if spec.scheduler is not None:
        pipeline.scheduler = _scheduler(spec.scheduler, pipeline.scheduler)
    if spec.loras:
        _add_loras(spec, pipeline)
    if spec.vae_tiling:
        _tile(spec, pipeline.vae)
    _check_noise_levels(spec, pipeline)
    tune(getattr(pipeline, family.denoiser), pipeline, spec)
    pipeline.set_progress_bar_config(disable=True)
    cache.add(spec, folder, pipeline.components)
    return pipeline, family


def check_size(spec: GeneratorSpec, pipeline: Any, family: Family) -> None:
    """Raise `UsageError` for a size that this pipeline cannot make."""
    cell_px = pipeline.vae_scale_factor * family.packing
    if spec.width_px % cell_px or spec.height_px % cell_px:
        raise UsageError(
            f"{spec.name} has no size {spec.width_px}x{spec.height_px}; width and height must be multiples of {cell_px}"
        )


def _model_index(spec: GeneratorSpec) -> dict[str, Any]:
    """The model_index.json of ``spec.model``, before anything large is fetched or loaded."""
    import diffusers

    try:
        index: Any = diffusers.DiffusionPipeline.load_config(spec.model, revision=spec.revision)
    except Exception as error:  # as in load_pipeline
        raise ModelError(hub.load_error(error, spec.name, spec.model, licence=spec.licence.name)) from error
    return index


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


def _check_noise_levels(spec: GeneratorSpec, pipeline: Any) -> None:
    """Raise `UsageError` for noise levels that the pipeline or its scheduler does not take."""
    for name, levels in (("sigmas", spec.sigmas), ("timesteps", spec.timesteps)):
        if levels is None:
            continue
        for taker, call in (
            (pipeline, type(pipeline).__call__),
            (pipeline.scheduler, pipeline.scheduler.set_timesteps),
        ):
            if name not in inspect.signature(call).parameters:
                raise UsageError(f"{spec.name}: {type(taker).__name__} takes no {name}; remove them or use another one")


def _add_loras(spec: GeneratorSpec, pipeline: Any) -> None:
    names = [f"lora_{number}" for number in range(len(spec.loras))]
    try:
        for name, lora in zip(names, spec.loras, strict=True):
            folder, file = _lora_source(lora)
            pipeline.load_lora_weights(
                folder, weight_name=file, revision=lora.revision, adapter_name=name, use_safetensors=True
            )
        pipeline.set_adapters(names, adapter_weights=[lora.scale for lora in spec.loras])
        if spec.fuse_loras:
            pipeline.fuse_lora(adapter_names=names)
            pipeline.unload_lora_weights()
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
