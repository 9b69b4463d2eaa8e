"""Where the embedded mini pair lies in this installation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

MINI = Path(__file__).resolve().parent / "assets" / "mini"
"""``pair.json`` (the model pair), ``pipeline/`` and ``distilled/`` (its networks), ``features/loss`` and
``features/eval`` (the feature nets), ``head/`` (it takes images), ``decoder/`` (it takes latents), and ``card.json``
(how all of it was made, with digests)."""

HEAD_FOLDERS: Mapping[str, str] = {"image": "head", "latent": "decoder"}
"""Names of the heads' folders in it, by what the head takes."""
