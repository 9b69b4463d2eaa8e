"""A pipeline's VAE in two halves: latents to images, and images to latents as the denoiser leaves them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from topcoat import hub
from topcoat.errors import ModelError, UsageError
from topcoat.generators.base import GeneratorSpec
from topcoat.generators.families import FAMILIES
from topcoat.generators.latents import decode, encode, from_vae, to_vae
from topcoat.generators.loading import quiet_libraries

_ENCODING = ("encoder", "quant_conv")
_DECODING = ("decoder", "post_quant_conv")


class VaeDecoder(nn.Module):
    """Maps latents ``(N, C, h, w)``, as the denoiser leaves them, to images ``(N, 3, scale h, scale w)`` about [0, 1].

    ``config`` is the VAE's config.json, with the name of its class as ``_class_name``. The weights are random until
    they are loaded, and frozen: the state is that of the VAE without its encoder. Raises `UsageError` for a class that
    is not in `vae_classes`.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.vae: Any = _without(_built(config), _ENCODING)

    @property
    def config(self) -> dict[str, Any]:
        """The VAE's settings as plain values, every one that its class has; equal for equal VAEs."""
        settings = {name: value for name, value in self.vae.config.items() if not name.startswith("_")}
        return {"_class_name": type(self.vae).__name__, **json.loads(json.dumps(settings))}

    @property
    def latent_channels(self) -> int:
        """C."""
        return channels_of(self.vae.config)

    @property
    def scale(self) -> int:
        """Pixels per latent along a side."""
        return scale_of(self.vae.config)

    def forward(self, latents: Tensor) -> Tensor:
        """The images of ``latents``, without bounds."""
        return decode(self.vae, to_vae(latents, self.vae)) / 2 + 0.5


class VaeEncoder(nn.Module):
    """Maps images ``(N, 3, H, W)`` in [0, 1] to latents ``(N, C, H / scale, W / scale)`` of the denoiser's scale.

    ``config`` is as for `VaeDecoder`, and so are the weights: random, frozen, and those of the VAE without its decoder.
    Where the VAE gives a distribution it is the mode.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.vae: Any = _without(_built(config), _DECODING)

    def forward(self, images: Tensor) -> Tensor:
        """The latents of ``images``."""
        return from_vae(encode(self.vae, images * 2 - 1), self.vae)


@dataclass(frozen=True, slots=True)
class Vae:
    """Both halves of one VAE, in float32."""

    encoder: VaeEncoder
    decoder: VaeDecoder

    @classmethod
    def of(cls, vae: Any) -> Vae:
        """The halves of a whole VAE of diffusers, which is left as it is."""
        config = {**vae.config, "_class_name": type(vae).__name__}
        encoder, decoder = VaeEncoder(config), VaeDecoder(config)
        for half, missing in ((encoder, _DECODING), (decoder, _ENCODING)):
            half.load_state_dict({f"vae.{name}": value for name, value in _state_without(vae, missing).items()})
        return cls(encoder, decoder)


def load_vae(spec: GeneratorSpec) -> Vae:
    """The VAE of the model that ``spec`` names, in float32 on the CPU; nothing else of the model is loaded.

    Raises `ModelError` for a model that cannot be loaded, `UsageError` for a VAE that is not supported.
    """
    import diffusers

    hub.check_source(spec.model, spec.name)
    folder: dict[str, Any] = {"subfolder": "vae", "revision": spec.revision}
    try:
        with quiet_libraries():
            config: Any = diffusers.AutoModel.load_config(spec.model, **folder)
            vae = _class_of(config).from_pretrained(spec.model, use_safetensors=True, **folder)
    except UsageError:
        raise
    except Exception as error:  # as in load_pipeline
        raise ModelError(hub.load_error(error, spec.name, spec.model, licence=spec.licence.name)) from error
    return Vae.of(vae)


def vae_classes() -> tuple[str, ...]:
    """The VAEs of diffusers that are supported: those of the families, and small or deep ones in their place."""
    return tuple(sorted({"AutoencoderDC", "AutoencoderTiny", *(family.vae_class for family in FAMILIES.values())}))


def channels_of(config: Mapping[str, Any]) -> int:
    """Channels of the latents of the VAE with that config."""
    return int(config["latent_channels"] if "latent_channels" in config else config["z_dim"])


def scale_of(config: Mapping[str, Any]) -> int:
    """Pixels per latent along a side of the VAE with that config: every stage but the first doubles it."""
    if "temperal_downsample" in config:
        return 2 ** len(config["temperal_downsample"])
    stages = config.get("block_out_channels") or config["decoder_block_out_channels"]
    return 2 ** (len(stages) - 1)


def _class_of(config: Mapping[str, Any]) -> Any:
    import diffusers  # slow to import, and a head without a VAE does without

    name = config.get("_class_name")
    if name not in vae_classes():
        raise UsageError(f"the VAE is of class {name!r}, which is not supported; use one of {', '.join(vae_classes())}")
    return getattr(diffusers, name)


def _built(config: Mapping[str, Any]) -> nn.Module:
    vae_class = _class_of(config)
    with quiet_libraries():
        return vae_class.from_config(dict(config))


def _without(vae: nn.Module, parts: tuple[str, ...]) -> nn.Module:
    for part in parts:
        if hasattr(vae, part):
            setattr(vae, part, nn.Identity())  # not None: Qwen-Image's VAE counts the layers of both halves
    return vae.requires_grad_(False)


def _state_without(vae: nn.Module, parts: tuple[str, ...]) -> dict[str, Tensor]:
    return {name: value for name, value in vae.state_dict().items() if name.split(".", 1)[0] not in parts}
