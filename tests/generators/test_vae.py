from __future__ import annotations

from pathlib import Path

import pytest
import torch

from topcoat.errors import ModelError
from topcoat.generators.base import GeneratorSpec
from topcoat.generators.diffusers import load_generator
from topcoat.generators.latents import from_vae
from topcoat.generators.vae import VaeDecoder, load_vae

pytestmark = pytest.mark.filterwarnings(  # diffusers' Euler schedulers hand a tensor to numpy in an old way
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


@pytest.mark.parametrize("family", ["flux2-klein", "sdxl", "z-image"])
def test_it_decodes_as_the_pipeline_does(family_specs: dict[str, GeneratorSpec], family: str) -> None:
    spec = family_specs[family]
    decoder, generator = load_vae(spec).decoder, load_generator(spec)
    latents = generator.generate_latents(["a portrait"], [3])
    assert decoder.latent_channels == latents.shape[1]
    assert decoder.scale * latents.shape[2] == spec.height_px
    torch.testing.assert_close(decoder(latents).clamp(0, 1), generator.decode(latents))


@pytest.mark.parametrize("family", ["flux2-klein", "sdxl", "z-image"])
def test_it_encodes_as_the_whole_vae_does(family_specs: dict[str, GeneratorSpec], family: str) -> None:
    spec = family_specs[family]
    images = torch.rand(2, 3, spec.height_px, spec.width_px)
    whole = load_generator(spec).pipeline.vae
    with torch.no_grad():
        expected = from_vae(whole.encode(images * 2 - 1).latent_dist.mode(), whole)
        torch.testing.assert_close(load_vae(spec).encoder(images), expected)


def test_its_settings_build_the_same_network(family_specs: dict[str, GeneratorSpec]) -> None:
    vae = load_vae(family_specs["flux2-klein"])
    again = VaeDecoder(vae.decoder.config)
    again.load_state_dict(vae.decoder.state_dict())
    latents = torch.randn(1, vae.decoder.latent_channels, 2, 4)
    assert torch.equal(again(latents), vae.decoder(latents)) and again.config == vae.decoder.config
    assert not any(name.startswith(("vae.encoder", "vae.quant_conv")) for name in again.state_dict())
    assert not any(name.startswith("vae.decoder") for name in vae.encoder.state_dict())
    assert not any(weight.requires_grad for half in (again, vae.encoder) for weight in half.parameters())


def test_a_model_that_cannot_be_had_is_named(family_specs: dict[str, GeneratorSpec], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no folder"):
        load_vae(family_specs["sdxl"].model_copy(update={"model": str(tmp_path / "none")}))
    with pytest.raises(ModelError, match="cannot be loaded from"):
        load_vae(family_specs["sdxl"].model_copy(update={"model": str(tmp_path)}))
