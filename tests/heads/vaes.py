"""Settings of a tiny VAE of diffusers, 4 pixels per latent along a side, and of every kind of head."""

from __future__ import annotations

from typing import Any

TINY_VAE: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [8, 8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 4,
}


def settings_of(kind: str) -> dict[str, Any]:
    """The settings that a kind of head cannot do without."""
    latent = {"vae": TINY_VAE, "latent_channels": 4, "vae_scale": 4}
    needed: dict[str, Any] = {"latent-unet": latent, "refiner": {"latent": latent}}
    return {"kind": kind, **needed.get(kind, {})}
