"""topcoat's nodes for ComfyUI; `comfy_entrypoint` is what ComfyUI calls."""

from .topcoat_nodes import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
