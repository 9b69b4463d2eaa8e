"""`Head`: one contract around every network that gives enhanced images.

A head folder holds ``config.json`` (format version, network settings, facts about the training),
``model.safetensors`` (the weights), ``README.md`` (the model card) and, where they were calibrated, ``gates.json``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from topcoat import hub
from topcoat.embedded import HEAD_FOLDERS, MINI, EmbeddedHead
from topcoat.errors import DataError, ModelError, UsageError
from topcoat.files import atomic_path, read_json, write_json, write_text
from topcoat.heads.card import render_card
from topcoat.heads.descriptor import HeadDescriptor
from topcoat.heads.gates import GATES_NAME, GateRules, read_gates, write_gates
from topcoat.heads.network import HeadConfig, LatentHeadConfig, channels_last
from topcoat.heads.registry import build_network, parse_head_config
from topcoat.images import check_images, crop_to, pad_to_multiple

FORMAT = "topcoat-head"
FORMAT_VERSION = 1
CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
CARD_NAME = "README.md"
PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")
MAX_STRENGTH = 2.0


class Head:
    """Enhances images, ``z = clamp(x + strength * network(x))``, or decodes latents, ``z = clamp(network(latents))``.

    A head of latents whose change can be scaled is ``network(latents, strength)``.

    ``network`` maps ``(N, 3, H, W)`` in [0, 1] to a change of the same shape, or latents to images, as ``config``
    says, which is what it was built from. ``facts`` (JSON values) says how it was trained and goes into the model card.
    """

    def __init__(
        self,
        network: nn.Module,
        config: HeadConfig,
        facts: Mapping[str, Any] | None = None,
        gates: GateRules | None = None,
    ) -> None:
        self.network = channels_last(network.eval())
        self.config = config
        self.facts: Mapping[str, Any] = dict(facts or {})
        self.gates = gates
        """Calibrated thresholds of the gates, where `topcoat calibrate` made them for this head."""

    @property
    def descriptor(self) -> HeadDescriptor:
        """Kind, settings, input, size granularity, parameters and FLOP."""
        return HeadDescriptor(self.config, sum(parameter.numel() for parameter in self.network.parameters()))

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def to(self, device: str | torch.device) -> Head:
        """Move the network to ``device``; returns this head."""
        self.network.to(device)
        return self

    @torch.no_grad()
    def __call__(self, inputs: Tensor, strength: float = 1.0) -> Tensor:
        """Enhance images ``(N, 3, H, W)``, RGB in [0, 1], of any height and width; or decode latents ``(N, C, h, w)``.

        `descriptor` says which of the two a head takes. ``strength`` scales the change: 0 returns the images, 1 is what
        was trained, at most 2. The result is float32 ``(N, 3, H, W)`` in [0, 1] on the device that the inputs came
        from. Raises `UsageError` for inputs or a strength outside this, and for a strength other than 1 where
        `descriptor` has none; `ModelError` if the result is not finite.
        """
        if not 0 <= strength <= MAX_STRENGTH:
            raise UsageError(f"strength is {strength}; give a number from 0 (no change) to {MAX_STRENGTH:g}")
        if isinstance(self.config, LatentHeadConfig):
            enhanced = self._decode(check_latents(inputs, self.config), strength)
        else:
            enhanced = self._enhance(check_images(inputs), strength)
        if not bool(torch.isfinite(enhanced).all()):
            raise ModelError("the head gave values that are not finite; its weights are damaged, load or train another")
        return enhanced.contiguous().to(inputs.device)

    def _enhance(self, images: Tensor, strength: float) -> Tensor:
        pixels = images.to(self.device, torch.float32)
        small = min(pixels.shape[-2:]) < self.config.smallest_px
        padded, size = pad_to_multiple(pixels, self.config.smallest_px if small else self.config.size_multiple)
        delta = crop_to(self.network(padded.contiguous(memory_format=torch.channels_last)), size)
        return (pixels + strength * delta).clamp(0, 1)

    def _decode(self, latents: Tensor, strength: float) -> Tensor:
        latents = latents.to(self.device, torch.float32).contiguous(memory_format=torch.channels_last)
        if self.config.has_strength:
            return self.network(latents, strength).clamp(0, 1)
        if strength != 1:
            raise UsageError(
                f"strength is {strength}, but this head decodes latents and has no distilled image to go back to; "
                "leave strength at 1, or use a head that takes images"
            )
        return self.network(latents).clamp(0, 1)

    @property
    def digest(self) -> str:
        """16 hex digits that change with any weight or setting; equal before saving and after loading."""
        return _digest(self.config, self.network.state_dict())

    def save_pretrained(self, folder: str | Path, card: Mapping[str, Any] | None = None) -> None:
        """Write config, weights and model card into ``folder``; ``card`` (JSON values) replaces `facts` if given.

        Each file is replaced as a whole, the weights first. Raises `DataError` if it cannot be written.
        """
        folder = Path(folder)
        facts = dict(self.facts if card is None else card)
        weights = {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}
        with atomic_path(folder / WEIGHTS_NAME) as temporary:
            # One key only: safetensors writes several in random order, and equal heads must be equal files.
            save_file(weights, temporary, metadata={"format": f"{FORMAT} {FORMAT_VERSION}"})
        write_json(
            folder / CONFIG_NAME,
            {
                "format": FORMAT,
                "format_version": FORMAT_VERSION,
                "head": self.config.model_dump(mode="json"),
                "facts": facts,
            },
        )
        write_text(folder / CARD_NAME, render_card(self.descriptor, digest=self.digest, facts=facts))
        if self.gates is not None:
            write_gates(folder, self.gates)
        else:  # those of another head that lay here before
            (folder / GATES_NAME).unlink(missing_ok=True)

    def push_to_hub(self, name: str, *, private: bool = True, card: Mapping[str, Any] | None = None) -> str:
        """Put the head into the Hugging Face repository ``owner/name``, made if it is missing; returns its address.

        ``card`` is as in `save_pretrained`. Raises `UsageError` for a name that is not ``owner/name``, `ModelError` if
        the repository cannot be written.
        """
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder, card)
            return hub.upload(Path(folder), name, f"topcoat head {self.digest}", private=private)

    @classmethod
    def from_pretrained(cls, folder_or_id: str | Path, *, revision: str | None = None) -> Head:
        """Load the head in a folder, or in a Hugging Face repository ``owner/name`` at ``revision``, onto the CPU.

        Raises `DataError` if the folder holds no usable head (pickled weights are refused), `ModelError` if a
        repository cannot be had.
        """
        folder = Path(folder_or_id)
        if not folder.is_dir():
            files = (CONFIG_NAME, WEIGHTS_NAME, CARD_NAME, GATES_NAME)
            folder = hub.download(str(folder_or_id), files, what="the head", revision=revision)
        config, facts = _read_config(folder)
        with torch.random.fork_rng(devices=[]):  # the fresh weights are replaced: leave the caller's generator alone
            network = build_network(config)
        _load_weights(network, folder)
        return cls(network, config, facts, read_gates(folder))

    @classmethod
    def default(cls, which: EmbeddedHead = "image") -> Head:
        """One of the mini pair's embedded heads: by default that which takes images.

        Raises `DataError` if the installation lacks it.
        """
        folder = MINI / HEAD_FOLDERS[which]
        if not (folder / WEIGHTS_NAME).is_file():
            raise DataError(
                f"this installation lacks the embedded {folder.name}; reinstall topcoat or name a head folder"
            )
        return cls.from_pretrained(folder)


def check_latents(latents: Tensor, config: LatentHeadConfig) -> Tensor:
    """Return ``latents`` unchanged if they are finite floats ``(N, C, h, w)`` with the channels that the head takes.

    Raises `UsageError` saying what they are instead.
    """
    wanted = f"(N, {config.latent_channels}, h, w)"
    if not isinstance(latents, Tensor) or not latents.is_floating_point():
        kind = latents.dtype if isinstance(latents, Tensor) else type(latents).__name__
        raise UsageError(f"this head decodes latents, not {kind}; give floats {wanted}")
    shape = tuple(latents.shape)
    if len(shape) != 4 or 0 in shape:
        raise UsageError(f"this head decodes latents, but was given the shape {shape}; give {wanted}")
    if shape[1] != config.latent_channels:
        hint = "; these may be images, use a head that takes them" if shape[1] == 3 else ""
        raise UsageError(f"this head decodes latents of {config.latent_channels} channels, not {shape[1]}{hint}")
    if not bool(torch.isfinite(latents).all()):
        raise UsageError("the latents hold NaN or infinite values; give finite ones, as the denoiser leaves them")
    return latents


def _read_config(folder: Path) -> tuple[HeadConfig, Mapping[str, Any]]:
    path = folder / CONFIG_NAME
    if not path.is_file():
        _refuse_pickles(folder)
        raise DataError(f"{folder} holds no head: {CONFIG_NAME} is missing; give a folder that topcoat train wrote")
    data = read_json(path)
    if not isinstance(data, dict) or data.get("format") != FORMAT or not isinstance(data.get("head"), dict):
        raise DataError(f"{path} does not describe a topcoat head; give a folder that topcoat train wrote")
    if data.get("format_version") != FORMAT_VERSION:
        found = data.get("format_version")
        raise DataError(
            f"{path} has format version {found}, this topcoat reads {FORMAT_VERSION}; use the version that wrote it"
        )
    try:
        config = parse_head_config(data["head"], source=str(path))
    except UsageError as error:  # the file is at fault, not the call
        raise DataError(str(error)) from error
    facts = data.get("facts")
    return config, facts if isinstance(facts, dict) else {}


def _load_weights(network: nn.Module, folder: Path) -> None:
    path = folder / WEIGHTS_NAME
    if not path.is_file():
        _refuse_pickles(folder)
        raise DataError(f"{folder} holds no weights: {WEIGHTS_NAME} is missing; give a folder that topcoat train wrote")
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is damaged or not a safetensors file ({error}); fetch or train it again") from error
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    if wanted != found:
        odd = sorted(set(wanted.items()) ^ set(found.items()))[0][0]
        raise DataError(
            f"{path} does not fit its {CONFIG_NAME} (see {odd}); the two files are of different heads, fetch both again"
        )
    if not all(bool(torch.isfinite(value).all()) for value in weights.values()):
        raise DataError(f"{path} holds weights that are not finite; fetch or train it again")
    network.load_state_dict({name: value.float() for name, value in weights.items()})


def _refuse_pickles(folder: Path) -> None:
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if pickles:
        raise DataError(
            f"{folder} holds only pickled weights ({pickles[0]}), which can run code when loaded; "
            f"ask for {WEIGHTS_NAME} and {CONFIG_NAME} instead"
        )


def _digest(config: HeadConfig, weights: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(config.model_dump(mode="json"), sort_keys=True).encode())
    for name, value in sorted(weights.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
