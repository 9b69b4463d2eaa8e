"""Where the parts of pipelines lie: loaded once for all that share them, on the device or off it."""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from topcoat.errors import UsageError
from topcoat.files import sha256_of
from topcoat.generators.base import GeneratorSpec
from topcoat.memory import free_bytes

_OWN_PARTS = ("transformer", "unet", "scheduler")
_VOLATILE = ("_name_or_path", "_commit_hash", "_diffusers_version", "transformers_version", "torch_dtype", "dtype")
"""Keys of a config.json that say who saved it, or that loading sets anew."""
_SHARE_OF_WEIGHTS = 0.8
"""Of the free memory; the rest is for activations, and batches are halved where it is too little."""


@dataclass(frozen=True)
class _Part:
    name: str
    settings: tuple[str | None, ...]
    folder: Path
    loaded: Any


class ComponentCache:
    """Loaded text encoders, tokenizers and VAEs by the content of their files: two models load once what both have.

    FLUX.1-schnell and FLUX.1-dev, for one, are two repositories with the same T5. Weights are compared by SHA-256 where
    their sizes agree. A model with LoRAs takes nothing, because they may change its text encoders, and gives only what
    they left as it was.
    """

    def __init__(self) -> None:
        self._parts: list[_Part] = []

    def get(self, spec: GeneratorSpec, folder: Path) -> dict[str, Any]:
        """The parts of the pipeline in ``folder`` that are loaded already, by name."""
        parts: dict[str, Any] = {}
        for path in [] if spec.loras else sorted(folder.iterdir()):
            for part in self._parts if path.is_dir() else ():
                if part.name == path.name and part.settings == _settings(spec) and _same_content(part.folder, path):
                    parts[path.name] = part.loaded
        return parts

    def add(self, spec: GeneratorSpec, folder: Path, components: dict[str, Any]) -> None:
        """Remember every part but the denoiser and the scheduler, which each model has for itself."""
        if spec.fuse_loras:  # they may be in the text encoders, and leave no trace there
            return
        known = {id(part.loaded) for part in self._parts}
        for name, loaded in components.items():
            own = loaded is None or name in (*_OWN_PARTS, *spec.replaced) or getattr(loaded, "peft_config", None)
            if not own and id(loaded) not in known and (folder / name).is_dir():
                self._parts.append(_Part(name, _settings(spec), folder / name, loaded))


def _settings(spec: GeneratorSpec) -> tuple[str | None, ...]:
    """What decides how a part is loaded, besides its files."""
    return (spec.variant, spec.dtype, spec.device, spec.offload, spec.text_quantisation)


def _same_content(one: Path, other: Path) -> bool:
    """Whether two folders of a part hold the same settings and weights."""
    if one == other:
        return True
    return _listing(one) == _listing(other) and all(
        _digest(one / name) == _digest(other / name) for name, what in _listing(one) if isinstance(what, int)
    )


def _listing(folder: Path) -> list[tuple[str, Any]]:
    """The files that a part is loaded from: a JSON file with its settings, any other with its size in bytes."""
    listing: list[tuple[str, Any]] = []
    for path in sorted(folder.iterdir()):
        if path.suffix == ".json":
            values = json.loads(path.read_text(encoding="utf-8"))
            saved_by = _VOLATILE if isinstance(values, dict) else ()
            listing.append((path.name, {key: values[key] for key in values if key not in saved_by} or values))
        elif path.suffix in (".safetensors", ".model", ".txt"):
            listing.append((path.name, path.stat().st_size))
    return listing


def _digest(path: Path) -> str:
    """SHA-256 of a file; the hub's cache calls large files so."""
    name = path.resolve().name
    return name if len(name) == 64 else _read_digest(path, path.stat().st_mtime_ns)


@functools.lru_cache
def _read_digest(path: Path, mtime_ns: int) -> str:
    return sha256_of(path)


def place(pipeline: Any, spec: GeneratorSpec) -> None:
    """Move a pipeline to the spec's device, or have each of its parts moved there when it runs."""
    device = device_of(spec)
    if spec.offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif spec.offload == "sequential" and device.type != "cpu":  # there accelerate cannot, and nothing would move
        pipeline.enable_sequential_cpu_offload(device=device)
    elif spec.offload == "group":
        for name, network in networks_of(pipeline).items():
            _place_in_groups(network, device, whole=name == "vae")
    else:
        pipeline.to(device)


def _place_in_groups(network: nn.Module, device: torch.device, *, whole: bool) -> None:
    """Have the layers of a network moved to the device as they run; the next ones while the present ones compute.

    A VAE moves there whole: it is small, and its two halves run in no fixed order, which reading ahead relies on.
    """
    from diffusers.hooks import apply_group_offloading
    from diffusers.hooks.group_offloading import _is_group_offload_enabled

    if whole:
        network.to(device)
    elif not _is_group_offload_enabled(network):  # a part that two pipelines share is placed already
        on_cuda = device.type == "cuda"
        apply_group_offloading(
            network,
            onload_device=device,
            offload_device=torch.device("cpu"),
            offload_type="leaf_level",
            use_stream=on_cuda,
            low_cpu_mem_usage=on_cuda,
        )


def share_device(specs: Sequence[GeneratorSpec], pipelines: Sequence[Any]) -> list[GeneratorSpec]:
    """The specs as they are where all pipelines fit onto their device together, else with ``offload: model``.

    Decided by the bytes of their weights, each network counted once, and the device's free memory; a warning says so.
    Specs that offload already, or lie on several devices, are left as they are.
    """
    devices = {device_of(spec) for spec in specs}
    free = free_bytes(next(iter(devices)))
    if len(devices) > 1 or free is None or any(spec.offload != "none" for spec in specs):
        return list(specs)
    networks = {id(network): network for pipeline in pipelines for network in networks_of(pipeline).values()}
    needed = sum(map(weight_bytes, networks.values()))
    if needed <= free * _SHARE_OF_WEIGHTS:
        return list(specs)
    names = " and ".join(spec.name for spec in specs)
    warnings.warn(
        f"{names} have {needed / 2**30:.1f} GiB of weights and {free / 2**30:.1f} GiB are free, so their networks take "
        "turns on the device (offload: model)",
        stacklevel=2,
    )
    return [spec.model_copy(update={"offload": "model"}) for spec in specs]


def networks_of(pipeline: Any) -> dict[str, nn.Module]:
    """The networks among a pipeline's parts, by name."""
    return {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}


def weight_bytes(network: nn.Module) -> int:
    """Bytes of a network's parameters and buffers."""
    return sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))


def device_of(spec: GeneratorSpec) -> torch.device:
    """The device that ``spec`` names; raises `UsageError` for one that is unknown or not here."""
    if spec.device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(spec.device)
    except RuntimeError:
        raise UsageError(f"device {spec.device!r} is unknown; use auto, cpu, cuda, cuda:1 or mps") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device {spec.device!r} is not here; {torch.cuda.device_count()} CUDA devices are, use auto")
    return device
