"""Computed memory: what models need on a device, counted on the meta device without weights.

Weights are counted exactly, activations at the peak of one pass over one image, by the storages that are alive.
Attention is taken to be fused, as it is on GPUs. A GPU also needs its context, workspaces and gaps: `RESERVE_BYTES`.
"""

from __future__ import annotations

import functools
import json
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from topcoat.cost.flops import network_configs
from topcoat.cost.pricing import Bill, Figure
from topcoat.errors import ModelError
from topcoat.generators.base import GeneratorSpec, ModelPair, Offload
from topcoat.generators.meta import Networks, build_networks

RESERVE_BYTES = 1 << 30
"""An assumption: the context of CUDA, workspaces of its libraries and gaps between allocations."""
_QUANTISED_BYTES = {"bitsandbytes-8bit": 1.0, "bitsandbytes-4bit": 0.5, "torchao-int8": 1.0, "layerwise-float8": 1.0}
"""Bytes of a weight; scales are not counted."""


@dataclass(frozen=True, slots=True)
class NetworkMemory:
    """One network: bytes of all its weights, and of those of its largest layer."""

    name: str
    settings: str
    """Its config and dtype; networks with equal ones are taken to hold the same weights, and so are loaded once."""
    weight_bytes: int
    layer_bytes: int

    def on_device(self, offload: Offload) -> int:
        """Bytes of it that are on the device at once while it runs; `group` reads a layer ahead."""
        if offload == "sequential":
            return self.layer_bytes
        return min(self.weight_bytes, 2 * self.layer_bytes) if offload == "group" else self.weight_bytes


@dataclass(frozen=True, slots=True)
class ModelMemory:
    """The networks of one model, and bytes of activations for one image in each stage."""

    name: str
    encoders: tuple[NetworkMemory, ...]
    denoiser: NetworkMemory
    vae: NetworkMemory
    text_bytes: int
    step_bytes: int
    decode_bytes: int

    def activation_bytes(self, batch_size: int) -> int:
        """Bytes of activations of the stage that needs most; the VAE decodes one image at a time where it must."""
        return max(self.text_bytes * batch_size, self.step_bytes * batch_size, self.decode_bytes)

    def in_turns_bytes(self, offload: Offload, batch_size: int) -> int:
        """Bytes on the device where its networks take turns: those of the stage that needs most."""
        vae = self.vae.layer_bytes if offload == "sequential" else self.vae.weight_bytes
        beside = vae if offload == "group" else 0  # there the VAE stays
        return max(
            max(encoder.on_device(offload) for encoder in self.encoders) + beside + self.text_bytes * batch_size,
            self.denoiser.on_device(offload) + beside + self.step_bytes * batch_size,
            vae + self.decode_bytes,
        )


@dataclass(frozen=True, slots=True)
class Memory:
    """What models need that work one after the other on one device."""

    models: tuple[ModelMemory, ...]

    @property
    def weight_bytes(self) -> int:
        """Of all networks, each once: on the device without offloading, in main memory with it."""
        shared = {(one.name, one.settings): one for model in self.models for one in (*model.encoders, model.vae)}
        networks = (*shared.values(), *(model.denoiser for model in self.models))
        return sum(network.weight_bytes for network in networks)

    def needed_bytes(self, offload: Offload, batch_size: int = 1) -> int:
        """Bytes on the device for batches of that size."""
        if offload == "none":
            needed = self.weight_bytes + max(model.activation_bytes(batch_size) for model in self.models)
        else:
            needed = max(model.in_turns_bytes(offload, batch_size) for model in self.models)
        return needed + RESERVE_BYTES

    def largest_batch(self, offload: Offload, device_bytes: int, at_most: int) -> int:
        """The largest batch of at most that many images that fits; 0 where one image does not."""
        sizes = range(at_most, 0, -1)
        return next((size for size in sizes if self.needed_bytes(offload, size) <= device_bytes), 0)


def pair_memory(pair: ModelPair) -> Memory:
    """What a pair needs at its own size; raises like `components_of`."""
    return Memory((model_memory(pair.distilled), model_memory(pair.baseline)))


def memory_figures(pair: ModelPair) -> Bill:
    """What a pair needs of a device for one image, with and without offloading; empty where sizes are unknown."""
    try:
        memory = pair_memory(pair)
    except ModelError:
        return {}
    source = "weights and activations of one image on the meta device, and 1 GiB (assumed); batches: topcoat doctor"
    labels: dict[Offload, str] = {"none": "memory, both models on the GPU", "model": "memory, offload: model"}
    return {
        f"memory_{offload}_bytes": Figure(label, memory.needed_bytes(offload), "bytes", "computed", source)
        for offload, label in labels.items()
    }


def model_memory(spec: GeneratorSpec) -> ModelMemory:
    """What one model needs at its own size; raises like `components_of`."""
    configs, dtype = network_configs(spec), getattr(torch, spec.dtype)
    networks = _networks(json.dumps(configs, sort_keys=True), dtype)
    key = json.dumps(configs, sort_keys=True), dtype, spec.width_px, spec.height_px, spec.max_sequence_length
    text, step, decode = _activations(*key)
    wide = 4 // dtype.itemsize if dtype == torch.float16 and configs["vae"].get("force_upcast") else 1
    share, text_share = (
        _QUANTISED_BYTES.get(kind, dtype.itemsize) / dtype.itemsize
        for kind in (spec.quantisation, spec.text_quantisation)
    )

    def network(name: str, factor: float = 1.0) -> NetworkMemory:
        settings = json.dumps([configs[name], spec.dtype, factor], sort_keys=True)
        module = networks.modules[name]
        return NetworkMemory(name, settings, round(_bytes(module) * factor), round(_largest_layer(module) * factor))

    return ModelMemory(
        spec.name,
        tuple(network(name, text_share) for name in networks.modules if name.startswith("text_encoder")),
        network(networks.family.denoiser, share),
        network("vae", wide),
        text,
        step * networks.family.passes(spec),
        decode * wide,
    )


@functools.lru_cache(maxsize=4)
def _networks(configs: str, dtype: torch.dtype) -> Networks:
    return build_networks(json.loads(configs), dtype=dtype)


@functools.lru_cache
def _activations(configs: str, dtype: torch.dtype, width_px: int, height_px: int, tokens: int) -> tuple[int, ...]:
    """Bytes of activations at the peak of encoding one text, of one pass of the denoiser and of one decoding."""
    networks = _networks(configs, dtype)
    runs = (
        networks.text_encode(tokens),
        networks.step(width_px, height_px, tokens),
        networks.vae_decode(width_px, height_px),
    )
    return tuple(peak_bytes(run, networks.modules.values()) for run in runs)


def peak_bytes(run: Callable[[], object], networks: Iterable[nn.Module]) -> int:
    """Most bytes of tensors that ``run()`` makes and that are alive at once, besides the networks' own.

    On the meta device, where nothing is computed, as on any other.
    """
    peak = _Peak(tensor for network in networks for tensor in (*network.parameters(), *network.buffers()))
    with torch.no_grad(), _FusedAttention(), peak:
        run()
    return peak.most


class _Peak(TorchDispatchMode):
    """Adds up the storages of tensors as operations make them, and takes them off as they die."""

    def __init__(self, weights: Iterable[Tensor]) -> None:
        super().__init__()
        self.most = self._now = 0
        self._known: dict[int, weakref.ref[Any] | None] = {tensor.untyped_storage()._cdata: None for tensor in weights}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return

        def dies(_: object) -> None:
            self._known.pop(key, None)
            self._now -= size

        self._known[key] = weakref.ref(storage, dies)
        self._now += size
        self.most = max(self.most, self._now)


class _FusedAttention(TorchFunctionMode):
    """Attention makes its result and no matrix of scores, as the kernels of GPUs do; the meta device has none."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not nn.functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, _, value = args[:3] if len(args) > 2 else [(kwargs or {})[name] for name in ("query", "key", "value")]
        return query.new_empty((*query.shape[:-1], value.shape[-1]))


def _bytes(network: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))


def _largest_layer(network: nn.Module) -> int:
    return max(sum(tensor.nbytes for tensor in module.parameters(recurse=False)) for module in network.modules())
