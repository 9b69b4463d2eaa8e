"""Where the embedded mini pair lies in this installation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

MINI = Path(__file__).resolve().parent / "assets" / "mini"
"""``pair.json`` (the model pair), ``pipeline/`` and ``distilled/`` (its networks), ``features/loss`` and
``features/eval`` (the feature nets), ``head/``, ``decoder/`` and ``refiner/`` (see `EmbeddedHead`), and
``card.json`` (how all of it was made, with digests)."""

EmbeddedHead = Literal["image", "decoder", "refiner"]
"""``image`` changes images; ``refiner`` does too, then goes through the VAE and corrects the result there. ``decoder``
decodes latents itself, in place of the VAE."""

HEAD_FOLDERS: Mapping[EmbeddedHead, str] = {"image": "head", "decoder": "decoder", "refiner": "refiner"}
"""Names of the heads' folders in it."""
