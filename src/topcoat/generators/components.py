"""Loaded parts that several models share."""

from __future__ import annotations

from typing import Any

from topcoat.generators.base import GeneratorSpec

_OWN_PARTS = ("transformer", "scheduler")


class ComponentCache:
    """Loaded text encoders, tokenizers and VAEs, kept so that two specs of one `model` load them once.

    Nothing is shared between specs that offload: each offloading pipeline moves its parts for itself.
    """

    def __init__(self) -> None:
        self._parts: dict[tuple[str | None, ...], dict[str, Any]] = {}

    def get(self, spec: GeneratorSpec) -> dict[str, Any]:
        """What is loaded already for this spec; empty if nothing is."""
        return dict(self._parts.get(self._key(spec), {})) if spec.offload == "none" else {}

    def keep(self, spec: GeneratorSpec, components: dict[str, Any]) -> None:
        """Remember everything but the transformer and the scheduler, which are each model's own."""
        if spec.offload == "none":
            shared = {name: part for name, part in components.items() if name not in _OWN_PARTS and part is not None}
            self._parts[self._key(spec)] = shared

    @staticmethod
    def _key(spec: GeneratorSpec) -> tuple[str | None, ...]:
        return (spec.model, spec.revision, spec.dtype, spec.device)
