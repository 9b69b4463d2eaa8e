"""The adapter to diffusers, and the only module that runs its pipelines; `topcoat.generators.meta` counts them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from topcoat.errors import ModelError, UsageError
from topcoat.generators.base import GeneratorSpec, ModelPair, check_request, check_steps
from topcoat.generators.components import ComponentCache
from topcoat.generators.hub_errors import check_folder, load_sentence
from topcoat.generators.quiet import quiet_libraries

_DECODE_PIXELS = 4 * 1024 * 1024  # decoding needs far more memory per pixel than denoising, so it goes in smaller lots


class DiffusersGenerator:
    """A `Generator` around one loaded diffusers pipeline; made by `load_generator`.

    The noise of image ``i`` comes from a CPU generator seeded with ``seeds[i]``. Batches of another size change an
    image by no more than the rounding of the network's own arithmetic (about 1e-6 in float32).
    """

    def __init__(self, spec: GeneratorSpec, pipeline: Any) -> None:
        self._spec = spec
        self._pipeline = pipeline

    @property
    def spec(self) -> GeneratorSpec:
        """The settings it was made from."""
        return self._spec

    @property
    def pipeline(self) -> Any:
        """The diffusers pipeline itself."""
        return self._pipeline

    @property
    def device(self) -> torch.device:
        """Where the networks run."""
        return self._pipeline._execution_device

    def generate(self, prompts: Sequence[str], seeds: Sequence[int], *, steps: int | None = None) -> Tensor:
        """``(N, 3, H, W)`` float32 in [0, 1] on the CPU.

        Raises `UsageError` for a request that cannot be painted, `ModelError` if memory runs out or the model's output
        is not finite.
        """
        return self.decode(self.latents(prompts, seeds, steps=steps))

    def latents(self, prompts: Sequence[str], seeds: Sequence[int], *, steps: int | None = None) -> Tensor:
        """``(N, C, H/8, W/8)`` float32 on the CPU, as the model leaves them; raises like `generate`."""
        texts, numbers = check_request(prompts, seeds)
        spec, count = self._spec, check_steps(steps, self._spec)
        with _memory_errors(spec, len(texts)), quiet_libraries():
            output = self._pipeline(
                prompt=texts,
                height=spec.height_px,
                width=spec.width_px,
                num_inference_steps=count,
                guidance_scale=spec.guidance_scale,
                max_sequence_length=spec.max_sequence_length,
                generator=[torch.Generator("cpu").manual_seed(number) for number in numbers],
                output_type="latent",
            ).images
            latents = output.float().cpu()
        if latents.ndim == 3:
            latents = _unpacked(latents, spec.height_px // self._cell_px * 2)
        return self._finite(latents)

    def decode(self, latents: Tensor) -> Tensor:
        """``(N, 3, H, W)`` float32 in [0, 1] on the CPU, from `latents`; raises `UsageError` for another rank."""
        if latents.ndim != 4:
            raise UsageError(f"latents have shape {tuple(latents.shape)}; give (N, C, h, w) as made by latents()")
        vae = self._pipeline.vae
        pixels = self._spec.width_px * self._spec.height_px
        images = []
        with _memory_errors(self._spec, latents.shape[0]), torch.no_grad():
            for part in latents.split(max(1, _DECODE_PIXELS // pixels)):
                values = self._to_vae_scale(part).to(device=self.device, dtype=vae.dtype)
                decoded = vae.decode(values, return_dict=False)[0]
                images.append(decoded.float().cpu())
            self._pipeline.maybe_free_model_hooks()
        return self._finite(torch.cat(images)).div(2).add(0.5).clamp(0, 1)

    @property
    def _cell_px(self) -> int:
        """Pixels that one transformer token covers: the VAE's reduction times the 2x2 packing."""
        return self._pipeline.vae_scale_factor * 2

    def _to_vae_scale(self, latents: Tensor) -> Tensor:
        """FLUX.1's latents are normalised by two numbers; FLUX.2's pipeline has already undone its batch norm."""
        if hasattr(self._pipeline.vae, "bn"):
            return latents
        config = self._pipeline.vae.config
        scale, shift = getattr(config, "scaling_factor", None), getattr(config, "shift_factor", None)
        return latents / (1.0 if scale is None else scale) + (0.0 if shift is None else shift)

    def _finite(self, values: Tensor) -> Tensor:
        if not torch.isfinite(values).all():
            raise ModelError(
                f"{self._spec.name} made values that are not finite with dtype {self._spec.dtype}; use float32, or "
                "bfloat16 instead of float16"
            )
        return values


def load_generator(spec: GeneratorSpec, cache: ComponentCache | None = None) -> DiffusersGenerator:
    """Load the models that ``spec`` names; parts that ``cache`` holds for the same `model` are used again.

    Raises `UsageError` for a size or device that cannot be, and `ModelError` for a model that is unknown, gated, out
    of reach, of a kind that is not supported, or too large.
    """
    device = _device(spec)
    with quiet_libraries(), _memory_errors(spec, 1):
        pipeline = _load_pipeline(spec, cache)
        cell_px = pipeline.vae_scale_factor * 2
        if spec.width_px % cell_px or spec.height_px % cell_px:
            raise UsageError(
                f"{spec.name} cannot paint {spec.width_px}x{spec.height_px}; width and height must be multiples of "
                f"{cell_px}"
            )
        pipeline.set_progress_bar_config(disable=True)
        if spec.offload == "model":
            pipeline.enable_model_cpu_offload(device=device)
        elif spec.offload == "sequential":
            pipeline.enable_sequential_cpu_offload(device=device)
        else:
            pipeline.to(device)
    if cache is not None:
        cache.keep(spec, pipeline.components)
    return DiffusersGenerator(spec, pipeline)


def load_pair(pair: ModelPair) -> tuple[DiffusersGenerator, DiffusersGenerator]:
    """The distilled model and the baseline, sharing what they can; raises like `load_generator`."""
    cache = ComponentCache()
    return load_generator(pair.distilled, cache), load_generator(pair.baseline, cache)


def _load_pipeline(spec: GeneratorSpec, cache: ComponentCache | None) -> Any:
    import diffusers

    for source in (spec.model, spec.transformer):
        check_folder(source, spec)
    dtype = getattr(torch, spec.dtype)
    parts = {} if cache is None else cache.get(spec)
    try:
        if spec.transformer is not None:
            parts |= _own_parts(spec.transformer, dtype)
        pipeline = diffusers.DiffusionPipeline.from_pretrained(
            spec.model, revision=spec.revision, dtype=dtype, use_safetensors=True, **parts
        )
    except Exception as error:  # diffusers, transformers and the hub raise a dozen types; each means "cannot be had"
        raise ModelError(load_sentence(spec, error)) from error
    supported = (diffusers.FluxPipeline, diffusers.Flux2KleinPipeline)
    if not isinstance(pipeline, supported):
        names = ", ".join(kind.__name__ for kind in supported)
        raise ModelError(f"{spec.model} is a {type(pipeline).__name__}, which is not supported; use one of: {names}")
    return pipeline


def _own_parts(source: str, dtype: torch.dtype) -> dict[str, Any]:
    """The transformer of ``source`` and, where it has one, its scheduler."""
    import diffusers

    parts: dict[str, Any] = {
        "transformer": diffusers.AutoModel.from_pretrained(
            source, subfolder="transformer", dtype=dtype, use_safetensors=True
        )
    }
    if not Path(source).is_dir() or (Path(source) / "scheduler").is_dir():
        config: Any = diffusers.FlowMatchEulerDiscreteScheduler.load_config(source, subfolder="scheduler")
        kind = getattr(diffusers, config["_class_name"])
        parts["scheduler"] = kind.from_config(config)
    return parts


def _device(spec: GeneratorSpec) -> torch.device:
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


def _unpacked(packed: Tensor, latent_height: int) -> Tensor:
    """``(N, C, h, w)`` from tokens ``(N, h/2 * w/2, 4C)``: FLUX.1 lays each 2x2 of latents into one token."""
    count, tokens, channels = packed.shape
    rows = latent_height // 2
    cells = packed.reshape(count, rows, tokens // rows, channels // 4, 2, 2)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(count, channels // 4, rows * 2, tokens // rows * 2)


@contextlib.contextmanager
def _memory_errors(spec: GeneratorSpec, count: int) -> Iterator[None]:
    """Turn every library's "out of memory" into one `ModelError` that says what to lower."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        text = str(error).lower()
        if not isinstance(error, (torch.OutOfMemoryError, MemoryError)) and "memory" not in text:
            raise
        less = f"a batch size below {count}, " if count > 1 else ""
        raise ModelError(
            f"{spec.name} ran out of memory at {spec.width_px}x{spec.height_px} in {spec.dtype}; use {less}"
            "offload: model (or sequential), or a smaller size"
        ) from error
