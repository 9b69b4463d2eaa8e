"""Heads inside other programs: `topcoat.integrations.diffusers` and `topcoat.integrations.spandrel`.

Each module imports its program at the top, so it is imported where that program is used and nowhere else. The nodes for
ComfyUI are a package of their own, ``integrations/comfyui`` of the repository.
"""
