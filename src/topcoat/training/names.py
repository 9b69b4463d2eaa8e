"""The named runs, each with what it trains; the command line reads them without importing torch."""

from __future__ import annotations

from collections.abc import Mapping

RUN_NAMES: Mapping[str, str] = {
    "unet": "U-Net on pairs: losses, an adversary, then whole images and the set of outputs",
    "decoder": "decodes latents in place of the VAE; trained as unet",
    "refiner": "the unet run, then its images through the VAE, corrected in the latents",
    "latent-unet": "changes latents before the VAE decodes them; the unet run teaches it first",
    "paper-unet": "the paper's paired head: GRAD(x, z) + perceptual(y, z)",
    "paper-cyclegan": "CycleGAN with its authors' settings, unpaired",
    "paper-esa": "the same with ESA attention",
    "debug": "seconds, every loss: to try a set-up",
}
"""Name and one line on each; `topcoat.training.runs` has their settings."""

STUDY_RUNS = tuple(name for name in RUN_NAMES if name != "debug")
"""What the paper's study trains: its three heads, and ours. A run comes after those that it goes on from."""
