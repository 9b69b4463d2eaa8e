"""Optional first stage: put the package's own networks into the work folder, so that training goes on from them.

The autoencoder and the text encoders stand where their stages would leave them; the baseline's weights become the
start of the stage `baseline`, with the count of images that they have seen.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderDC, FluxTransformer2DModel

from recipes.mini.recipe import Workshop
from recipes.mini.text_encoders import TextEncoders
from topcoat.embedded import MINI
from topcoat.files import read_json, write_json


def restore(shop: Workshop) -> None:
    """Write what the package holds, in float32; parts that the work folder has already are left alone."""
    figures = read_json(MINI / "card.json")["figures"]
    pipeline = MINI / "pipeline"
    if not shop.text.exists():
        TextEncoders.load(pipeline).float().save(shop.text)
        write_json(shop.text / "figures.json", figures["text"])
    if not shop.autoencoder.exists():
        autoencoder = AutoencoderDC.from_pretrained(pipeline / "vae", torch_dtype=torch.float32)
        autoencoder.save_pretrained(shop.autoencoder)
        write_json(shop.autoencoder / "figures.json", figures["vae"])
    if not shop.baseline_start.exists():
        transformer = FluxTransformer2DModel.from_pretrained(pipeline / "transformer", torch_dtype=torch.float32)
        transformer.save_pretrained(shop.baseline_start / "transformer")
        write_json(shop.baseline_start / "figures.json", figures["baseline"])
    print(f"{shop.root}: the package's text encoders, autoencoder and baseline")
