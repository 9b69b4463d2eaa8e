"""Loaded parts that several models share."""

from __future__ import annotations

from typing import Any

from topcoat.generators.base import GeneratorSpec

_OWN_PARTS = ("transformer", "unet", "scheduler")


class ComponentCache:
    """Loaded text encoders, tokenizers and VAEs, kept so that two specs of one `model` load them once.

    Nothing is shared between specs that offload, because each offloading pipeline moves its parts for itself, nor with
    one that has LoRAs, because those may change the text encoders too.
    """

    def __init__(self) -> None:
        self._parts: dict[tuple[str | None, ...], dict[str, Any]] = {}

    def get(self, spec: GeneratorSpec) -> dict[str, Any]:
        """What is loaded already for this spec; empty if nothing is."""
        return dict(self._parts.get(self._key(spec), {})) if _shares(spec) else {}

    def keep(self, spec: GeneratorSpec, components: dict[str, Any]) -> None:
        """Remember everything but the denoiser and the scheduler, which are each model's own."""
        if _shares(spec):
            shared = {name: part for name, part in components.items() if name not in _OWN_PARTS and part is not None}
            self._parts[self._key(spec)] = shared

    @staticmethod
    def _key(spec: GeneratorSpec) -> tuple[str | None, ...]:
        return (spec.model, spec.revision, spec.variant, spec.dtype, spec.device)


def _shares(spec: GeneratorSpec) -> bool:
    return spec.offload == "none" and not spec.loras
