"""A new family is one class and one entry: this one, from outside, is loaded, run and counted like the others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from tests.heads.vaes import TINY_VAE
from topcoat.cost.flops import pair_cost
from topcoat.cost.table import DENOISER_ROW
from topcoat.errors import ModelError, UsageError
from topcoat.generators.base import GeneratorSpec, Img2ImgGenerator, Licence, ModelPair
from topcoat.generators.diffusers import load_generator
from topcoat.generators.families import FAMILIES, Configs, Family, published_models
from topcoat.generators.families.base import Img2ImgRequest, OneImage


class ToyPipeline(diffusers.DiffusionPipeline):
    """A U-Net without a text: noise, plus its prediction in every step."""

    vae_scale_factor = 4

    def __init__(self, unet: Any, vae: Any) -> None:
        super().__init__()
        self.register_modules(unet=unet, vae=vae)

    @torch.no_grad()
    def __call__(
        self,
        prompt: list[str],
        height: int,
        width: int,
        steps_of_toy: int,
        generator: list[torch.Generator],
        output_type: str,
        start: Tensor | None = None,
        **_: Any,
    ) -> Any:
        shape = (1, 4, height // 4, width // 4)
        latents = torch.cat([torch.randn(shape, generator=noise) for noise in generator])
        latents = latents if start is None else start + latents
        for step in range(steps_of_toy):
            latents = latents - self.unet(latents, step, return_dict=False)[0] / steps_of_toy
        return diffusers.ImagePipelineOutput(images=latents)  # pyright: ignore[reportArgumentType]


UNET = {
    "_class_name": "UNet2DModel",
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 1,
    "block_out_channels": [8],
    "norm_num_groups": 4,
    "down_block_types": ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"],
}


class Toy(Family):
    pipeline = "ToyPipeline"
    denoiser = "unet"
    denoiser_class = "UNet2DModel"
    packing = 1
    has_negative_prompt = False
    has_sequence_length = False

    @property
    def published(self) -> Mapping[str, Configs]:
        return {"toys/toy": {"model_index": {"_class_name": "ToyPipeline"}, "unet": UNET, "vae": TINY_VAE}}

    def arguments(self, spec: GeneratorSpec, count: int) -> dict[str, Any]:
        return {**super().arguments(spec, count), "steps_of_toy": spec.steps}

    def img2img(self, request: Img2ImgRequest) -> tuple[Any, dict[str, Any]]:
        own = {"start": request.latents, "generator": list(request.noise)}
        return request.pipeline, self.arguments(request.spec, len(request.latents)) | own

    def denoiser_inputs(self, image: OneImage) -> dict[str, Any]:
        return {"sample": image.ones(1, image.config["in_channels"], image.height, image.width), "timestep": 1}


@pytest.fixture
def spec(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> GeneratorSpec:
    monkeypatch.setitem(FAMILIES, "ToyPipeline", Toy())
    monkeypatch.setattr(diffusers, "ToyPipeline", ToyPipeline, raising=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet, vae = diffusers.UNet2DModel.from_config(UNET), diffusers.AutoencoderKL.from_config(TINY_VAE)
    ToyPipeline(unet, vae).save_pretrained(tmp_path)
    return GeneratorSpec(
        name="toy",
        model=str(tmp_path),
        steps=2,
        guidance_scale=0.0,
        max_sequence_length=8,
        width_px=48,
        height_px=32,
        dtype="float32",
        device="cpu",
        licence=Licence(name="MIT", url="https://example.org/licence"),
    )


def test_a_toy_family_generates(spec: GeneratorSpec) -> None:
    generator = load_generator(spec)
    assert isinstance(generator, Img2ImgGenerator)
    images = generator.generate(["a", "b"], [1, 2])
    assert images.shape == (2, 3, 32, 48) and images.std() > 0.01
    assert torch.equal(generator.decode(generator.generate_latents(["b"], [2])), generator.generate(["b"], [2]))
    assert not torch.equal(generator.img2img(images, ["a", "b"], [1, 2], strength=0.5), images)
    with pytest.raises(UsageError, match="has no negative prompt"):
        load_generator(spec.model_copy(update={"negative_prompt": "x"}))
    with pytest.raises(UsageError, match="multiples of 4"):
        load_generator(spec.model_copy(update={"width_px": 50}))


def test_a_toy_family_is_counted_by_its_folder_and_by_its_published_sizes(spec: GeneratorSpec) -> None:
    baseline = spec.model_copy(update={"name": "toy-guided", "steps": 8, "guidance_scale": 2.0})
    by_folder = pair_cost(ModelPair(name="toys", distilled=spec, baseline=baseline))
    passes = next(row for row in by_folder.distilled.rows if row.piece == DENOISER_ROW).tflop_each
    assert by_folder.baseline.tflop - by_folder.distilled.tflop == pytest.approx(14 * passes)  # 8 x 2 against 2
    assert "toys/toy" in published_models()
    known = {side: one.model_copy(update={"model": "toys/toy"}) for side, one in (("a", spec), ("b", baseline))}
    by_name = pair_cost(ModelPair(name="toys", distilled=known["a"], baseline=known["b"]))
    assert by_name.baseline == by_folder.baseline


def test_without_its_entry_it_is_refused(spec: GeneratorSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(FAMILIES, "ToyPipeline")
    with pytest.raises(ModelError, match="is a ToyPipeline, which is not supported; use one of: FluxPipeline"):
        load_generator(spec)
