"""The adapter to diffusers, which runs its pipelines; `topcoat.generators.meta` counts them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from topcoat.config import parse_config
from topcoat.errors import ModelError, UsageError
from topcoat.generators.base import OFFLOADS, GeneratorSpec, ModelPair, check_request, check_steps, check_strength
from topcoat.generators.families import Family, family_named
from topcoat.generators.families.base import Img2ImgRequest
from topcoat.generators.latents import decode, encode, from_vae, latent_space, to_vae
from topcoat.generators.loading import check_size, load_pipeline, quiet_libraries
from topcoat.generators.placement import ComponentCache, place, share_device
from topcoat.generators.speed import ALONE
from topcoat.generators.texts import EncodedTexts
from topcoat.images import check_images
from topcoat.memory import memory_advice

_VAE_PIXELS = 4 * 1024 * 1024  # the VAE needs far more memory per pixel than the denoiser, so it runs on fewer images


class DiffusersGenerator:
    """A `StagedGenerator` and `Img2ImgGenerator` around one loaded diffusers pipeline; made by `load_generator`.

    The noise of image ``i`` comes from a CPU generator seeded with ``seeds[i]``. Batches of another size change an
    image by no more than the rounding of the network's own arithmetic (about 1e-6 in float32).
    """

    def __init__(
        self, spec: GeneratorSpec, pipeline: Any, family: Family | None = None, texts: EncodedTexts | None = None
    ) -> None:
        """``texts`` are shared by the generators of a pair, which may have text encoders in common."""
        self._spec = spec
        self._pipeline = pipeline
        self._texts = texts or EncodedTexts()
        self._family = family or family_named(type(pipeline).__name__, spec.model)

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

    def with_call(
        self,
        *,
        size_px: tuple[int, int] | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str | None = None,
    ) -> DiffusersGenerator:
        """The same networks, called for another size (width, height), guidance or negative prompt; None leaves each.

        Raises `UsageError` for what this pipeline cannot do, such as a negative prompt where no guidance runs.
        """
        spec = self._spec
        width_px, height_px = size_px or (spec.width_px, spec.height_px)
        changes = {
            "width_px": width_px,
            "height_px": height_px,
            "guidance_scale": spec.guidance_scale if guidance_scale is None else guidance_scale,
            "negative_prompt": negative_prompt or spec.negative_prompt,
        }
        changed = parse_config(spec.model_dump() | changes, GeneratorSpec, source=spec.name)
        if negative_prompt and self._family.has_negative_prompt and not self._family.guided(changed):
            raise UsageError(
                f"{spec.name} runs without guidance, so a negative prompt changes nothing; leave negative_prompt out"
            )
        self._family.check(changed)
        check_size(changed, self._pipeline, self._family)
        return DiffusersGenerator(changed, self._pipeline, self._family)

    @property
    def latent_space(self) -> dict[str, Any]:
        """See `topcoat.generators.latents.latent_space`."""
        return latent_space(self._pipeline.vae)

    def generate(self, prompts: Sequence[str], seeds: Sequence[int], *, steps: int | None = None) -> Tensor:
        """``(N, 3, H, W)`` float32 in [0, 1] on the CPU.

        Raises `UsageError` for an invalid request, `ModelError` if memory runs out or an output is not finite.
        """
        return self.decode(self.generate_latents(prompts, seeds, steps=steps))

    def generate_latents(self, prompts: Sequence[str], seeds: Sequence[int], *, steps: int | None = None) -> Tensor:
        """``(N, C, H/8, W/8)`` float32 on the CPU, as the denoiser leaves them; raises like `generate`."""
        texts, seeds = check_request(prompts, seeds)
        if self._alone and len(texts) > 1:
            each = [self.generate_latents([text], [seed], steps=steps) for text, seed in zip(texts, seeds, strict=True)]
            return torch.cat(each)
        arguments = self._arguments(len(texts), steps) | {"generator": _noise(seeds)}
        with self._running(len(texts)):
            return self._run(self._pipeline, texts, arguments)

    def encode_texts(self, prompts: Sequence[str]) -> None:
        """See `StagedGenerator`; raises like `generate`."""
        texts, _ = check_request(prompts, [0] * len(prompts))
        with self._running(len(texts)):
            for batch in [[text] for text in texts] if self._alone else [texts]:
                self._encode_batch(batch)

    def _encode_batch(self, texts: list[str]) -> None:
        arguments = self._arguments(len(texts), None)
        self._texts.encode(self._pipeline, lambda: self._pipeline(prompt=texts, output_type="latent", **arguments))

    def forget_texts(self) -> None:
        """See `StagedGenerator`."""
        self._texts.forget()

    @contextmanager
    def resident(self) -> Iterator[None]:
        """See `StagedGenerator`. Without it, a pipeline that offloads takes its networks away after every batch."""
        self._pipeline.maybe_free_model_hooks = lambda: None  # shadows the method
        try:
            yield
        finally:
            del self._pipeline.maybe_free_model_hooks
            self._leave_device()

    def img2img(
        self,
        images: Tensor,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        strength: float,
        steps: int | None = None,
    ) -> Tensor:
        """Image-to-image of images ``(N, 3, H, W)`` in [0, 1]: the same shape and range, on the CPU.

        The image is encoded by the mode of the VAE's distribution, so that the seed decides the added noise alone.
        Raises like `generate`, and `UsageError` for images of another size or a strength outside (0, 1].
        """
        texts, seeds = check_request(prompts, seeds)
        spec, count = self._spec, check_steps(steps, self._spec)
        check_strength(strength, count)
        check_images(images, "the images of img2img")
        if images.shape != (len(texts), 3, spec.height_px, spec.width_px):
            raise UsageError(
                f"images of shape {tuple(images.shape)} came with {len(texts)} prompts for {spec.name}; give "
                f"({len(texts)}, 3, {spec.height_px}, {spec.width_px})"
            )
        if self._alone and len(texts) > 1:
            each = [
                self.img2img(image[None], [text], [seed], strength=strength, steps=steps)
                for image, text, seed in zip(images, texts, seeds, strict=True)
            ]
            return torch.cat(each)
        with self._running(len(texts)):
            start = self._encode(images.contiguous())  # another layout in memory takes kernels that round otherwise
            request = Img2ImgRequest(self._pipeline, spec, start, _noise(seeds), strength, count)
            pipeline, arguments = self._family.img2img(request)
            borrowed = pipeline is not self._pipeline  # a pipeline of the same parts, for this call
            if borrowed:
                pipeline.set_progress_bar_config(disable=True)
            if borrowed and spec.offload != "none":
                place(pipeline, spec)
            try:
                latents = self._run(pipeline, texts, arguments)
            finally:
                if borrowed and spec.offload != "none":
                    place(self._pipeline, spec)
        return self.decode(latents)

    def decode(self, latents: Tensor) -> Tensor:
        """``(N, 3, H, W)`` float32 in [0, 1] on the CPU, from `generate_latents`; `UsageError` for another rank."""
        if latents.ndim != 4:
            raise UsageError(f"latents have shape {tuple(latents.shape)}; give (N, C, h, w) as generate_latents() does")
        vae = self._ready_vae()
        images = []
        with self._running(len(latents)), torch.no_grad():
            for part in latents.split(self._vae_batch):
                values = to_vae(part, vae).to(device=self.device, dtype=vae.dtype)
                images.append(decode(vae, values).float().cpu())
            self._pipeline.maybe_free_model_hooks()
        return self._finite(torch.cat(images)).div(2).add(0.5).clamp(0, 1)

    def _encode(self, images: Tensor) -> Tensor:
        """``(N, C, h, w)`` float32 on the CPU: the images' latents, normalised as the denoiser leaves them."""
        vae = self._ready_vae()
        with torch.no_grad():
            parts = [part.to(device=self.device, dtype=vae.dtype) * 2 - 1 for part in images.split(self._vae_batch)]
            latents = from_vae(torch.cat([encode(vae, part).float() for part in parts]), vae).cpu()
        if self._spec.offload != "none":
            self._pipeline.maybe_free_model_hooks()
        return latents

    def _run(self, pipeline: Any, texts: list[str], arguments: dict[str, Any]) -> Tensor:
        """One call of a pipeline of this family, as normalised latents ``(N, C, h, w)`` float32 on the CPU."""
        prompt = list(texts)  # Z-Image's pipeline writes into the list that it is given
        with self._texts.read_by(pipeline, before=self._leave_device):
            output = pipeline(prompt=prompt, output_type="latent", **arguments).images
        return self._finite(self._family.normalised(output.float().cpu(), pipeline, self._spec))

    @contextmanager
    def _running(self, count: int) -> Iterator[None]:
        """Run networks on ``count`` images; a failed run takes its networks off the device, where they are offloaded.

        A pipeline of diffusers does this itself when it ends, not when it raises. A network that stays on the device
        leaves no room for the text encoders of the next attempt, however few images that has.
        """
        try:
            with memory_advice(_what_to_lower(self._spec, count)), quiet_libraries():
                yield
        except BaseException:
            self._leave_device()
            raise

    def _leave_device(self) -> None:
        """Take the networks off the device, where they are offloaded; even where `resident` keeps them."""
        type(self._pipeline).maybe_free_model_hooks(self._pipeline)

    def _arguments(self, count: int, steps: int | None) -> dict[str, Any]:
        """What the pipeline is called with for ``count`` images, besides prompts and noise."""
        spec = self._spec.model_copy(update={"steps": check_steps(steps, self._spec)})
        return self._family.arguments(spec, count) | {"num_inference_steps": spec.steps}

    @property
    def _alone(self) -> bool:
        """Whether images are made one at a time."""
        return self._spec.step_cache is not None and self._spec.step_cache.name in ALONE

    def _ready_vae(self) -> Any:
        """The VAE, in float32 where its config says that float16 is too narrow for it (SDXL)."""
        vae = self._pipeline.vae
        if vae.dtype == torch.float16 and getattr(vae.config, "force_upcast", False):
            vae.to(torch.float32)
        return vae

    @property
    def _vae_batch(self) -> int:
        return self._spec.decode_batch or max(1, _VAE_PIXELS // (self._spec.width_px * self._spec.height_px))

    def _finite(self, values: Tensor) -> Tensor:
        if not torch.isfinite(values).all():
            raise ModelError(
                f"{self._spec.name} made values that are not finite with dtype {self._spec.dtype}; use float32, or "
                "bfloat16 instead of float16"
            )
        return values


def load_generator(spec: GeneratorSpec) -> DiffusersGenerator:
    """Load the models that ``spec`` names.

    Raises `UsageError` for a size, device or setting that is not possible, and `ModelError` for a model that is
    unknown, gated, out of reach, of a kind that is not supported, too large, or in need of a package that is missing.
    """
    with quiet_libraries(), memory_advice(_what_to_lower(spec, 1)):
        pipeline, family = load_pipeline(spec, ComponentCache())
        place(pipeline, spec)
    return DiffusersGenerator(spec, pipeline, family)


def load_pair(pair: ModelPair) -> tuple[DiffusersGenerator, DiffusersGenerator]:
    """The distilled model and the baseline with the parts that both have loaded once; raises like `load_generator`.

    Where both do not fit onto the device together, their networks take turns on it (`share_device`).
    """
    cache, texts = ComponentCache(), EncodedTexts()
    specs = (pair.distilled, pair.baseline)
    loaded: list[tuple[Any, Family]] = []
    with quiet_libraries():
        for spec in specs:
            with memory_advice(_what_to_lower(spec, 1)):
                loaded.append(load_pipeline(spec, cache))
        specs = share_device(specs, [pipeline for pipeline, _ in loaded])
        for spec, (pipeline, _) in zip(specs, loaded, strict=True):
            with memory_advice(_what_to_lower(spec, 1)):
                place(pipeline, spec)
    distilled, baseline = (DiffusersGenerator(spec, *parts, texts) for spec, parts in zip(specs, loaded, strict=True))
    return distilled, baseline


def _noise(seeds: Sequence[int]) -> list[torch.Generator]:
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def _what_to_lower(spec: GeneratorSpec, count: int) -> str:
    choices = [f"a batch size below {count}"] if count > 1 else []
    further = OFFLOADS[OFFLOADS.index(spec.offload) + 1 :]
    choices += [f"offload: {' or '.join(further)}"] if further else []
    return f"{spec.name} ran out of memory at {spec.width_px}x{spec.height_px} in {spec.dtype}; use " + ", ".join(
        [*choices, "or a smaller size" if choices else "a smaller size"]
    )
