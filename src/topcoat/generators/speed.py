"""What makes a loaded denoiser faster or smaller: float8 weights, an attention backend, a step cache, compiling."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from topcoat import hub
from topcoat.errors import ModelError, UsageError
from topcoat.generators.base import GeneratorSpec, StepCacheSpec

ALONE = ("FirstBlockCacheConfig",)
"""Caches that look at the values of a whole batch: an image would depend on its neighbours, so each is made alone."""


def tune(denoiser: Any, pipeline: Any, spec: GeneratorSpec) -> None:
    """Set ``denoiser`` of ``pipeline`` up as the spec says.

    Raises `UsageError` for a setting that it does not have, `ModelError` for one that needs what is not here.
    """
    if spec.quantisation == "layerwise-float8":
        denoiser.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=getattr(torch, spec.dtype))
    if spec.attention_backend is not None:
        try:
            _set_attention_backend(denoiser, spec.attention_backend)
        except Exception as error:  # an unknown name, a package that is missing, a GPU that is too old
            reason = hub.first_line(error)
            raise ModelError(
                f"{spec.name}: the attention backend {spec.attention_backend} cannot be used ({reason}); choose "
                "another or remove attention_backend"
            ) from error
    if spec.step_cache is not None:
        denoiser.enable_cache(_cache(spec.step_cache, pipeline))
    if spec.compile:
        if getattr(denoiser, "_repeated_blocks", None):
            denoiser.compile_repeated_blocks(fullgraph=True)
        else:
            denoiser.compile()


def _set_attention_backend(denoiser: Any, backend: str) -> None:
    """Set it for this denoiser alone; diffusers makes it that of every later model too."""
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry

    usual, _ = _AttentionBackendRegistry.get_active_backend()
    try:
        denoiser.set_attention_backend(backend)
    finally:
        _AttentionBackendRegistry.set_active_backend(usual)


def _cache(wanted: StepCacheSpec, pipeline: Any) -> Any:
    import diffusers

    kind: Any = getattr(diffusers, wanted.name)
    known = [name for name in inspect.signature(kind).parameters if not name.startswith("_")]
    unknown = [name for name in wanted.config if name not in known]
    if unknown:
        raise UsageError(f"{wanted.name} has no setting {unknown[0]!r}; use one of: {', '.join(known)}")
    own: dict[str, Any] = {}
    if "current_timestep_callback" in known:
        own["current_timestep_callback"] = lambda: pipeline.current_timestep
    return kind(**wanted.config, **own)
