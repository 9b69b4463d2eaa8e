"""What heads give: the embedded ones on fixed inputs, and every kind with seeded weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.oracles.golden import Golden, digest_of_tensors, projections, sums_of_tensors
from tests.oracles.inputs import dulled, portraits
from topcoat.generators.presets import model_pair
from topcoat.generators.vae import load_vae
from topcoat.heads.head import Head
from topcoat.heads.kinds import parse_head_config

# Adapters: change these with the library, never the golden values.

EMBEDDED_NAMES = {"image": "embedded", "decoder": "embedded-decoder", "refiner": "embedded-refiner"}
"""Their names in the golden values, and the library's."""


def embedded(name: str) -> Head:
    return Head.load(EMBEDDED_NAMES[name])


def weights(head: Head) -> list[Tensor]:
    return list(head.network.state_dict().values())


def inputs_of(head: Head) -> Tensor:
    """Two fixed images, or their latents by the mini pair's VAE."""
    images = dulled(portraits(2, seed=11, size_px=96))
    if head.input == "image":
        return images
    with torch.no_grad():
        return load_vae(model_pair("mini").distilled).encoder(images)


def apply(head: Head, inputs: Tensor, strength: float) -> Tensor:
    return head(inputs, strength)


def seeded(kind: str) -> Head:
    """A small head of a kind whose initial weights come from seed 0, moved a little so that none gives nothing."""
    vae = load_vae(model_pair("mini").distilled).decoder
    latent = {"vae": vae.config, "latent_channels": vae.latent_channels, "vae_scale": vae.scale, "channels": (16, 16)}
    settings: Mapping[str, dict[str, Any]] = {
        "cyclegan": {"base_channels": 8, "blocks": 2},
        "esa-cyclegan": {"base_channels": 8, "blocks": 2},
        "latent-unet": latent,
        "refiner": {"latent": latent},
    }
    config = parse_head_config({"kind": kind, **settings.get(kind, {})}, source="the oracle")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = config.build()
        for parameter in network.parameters():
            parameter.data.add_(torch.randn(parameter.shape) * 0.01)
    return Head(network, config)


def default_sizes(kind: str) -> dict[str, Any]:
    """Parameters, granularity and GFLOP at 512 x 512 of a kind with its default settings."""
    config = parse_head_config({"kind": kind}, source="the oracle")
    return {
        "parameters": config.parameters(),
        "size_multiple": config.size_multiple,
        "smallest_px": config.smallest_px,
        "input": config.input,
        "strength": config.has_strength,
        "flop": config.flops(512, 512),
    }


EMBEDDED = {"image": (0.0, 0.5, 1.0, 2.0), "decoder": (1.0,), "refiner": (0.0, 0.5, 1.0)}
"""Names and the strengths at which they are run."""
ALL_KINDS = ("cyclegan", "decoder", "esa-cyclegan", "latent-unet", "nafnet", "refiner", "unet")
NEED_A_VAE = ("latent-unet", "refiner")
"""Kinds without a size of their own until training has given them the distilled model's VAE."""


# Oracles


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded(golden: Golden, name: str) -> None:
    head = embedded(name)
    inputs = inputs_of(head)
    for strength in EMBEDDED[name]:
        golden.close(f"{name} at {strength}", projections(apply(head, inputs, strength)), abs=1e-4)
    golden.close(f"{name} odd size", projections(apply(head, inputs[..., :-3, :-1], 1.0)), abs=1e-4)
    golden.exact(f"{name} weights", digest_of_tensors(weights(head)))


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_seeded(golden: Golden, kind: str) -> None:
    head = seeded(kind)
    golden.close(f"{kind} initial weights", sums_of_tensors(weights(head)))
    golden.close(f"{kind} output", projections(apply(head, _given(head), 1.0)), abs=1e-4)


def _given(head: Head) -> Tensor:
    return inputs_of(head)[..., :64, :64]


@pytest.mark.parametrize("kind", [kind for kind in ALL_KINDS if kind not in NEED_A_VAE])
def test_sizes_of_the_defaults(golden: Golden, kind: str) -> None:
    golden.exact(f"{kind} sizes", default_sizes(kind))
