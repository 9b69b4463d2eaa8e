"""The embedded mini pair: where it lies in this installation, and the names of its heads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

MINI = Path(__file__).resolve().parent / "assets" / "mini"
"""``pair.json`` (the model pair), ``pipeline/`` and ``distilled/`` (its networks), ``features/loss`` and
``features/eval`` (the feature nets), the folders of `EMBEDDED_HEADS`, and ``card.json`` (how all of it was made, with
digests)."""

DEFAULT_HEAD = "embedded"
EMBEDDED_HEADS: Mapping[str, str] = {
    DEFAULT_HEAD: "head",
    "embedded-decoder": "decoder",
    "embedded-refiner": "refiner",
}
"""Names of the embedded heads and their folders in `MINI`. The default changes images; the refiner does too, then sends
the result through the VAE and corrects it there; the decoder decodes latents, in place of the VAE."""
MINI_NAME = "embedded mini pair"
"""What pictures say of the model that made them."""


def name_of_head(name: str) -> str:
    """What to call a head in a file: a hub id as it is, a folder by its name, which tells nothing of where it lies."""
    return Path(name).resolve().name if Path(name).is_dir() else name


def name_of_model(model: str) -> str:
    """A hub id as it is, a folder or file by its name: an image should not tell where its maker keeps files."""
    return Path(model).name if Path(model).exists() else model
