"""A head behind diffusers' own pipelines, on the mini pair and a tiny SDXL: the bytes of `topcoat.Pipeline`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import topcoat
from tests.conftest import SIZE_PX
from topcoat.errors import UsageError
from topcoat.generators.base import GeneratorSpec
from topcoat.generators.diffusers import DiffusersGenerator, load_generator
from topcoat.heads import Head
from topcoat.images import to_pil
from topcoat.integrations.diffusers import EnhanceStep, FloatImagesStep, HeadImageProcessor, insert_head, with_head

pytestmark = pytest.mark.filterwarnings(  # a scheduler of diffusers
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

PROMPTS = ["studio portrait of an old man, beard", "studio portrait of a young woman, red hair"]
SEEDS = [7, 11]


@pytest.fixture(scope="module")
def mini() -> DiffusersGenerator:
    return load_generator(topcoat.model_pair("mini").distilled)


@pytest.fixture(scope="module")
def sdxl(family_specs: dict[str, GeneratorSpec]) -> DiffusersGenerator:
    return load_generator(family_specs["sdxl"])


@pytest.fixture(params=["mini", "sdxl"])
def generator(request: pytest.FixtureRequest) -> DiffusersGenerator:
    return request.getfixturevalue(request.param)


def arguments(generator: DiffusersGenerator, count: int = 2) -> dict[str, Any]:
    spec = generator.spec
    given: dict[str, Any] = {"prompt": PROMPTS[:count], "num_inference_steps": spec.steps}
    given |= {"guidance_scale": spec.guidance_scale, "height": spec.height_px, "width": spec.width_px}
    if "Flux" in type(generator.pipeline).__name__:
        given["max_sequence_length"] = spec.max_sequence_length
    return given | {"generator": [torch.Generator().manual_seed(seed) for seed in SEEDS[:count]]}


def pixels(images: Tensor) -> np.ndarray:
    return np.stack([np.asarray(to_pil(image)) for image in images])


def modular(generator: DiffusersGenerator, head: Head) -> Any:
    """The modular pipeline of the same parts, with the head in it."""
    import diffusers

    flux = "Flux" in type(generator.pipeline).__name__
    blocks = insert_head(diffusers.FluxAutoBlocks() if flux else diffusers.StableDiffusionXLAutoBlocks(), head)
    pipeline = blocks.init_pipeline()
    parts = {name: part for name, part in generator.pipeline.components.items() if name in pipeline.component_names}
    pipeline.update_components(**{name: part for name, part in parts.items() if part is not None})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def restored(generator: DiffusersGenerator) -> None:
    processor = generator.pipeline.image_processor
    if isinstance(processor, HeadImageProcessor):
        generator.pipeline.image_processor = processor.processor


@pytest.mark.parametrize("strength", [0.0, 0.6, 1.0])
def test_a_wrapped_pipeline_gives_the_bytes_of_topcoats(generator: DiffusersGenerator, strength: float) -> None:
    head = Head.default()
    expected = topcoat.Pipeline(generator, head)(PROMPTS, SEEDS, strength=strength)
    pipeline = with_head(generator.pipeline, head, strength)
    try:
        floats = pipeline(**arguments(generator), output_type="pt").images
        pictures = pipeline(**arguments(generator)).images
        arrays = pipeline(**arguments(generator), output_type="np").images
    finally:
        restored(generator)
    assert torch.equal(floats, expected)
    assert np.array_equal(np.stack([np.asarray(picture) for picture in pictures]), pixels(expected))
    assert np.array_equal(arrays, expected.permute(0, 2, 3, 1).numpy())


def test_the_strength_is_set_between_calls_and_the_head_comes_off(mini: DiffusersGenerator) -> None:
    head, own = Head.default(), mini.generate(PROMPTS, SEEDS)
    pipeline = with_head(with_head(mini.pipeline, head), head)  # twice is once
    try:
        full = pipeline(**arguments(mini), output_type="pt").images
        pipeline.image_processor.strength = 0.0
        none = pipeline(**arguments(mini), output_type="pt").images
        latents = pipeline(**arguments(mini), output_type="latent").images
        assert pipeline.image_processor.config.vae_scale_factor > 1  # the rest is the pipeline's own
    finally:
        restored(mini)
    assert torch.equal(none, own) and not torch.equal(full, own)
    assert torch.equal(mini.pipeline(**arguments(mini), output_type="latent").images, latents)
    assert torch.equal(mini.pipeline(**arguments(mini), output_type="pt").images, own)


def test_a_block_after_decode_gives_the_bytes_of_topcoats(generator: DiffusersGenerator) -> None:
    head = Head.default()
    pipeline = modular(generator, head)

    def called(count: int, **more: Any) -> Any:
        given = arguments(generator, count) | {"output": "images"} | more
        if "guider" in pipeline.component_names:  # SDXL's modular pipeline has a part for it
            pipeline.guider.guidance_scale = given.pop("guidance_scale")
        return pipeline(**given)

    for strength in (0.6, 1.0):
        expected = topcoat.Pipeline(generator, head)(PROMPTS[:1], SEEDS[:1], strength=strength)
        (picture,) = called(1, head_strength=strength)
        assert np.array_equal(np.asarray(picture)[None], pixels(expected))
    # Diffusers' modular denoisers round otherwise than its pipelines do: FLUX's in batches, SDXL's with guidance.
    floats = called(2, output_type="pt")
    torch.testing.assert_close(floats, topcoat.Pipeline(generator, head)(PROMPTS, SEEDS), rtol=0, atol=1e-4)
    assert torch.equal(head(called(2, output_type="pt", head_strength=0.0)), floats)


class State(dict[str, Any]):
    """What a block reads and writes."""

    def set(self, key: str, value: Any, kwargs_type: str | None = None) -> None:
        self[key] = value


def test_a_block_takes_what_a_decoder_gives_and_gives_it_back() -> None:
    images = torch.rand(2, 3, SIZE_PX, SIZE_PX, generator=torch.Generator().manual_seed(0)).mul(255).round().div(255)
    head = Head.default()
    expected, step = head(images), EnhanceStep(head)
    for given in (images, images.permute(0, 2, 3, 1).numpy(), [to_pil(image) for image in images]):
        state = State(images=given)
        step(None, state)
        assert type(state["images"]) is type(given)
        if isinstance(given, list):
            assert np.array_equal(np.stack([np.asarray(picture) for picture in state["images"]]), pixels(expected))
        else:
            array = torch.as_tensor(state["images"])
            array = array if isinstance(given, Tensor) else array.permute(0, 3, 1, 2)
            torch.testing.assert_close(array, expected, rtol=0, atol=1e-6)
    state = State(output_type="latent")
    FloatImagesStep()(None, state)
    state["images"] = latents = torch.zeros(2, 4, 8, 8)
    step(None, state)
    assert state["output_type"] == "latent" and state["images"] is latents


def test_what_cannot_work_is_said() -> None:
    import diffusers

    decoder = Head.load("embedded-decoder")
    with pytest.raises(UsageError, match=r"decodes latents in place of the VAE; use it with topcoat\.Pipeline"):
        insert_head(diffusers.FluxAutoBlocks(), decoder)
    with pytest.raises(UsageError, match=r"object has no image_processor that a head could follow"):
        with_head(object(), Head.default())
    with pytest.raises(UsageError, match=r"SequentialPipelineBlocks has no block named decode \(it has none\)"):
        insert_head(diffusers.SequentialPipelineBlocks(), Head.default())


def test_the_pages_examples_run() -> None:
    page = (Path(__file__).parents[2] / "docs" / "integrations.md").read_text(encoding="utf-8")
    section = re.search(r"^## diffusers$(.*?)(?=^## |\Z)", page, flags=re.MULTILINE | re.DOTALL)
    assert section is not None
    scope: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", section[1], flags=re.DOTALL):
        exec(compile(block, "integrations.md", "exec"), scope)
    first, second = (np.asarray(scope[name]) for name in ("picture", "modular_picture"))
    assert first.shape == second.shape == (128, 128, 3) and not np.array_equal(first, second)  # other noise
