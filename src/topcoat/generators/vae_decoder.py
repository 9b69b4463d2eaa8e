"""The decoding half of a pipeline's VAE as one network: latents in, images out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import diffusers
from torch import Tensor, nn

from topcoat.errors import ModelError, UsageError
from topcoat.generators.base import GeneratorSpec
from topcoat.generators.hub_errors import check_folder, load_sentence
from topcoat.generators.latents import to_vae
from topcoat.generators.quiet import quiet_libraries

CLASSES = ("AutoencoderDC", "AutoencoderKL", "AutoencoderKLFlux2", "AutoencoderTiny")
"""VAEs of diffusers that can be built here."""
_ENCODING = ("encoder", "quant_conv")


class VaeDecoder(nn.Module):
    """Maps latents ``(N, C, h, w)``, as the denoiser leaves them, to images ``(N, 3, scale h, scale w)`` about [0, 1].

    ``config`` is the VAE's config.json, with the name of its class as ``_class_name``. The weights are random until
    they are loaded, and frozen: the state is that of the VAE without its encoder. Raises `UsageError` for a config of
    no VAE in `CLASSES`.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        name = config.get("_class_name")
        if name not in CLASSES:
            raise UsageError(f"the VAE is of class {name!r}, which is not supported; use one of {', '.join(CLASSES)}")
        with quiet_libraries():
            self.vae: Any = getattr(diffusers, name).from_config(dict(config))
        self._drop_encoder()

    @classmethod
    def of(cls, vae: nn.Module) -> VaeDecoder:
        """The decoding half of a whole VAE, in float32; the VAE is taken apart."""
        decoder = cls.__new__(cls)
        nn.Module.__init__(decoder)
        decoder.vae = vae.float()
        decoder._drop_encoder()
        return decoder

    @property
    def config(self) -> dict[str, Any]:
        """The VAE's settings as plain values, every one that its class has; equal for equal VAEs."""
        settings = {name: value for name, value in self.vae.config.items() if not name.startswith("_")}
        return {"_class_name": type(self.vae).__name__, **json.loads(json.dumps(settings))}

    @property
    def latent_channels(self) -> int:
        """C."""
        return int(self.vae.config.latent_channels)

    @property
    def scale(self) -> int:
        """Pixels per latent along a side: every stage but the first doubles it."""
        config = self.vae.config
        for name in ("block_out_channels", "decoder_block_out_channels"):
            if name in config:
                return 2 ** (len(config[name]) - 1)
        raise UsageError(f"the VAE {type(self.vae).__name__} does not say how many stages it has")

    def forward(self, latents: Tensor) -> Tensor:
        """The images of ``latents``, without bounds."""
        return self.vae.decode(to_vae(latents, self.vae), return_dict=False)[0] / 2 + 0.5

    def _drop_encoder(self) -> None:
        for part in _ENCODING:
            if hasattr(self.vae, part):
                setattr(self.vae, part, None)
        self.requires_grad_(False)


def load_vae_decoder(spec: GeneratorSpec) -> VaeDecoder:
    """The decoder of the model that ``spec`` names, in float32 on the CPU; nothing else of the model is loaded.

    Raises `ModelError` for a model that cannot be had, `UsageError` for a VAE that is not supported.
    """
    check_folder(spec.model, spec)
    place = {"subfolder": "vae", "revision": spec.revision}
    try:
        with quiet_libraries():
            config: Any = diffusers.AutoModel.load_config(spec.model, **place)
            name = config["_class_name"]
            vae = getattr(diffusers, name).from_pretrained(spec.model, use_safetensors=True, **place)
    except Exception as error:  # as in load_pipeline: each of a dozen types means "cannot be had"
        raise ModelError(load_sentence(spec, error)) from error
    if name not in CLASSES:
        raise UsageError(f"the VAE is of class {name!r}, which is not supported; use one of {', '.join(CLASSES)}")
    return VaeDecoder.of(vae)
