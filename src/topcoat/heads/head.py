"""`Head`: one contract around every network that gives enhanced images.

A head folder holds ``config.json`` (format version, network settings, facts about the training),
``model.safetensors`` (the weights), ``README.md`` (the model card) and, where they were calibrated, ``gates.json``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from topcoat import hub
from topcoat.embedded import DEFAULT_HEAD, EMBEDDED_HEADS, MINI
from topcoat.errors import DataError, ModelError, UsageError
from topcoat.features.net import weights_digest
from topcoat.files import atomic_path, read_json, write_json, write_text
from topcoat.heads.card import render_card
from topcoat.heads.kinds import parse_head_config
from topcoat.heads.network import HeadConfig, Input, LatentHeadConfig, Network, channels_last

FORMAT = "topcoat-head"
FORMAT_VERSION = 2
CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
CARD_NAME = "README.md"
GATES_NAME = "gates.json"
GRAPH_NAME = "head.onnx"
PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")
MAX_STRENGTH = 2.0
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""What a head can compute in."""
_COMPILED = "_orig_mod."  # torch.compile puts it into the names of weights


class Head:
    """Enhances images, ``z = clamp(x + strength * network(x))``, or decodes latents, as ``network.enhance`` says.

    ``config`` is what ``network`` was built from. ``facts`` (JSON values) says how it was trained, for the model card.
    ``gates`` (JSON values) are the calibrated thresholds of `topcoat.gates`, where there are any.
    """

    def __init__(
        self,
        network: Network,
        config: HeadConfig,
        facts: Mapping[str, Any] | None = None,
        gates: Mapping[str, Any] | None = None,
    ) -> None:
        self.network: Network = network.eval()
        channels_last(network)
        self.config = config
        self.kind = config.name()
        """Its kind, as in `topcoat.heads.KINDS`."""
        self.input: Input = config.input
        """Images, or latents in place of the VAE decoder."""
        self.has_strength = config.has_strength
        """Whether the change can be scaled, 0 being the distilled image."""
        self.latent_channels = config.latent_channels if isinstance(config, LatentHeadConfig) else None
        """Channels of the latents that it is given; None for images."""
        self.facts: Mapping[str, Any] = dict(facts or {})
        self.gates = gates
        self.default_dtype = torch.float32
        """What it computes in unless `to` was asked for another; a pipeline on a GPU sets that of its generator."""
        self._dtype: torch.dtype | None = None

    @property
    def parameters(self) -> int:
        """How many the network has, frozen ones included."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    def input_shape(self, width_px: int, height_px: int) -> tuple[int, int, int]:
        """``(C, H, W)`` of what the network is given for one image, padded."""
        return self.config.input_shape(width_px, height_px)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in; weights are float32 in any case."""
        return self._dtype or self.default_dtype

    def to(self, device: str | torch.device | torch.dtype | None = None, dtype: torch.dtype | None = None) -> Head:
        """Move the network to ``device``, compute in ``dtype``, or both; returns this head.

        bfloat16 and float16 are autocast, as in training: weights, files and `digest` stay float32, and so does the
        image that a change is added to. Raises `UsageError` for another ``dtype``.
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        if dtype not in (None, *DTYPES):
            names = ", ".join(str(one).removeprefix("torch.") for one in DTYPES)
            raise UsageError(f"a head cannot compute in {dtype}; use one of: {names}")
        if device is not None:
            self.network.to(device)
        self._dtype = dtype or self._dtype
        return self

    def compile(self) -> Head:
        """Compile the network (`torch.compile`), which happens at its next call; returns this head.

        Weights, files and `digest` stay as they are.
        """
        self.network.compile()
        return self

    @torch.no_grad()
    def __call__(self, inputs: Tensor, strength: float = 1.0) -> Tensor:
        """Enhance images ``(N, 3, H, W)`` in [0, 1] of any size, or decode latents ``(N, C, h, w)``, as `input` says.

        ``strength`` scales the change: 0 returns the images, 1 is what was trained, at most 2. The result is float32
        ``(N, 3, H, W)`` in [0, 1] on the inputs' device. Raises `UsageError` for inputs or a strength outside this, and
        for a strength other than 1 where `has_strength` is False; `ModelError` if the result is not finite.
        """
        if not 0 <= strength <= MAX_STRENGTH:
            raise UsageError(f"strength is {strength}; give a number from 0 (no change) to {MAX_STRENGTH:g}")
        self.config.checked(inputs)
        if strength != 1 and not self.has_strength:
            raise UsageError(
                f"strength is {strength}, but this head decodes latents and has no distilled image to go back to; "
                "leave strength at 1, or use a head that takes images"
            )
        given = inputs.to(self.device, torch.float32).contiguous(memory_format=torch.channels_last)
        whole = self.dtype == torch.float32
        with nullcontext() if whole else torch.autocast(self.device.type, self.dtype):
            enhanced = self.network.enhance(given, strength)
        enhanced = enhanced.float().clamp(0, 1)
        if not bool(torch.isfinite(enhanced).all()):
            raise ModelError("the head gave values that are not finite; its weights are damaged, load or train another")
        return enhanced.contiguous().to(inputs.device)

    @property
    def digest(self) -> str:
        """16 hex digits that change with any weight or setting; equal before saving and after loading."""
        return weights_digest(json.dumps(self.config.model_dump(mode="json"), sort_keys=True), self._weights())

    def _weights(self) -> dict[str, Tensor]:
        """By their names in a network that is not compiled."""
        return {name.replace(_COMPILED, ""): value for name, value in self.network.state_dict().items()}

    def save_pretrained(self, folder: str | Path, card: Mapping[str, Any] | None = None) -> None:
        """Write config, weights and model card into ``folder``; ``card`` (JSON values) replaces `facts` if given.

        Each file is replaced as a whole, the weights first. Raises `DataError` if it cannot be written.
        """
        folder = Path(folder)
        facts = dict(self.facts if card is None else card)
        weights = {name: value.detach().cpu().contiguous() for name, value in self._weights().items()}
        with atomic_path(folder / WEIGHTS_NAME) as temporary:
            # One key only: safetensors writes several in random order, and equal heads must be equal files.
            save_file(weights, temporary, metadata={"format": f"{FORMAT} {FORMAT_VERSION}"})
        settings = self.config.model_dump(mode="json")
        about = {"format": FORMAT, "format_version": FORMAT_VERSION, "head": settings, "facts": facts}
        write_json(folder / CONFIG_NAME, about)
        write_text(folder / CARD_NAME, self._card(facts))
        if self.gates is not None:
            write_json(folder / GATES_NAME, self.gates)
        else:  # those of another head that lay here before
            (folder / GATES_NAME).unlink(missing_ok=True)

    def push_to_hub(
        self, name: str, *, private: bool = True, card: Mapping[str, Any] | None = None, folder: Path | None = None
    ) -> str:
        """Put the head into the Hugging Face repository ``owner/name``, made if it is missing; returns its address.

        ``card`` is as in `save_pretrained`. ``folder`` is the one that this head was loaded from: its weights then go
        as they are, and its ``head.onnx`` with them. Raises `UsageError` for a name that is not ``owner/name``,
        `ModelError` if the repository cannot be written.
        """
        with TemporaryDirectory() as temporary:
            files = Path(temporary)
            self.save_pretrained(files, card)
            write_text(files / CARD_NAME, self._card(self.facts if card is None else card, name))
            for own in () if folder is None else (folder / WEIGHTS_NAME, folder / GRAPH_NAME):
                if own.is_file():
                    shutil.copyfile(own, files / own.name)
            return hub.upload(files, name, f"topcoat head {self.digest}", private=private)

    def _card(self, facts: Mapping[str, Any], source: str = "this-folder") -> str:
        return render_card(self.config, parameters=self.parameters, digest=self.digest, facts=facts, source=source)

    @classmethod
    def from_pretrained(cls, folder_or_id: str | Path, *, revision: str | None = None) -> Head:
        """Load the head in a folder, or in a Hugging Face repository ``owner/name`` at ``revision``, onto the CPU.

        ``owner/name@revision`` says the same in one word. Raises `DataError` if the folder holds no usable head
        (pickled weights are refused), `ModelError` if a repository cannot be loaded.
        """
        folder = Path(folder_or_id)
        if folder.is_file():
            pickled = " is a pickled checkpoint, which can run code when loaded" if folder.suffix in PICKLES else ""
            wanted = f"a folder with {CONFIG_NAME} and {WEIGHTS_NAME}, such as topcoat train writes"
            raise DataError(f"{folder}{pickled or ' is a file'}; give {wanted}")
        if not folder.is_dir():
            files = (CONFIG_NAME, WEIGHTS_NAME, CARD_NAME, GATES_NAME)
            folder = hub.download(str(folder_or_id), files, what="the head", revision=revision)
        config, facts = _read_config(folder)
        with torch.random.fork_rng(devices=[]):  # the fresh weights are replaced: leave the caller's generator alone
            network = config.build()
        _load_weights(network, folder)
        gates = folder / GATES_NAME
        return cls(network, config, facts, read_json(gates) if gates.exists() else None)

    @classmethod
    def load(cls, name: str | Path) -> Head:
        """An embedded head by its name in `topcoat.embedded.EMBEDDED_HEADS`, or else as `from_pretrained`."""
        if str(name) not in EMBEDDED_HEADS:
            return cls.from_pretrained(name)
        folder = MINI / EMBEDDED_HEADS[str(name)]
        if not (folder / WEIGHTS_NAME).is_file():
            raise DataError(f"this installation lacks the embedded {folder.name}; reinstall topcoat or name a folder")
        return cls.from_pretrained(folder)

    @classmethod
    def default(cls) -> Head:
        """The mini pair's embedded head that changes images. Raises `DataError` if the installation lacks it."""
        return cls.load(DEFAULT_HEAD)


def _read_config(folder: Path) -> tuple[HeadConfig, Mapping[str, Any]]:
    path = _required(folder, CONFIG_NAME, "head")
    data = read_json(path)
    if not isinstance(data, dict) or data.get("format") != FORMAT or not isinstance(data.get("head"), dict):
        raise DataError(f"{path} does not describe a topcoat head; give a folder that topcoat train wrote")
    if data.get("format_version") != FORMAT_VERSION:
        raise DataError(
            f"{path} has format version {data.get('format_version')}, this topcoat reads {FORMAT_VERSION}; use the "
            "topcoat that wrote it, or train the head again"
        )
    try:
        config = parse_head_config(data["head"], source=str(path))
    except UsageError as error:  # the file is at fault, not the call
        raise DataError(str(error)) from error
    facts = data.get("facts")
    return config, facts if isinstance(facts, dict) else {}


def _load_weights(network: nn.Module, folder: Path) -> None:
    path = _required(folder, WEIGHTS_NAME, "weights")
    try:
        weights = {name.replace(_COMPILED, ""): value for name, value in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is damaged or not a safetensors file ({error}); fetch or train it again") from error
    expected, given = (
        {(name, tuple(value.shape)) for name, value in state.items()} for state in (network.state_dict(), weights)
    )
    if expected != given:
        odd = min(expected ^ given)[0]
        raise DataError(
            f"{path} does not fit its {CONFIG_NAME} (see {odd}); the two files are of different heads, fetch both again"
        )
    if not all(bool(torch.isfinite(value).all()) for value in weights.values()):
        raise DataError(f"{path} holds weights that are not finite; fetch or train it again")
    network.load_state_dict({name: value.float() for name, value in weights.items()})


def _required(folder: Path, name: str, what: str) -> Path:
    path = folder / name
    if path.is_file():
        return path
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if pickles:
        raise DataError(
            f"{folder} holds only pickled weights ({pickles[0]}), which can run code when loaded; "
            f"ask for {WEIGHTS_NAME} and {CONFIG_NAME} instead"
        )
    raise DataError(f"{folder} holds no {what}: {name} is missing; give a folder that topcoat train wrote")
