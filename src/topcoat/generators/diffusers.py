"""The adapter to diffusers, which runs its pipelines; `topcoat.generators.meta` counts them."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from topcoat.errors import ModelError, UsageError
from topcoat.generators.base import GeneratorSpec, ModelPair, check_request, check_steps, check_strength
from topcoat.generators.components import ComponentCache
from topcoat.generators.families import FAMILIES, Family
from topcoat.generators.latents import encode, from_vae, pack, to_vae, unpack
from topcoat.generators.loading import load_pipeline
from topcoat.generators.quiet import quiet_libraries
from topcoat.images import check_images

_DECODE_PIXELS = 4 * 1024 * 1024  # decoding needs far more memory per pixel than denoising, so it goes in smaller lots


class DiffusersGenerator:
    """A `LatentGenerator` and `Rerenderer` around one loaded diffusers pipeline; made by `load_generator`.

    The noise of image ``i`` comes from a CPU generator seeded with ``seeds[i]``. Batches of another size change an
    image by no more than the rounding of the network's own arithmetic (about 1e-6 in float32).
    """

    def __init__(self, spec: GeneratorSpec, pipeline: Any, family: Family | None = None) -> None:
        self._spec = spec
        self._pipeline = pipeline
        self._family = FAMILIES[type(pipeline).__name__] if family is None else family

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
        return self.decode(self.generate_latents(prompts, seeds, steps=steps))

    def generate_latents(self, prompts: Sequence[str], seeds: Sequence[int], *, steps: int | None = None) -> Tensor:
        """``(N, C, H/8, W/8)`` float32 on the CPU, as the denoiser leaves them; raises like `generate`."""
        texts, numbers = check_request(prompts, seeds)
        count = check_steps(steps, self._spec)
        with _memory_errors(self._spec, len(texts)), quiet_libraries():
            return self._run(self._pipeline, texts, num_inference_steps=count, generator=_noises(numbers))

    def rerender(
        self,
        images: Tensor,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        strength: float,
        steps: int | None = None,
    ) -> Tensor:
        """Images ``(N, 3, H, W)`` in [0, 1] painted over, of the same shape and range, on the CPU.

        The image is encoded by the mode of the VAE's distribution, so that the seed decides the added noise alone.
        Raises like `generate`, and `UsageError` for images of another size or a strength outside (0, 1].
        """
        texts, numbers = check_request(prompts, seeds)
        spec, count = self._spec, check_steps(steps, self._spec)
        check_strength(strength, count)
        check_images(images, "the images to paint over")
        if images.shape != (len(texts), 3, spec.height_px, spec.width_px):
            raise UsageError(
                f"images of shape {tuple(images.shape)} came with {len(texts)} prompts for {spec.name}; give "
                f"({len(texts)}, 3, {spec.height_px}, {spec.width_px})"
            )
        with _memory_errors(spec, len(texts)), quiet_libraries():
            paint_over = self._paint_over_flow if self._family.flow else self._paint_over_unet
            latents = paint_over(images, texts, numbers, strength, count)
        return self.decode(latents)

    def decode(self, latents: Tensor) -> Tensor:
        """``(N, 3, H, W)`` float32 in [0, 1] on the CPU, from `generate_latents`; `UsageError` for another rank."""
        if latents.ndim != 4:
            raise UsageError(f"latents have shape {tuple(latents.shape)}; give (N, C, h, w) as generate_latents() does")
        vae = self._ready_vae()
        pixels = self._spec.width_px * self._spec.height_px
        images = []
        with _memory_errors(self._spec, latents.shape[0]), torch.no_grad():
            for part in latents.split(max(1, _DECODE_PIXELS // pixels)):
                values = to_vae(part, vae).to(device=self.device, dtype=vae.dtype)
                decoded = vae.decode(values, return_dict=False)[0]
                images.append(decoded.float().cpu())
            self._pipeline.maybe_free_model_hooks()
        return self._finite(torch.cat(images)).div(2).add(0.5).clamp(0, 1)

    def _run(self, pipeline: Any, texts: list[str], **given: Any) -> Tensor:
        """One call of a pipeline of this family, as normalised latents ``(N, C, h, w)`` float32 on the CPU."""
        output = pipeline(
            prompt=list(texts),  # Z-Image's pipeline writes into the list that it is given
            output_type="latent",
            **self._family.arguments(self._spec, len(texts)),
            **given,
        ).images
        latents = output.float().cpu()
        if latents.ndim == 3:
            latents = unpack(latents, self._spec.height_px // (pipeline.vae_scale_factor * 2) * 2)
        if hasattr(pipeline.vae, "bn"):  # FLUX.2's pipeline has already undone its batch norm
            latents = from_vae(latents, pipeline.vae)
        return self._finite(latents)

    def _paint_over_flow(
        self, images: Tensor, texts: list[str], seeds: list[int], strength: float, steps: int
    ) -> Tensor:
        """The pipeline started late on its own schedule, from the image mixed with noise.

        This is what the image-to-image pipelines of diffusers do. They are not used because they know fewer VAEs than
        the pipelines that paint, and FLUX.2 klein has none.
        """
        from diffusers.utils.torch_utils import randn_tensor

        pipeline, vae = self._pipeline, self._ready_vae()
        first = int(max(steps - steps * strength, 0))
        sigmas = np.linspace(1.0, 1 / steps, steps)[first:]
        with torch.no_grad():
            parts = images.split(max(1, _DECODE_PIXELS // (self._spec.width_px * self._spec.height_px)))
            values = [encode(vae, part.to(device=self.device, dtype=vae.dtype) * 2 - 1).float() for part in parts]
            clean = from_vae(torch.cat(values), vae).cpu()
        if self._spec.offload != "none":
            pipeline.maybe_free_model_hooks()
        count, channels, height, width = clean.shape
        patched = hasattr(vae, "bn")  # FLUX.2 draws its noise as 2x2 patches laid into channels
        shape = (count, channels * 4, height // 2, width // 2) if patched else (count, channels, height, width)
        cell = torch.nn.functional.pixel_unshuffle(clean, 2) if patched else clean
        kind = torch.float32 if self._family.pipeline == "ZImagePipeline" else getattr(torch, self._spec.dtype)
        noise = randn_tensor(shape, generator=_noises(seeds), device=torch.device("cpu"), dtype=kind).float()
        sigma = self._first_sigma(sigmas, steps, height * width // 4)
        start = (1 - sigma) * cell + sigma * noise
        if self._family.pipeline == "FluxPipeline":
            start = pack(start)
        return self._run(pipeline, texts, num_inference_steps=steps, sigmas=sigmas.tolist(), latents=start.to(kind))

    def _first_sigma(self, sigmas: Any, steps: int, tokens: int) -> float:
        """The share of noise at which a schedule of ``sigmas`` starts, after the scheduler's own shift."""
        from diffusers.pipelines.flux.pipeline_flux import calculate_shift
        from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

        scheduler = self._pipeline.scheduler
        if self._family.pipeline == "Flux2KleinPipeline":
            mu = compute_empirical_mu(image_seq_len=tokens, num_steps=steps)
        else:
            defaults = {"base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": 1.15}
            mu = calculate_shift(tokens, *(scheduler.config.get(name, value) for name, value in defaults.items()))
        scheduler.set_timesteps(sigmas=list(sigmas), mu=mu)
        return float(scheduler.sigmas[0])

    def _paint_over_unet(
        self, images: Tensor, texts: list[str], seeds: list[int], strength: float, steps: int
    ) -> Tensor:
        """SDXL's own image-to-image pipeline, made of the same parts."""
        import diffusers

        kind = diffusers.StableDiffusionXLImg2ImgPipeline
        known = inspect.signature(kind.__init__).parameters
        settings = {**self._pipeline.config, **self._pipeline.components}
        pipeline: Any = kind(**{name: value for name, value in settings.items() if name in known})
        pipeline.set_progress_bar_config(disable=True)
        if self._spec.offload != "none":
            place(pipeline, self._spec)
        vae = self._ready_vae()
        with torch.no_grad():
            values = encode(vae, images.to(device=pipeline._execution_device, dtype=vae.dtype) * 2 - 1)
            clean = from_vae(values.float(), vae).to(getattr(torch, self._spec.dtype))
        given = self._family.arguments(self._spec, len(texts))
        latents = pipeline(
            prompt=list(texts),
            image=clean,  # four channels: taken as latents, not encoded again
            strength=strength,
            num_inference_steps=steps,
            generator=_noises(seeds),
            output_type="latent",
            **{name: value for name, value in given.items() if name not in ("height", "width")},
        ).images
        if self._spec.offload != "none":
            place(self._pipeline, self._spec)
        return self._finite(latents.float().cpu())

    def _ready_vae(self) -> Any:
        """The VAE, in float32 where its config says that float16 is too narrow for it (SDXL)."""
        vae = self._pipeline.vae
        if vae.dtype == torch.float16 and getattr(vae.config, "force_upcast", False):
            vae.to(torch.float32)
        return vae

    def _finite(self, values: Tensor) -> Tensor:
        if not torch.isfinite(values).all():
            raise ModelError(
                f"{self._spec.name} made values that are not finite with dtype {self._spec.dtype}; use float32, or "
                "bfloat16 instead of float16"
            )
        return values


def load_generator(spec: GeneratorSpec, cache: ComponentCache | None = None) -> DiffusersGenerator:
    """Load the models that ``spec`` names; parts that ``cache`` holds for the same `model` are used again.

    Raises `UsageError` for a size, device or setting that cannot be, and `ModelError` for a model that is unknown,
    gated, out of reach, of a kind that is not supported, too large, or in need of a package that is missing.
    """
    _device(spec)
    with quiet_libraries(), _memory_errors(spec, 1):
        pipeline, family = load_pipeline(spec, cache)
        cell_px = pipeline.vae_scale_factor * family.packing
        if spec.width_px % cell_px or spec.height_px % cell_px:
            raise UsageError(
                f"{spec.name} cannot paint {spec.width_px}x{spec.height_px}; width and height must be multiples of "
                f"{cell_px}"
            )
        pipeline.set_progress_bar_config(disable=True)
        place(pipeline, spec)
    if cache is not None:
        cache.keep(spec, pipeline.components)
    return DiffusersGenerator(spec, pipeline, family)


def load_pair(pair: ModelPair) -> tuple[DiffusersGenerator, DiffusersGenerator]:
    """The distilled model and the baseline, sharing what they can; raises like `load_generator`."""
    cache = ComponentCache()
    return load_generator(pair.distilled, cache), load_generator(pair.baseline, cache)


def place(pipeline: Any, spec: GeneratorSpec) -> None:
    """Move a pipeline to the spec's device, or have its parts moved there when each is needed."""
    device = _device(spec)
    if spec.offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif spec.offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.to(device)


def _noises(seeds: list[int]) -> list[torch.Generator]:
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


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
