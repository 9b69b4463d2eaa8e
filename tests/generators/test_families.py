"""Every family on a real diffusers pipeline of random weights: generating, decoding, img2img."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from topcoat.errors import ModelError, UsageError
from topcoat.generators.base import GeneratorSpec, Img2ImgGenerator, LatentGenerator, ModelPair, SchedulerSpec
from topcoat.generators.diffusers import DiffusersGenerator, load_generator
from topcoat.generators.families import FAMILIES

pytestmark = pytest.mark.filterwarnings(  # diffusers' Euler schedulers hand a tensor to numpy in an old way
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
PROMPTS = ["studio portrait of a young woman", "old man", "red hair"]
SEEDS = [3, 1, 2**40]
LATENTS = {
    "flux1": (16, 4, 6),
    "flux2-klein": (4, 4, 6),
    "flux2": (4, 4, 6),
    "sdxl": (4, 4, 6),
    "sd15": (4, 4, 6),
    "sd3": (16, 4, 6),
    "qwen-image": (4, 4, 6),
    "z-image": (16, 4, 6),
    "sana": (4, 8, 16),
    "sana-sprint": (4, 8, 16),
    "pixart": (4, 4, 6),
}
NAMES = tuple(LATENTS)
NO_IMG2IMG = ("sana", "sana-sprint", "pixart")
IMG2IMG = tuple(name for name in NAMES if name not in NO_IMG2IMG)
FLOW = ("flux1", "flux2-klein", "flux2", "sd3", "qwen-image", "z-image")


@pytest.fixture(scope="module")
def loaded(specs: dict[str, GeneratorSpec]) -> dict[str, DiffusersGenerator]:
    return {name: load_generator(spec) for name, spec in specs.items()}


@pytest.mark.parametrize("name", NAMES)
def test_images_are_those_of_the_pipeline(loaded: dict[str, DiffusersGenerator], name: str) -> None:
    generator = loaded[name]
    assert isinstance(generator, LatentGenerator) and isinstance(generator, Img2ImgGenerator)
    images = generator.generate(PROMPTS, SEEDS)
    latents = generator.generate_latents(PROMPTS, SEEDS)
    assert latents.shape == (3, *LATENTS[name]) and latents.dtype == torch.float32
    assert torch.equal(generator.decode(latents), images)
    spec = generator.spec
    family = FAMILIES[type(generator.pipeline).__name__]
    expected = generator.pipeline(
        prompt=list(PROMPTS),
        num_inference_steps=spec.steps,
        generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
        output_type="pt",
        **family.arguments(spec, len(PROMPTS)),
    ).images
    torch.testing.assert_close(images, expected.float(), atol=1e-5, rtol=0)
    assert images.std() > 0.01


@pytest.mark.parametrize("name", NAMES)
def test_an_image_depends_on_prompt_seed_and_steps_alone(loaded: dict[str, DiffusersGenerator], name: str) -> None:
    generator = loaded[name]
    together = generator.generate(PROMPTS, SEEDS)
    alone = torch.cat([generator.generate([prompt], [seed]) for prompt, seed in zip(PROMPTS, SEEDS, strict=True)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    order = [2, 0, 1]
    shuffled = generator.generate([PROMPTS[i] for i in order], [SEEDS[i] for i in order])
    torch.testing.assert_close(together[order], shuffled, atol=1e-5, rtol=0)
    assert (generator.generate(PROMPTS, [9, 9, 9]) - together).abs().max() > 1e-3


@pytest.mark.parametrize("name", IMG2IMG)
def test_img2img_keeps_the_more_the_lower_the_strength(loaded: dict[str, DiffusersGenerator], name: str) -> None:
    generator = loaded[name]
    images = torch.rand(3, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    decoded = generator.img2img(images, PROMPTS, SEEDS, strength=0.34)  # one step of three
    assert decoded.shape == images.shape and 0 <= float(decoded.min()) < float(decoded.max()) <= 1
    alone = [
        generator.img2img(image[None], [prompt], [seed], strength=0.34)
        for image, prompt, seed in zip(images, PROMPTS, SEEDS, strict=True)
    ]
    torch.testing.assert_close(decoded, torch.cat(alone), atol=1e-5, rtol=0)
    other = torch.rand(3, 3, 32, 48, generator=torch.Generator().manual_seed(1))

    def influence(strength: float) -> float:
        one, two = (generator.img2img(given, PROMPTS, SEEDS, strength=strength) for given in (images, other))
        return float((one - two).abs().mean())

    weak, strong = influence(0.34), influence(1.0)
    assert weak > 2 * strong, (weak, strong)
    assert (generator.img2img(images, PROMPTS, [9, 9, 9], strength=0.34) - decoded).abs().max() > 1e-4


@pytest.mark.parametrize("name", FLOW)
def test_img2img_of_a_flow_model_at_full_strength_is_generation_from_noise(
    loaded: dict[str, DiffusersGenerator], name: str
) -> None:
    generator = loaded[name]
    images = torch.rand(3, 3, 32, 48)
    over = generator.img2img(images, PROMPTS, SEEDS, strength=1.0)
    torch.testing.assert_close(over, generator.generate(PROMPTS, SEEDS), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("flux1", "FluxImg2ImgPipeline"),
        ("z-image", "ZImageImg2ImgPipeline"),
        ("sd3", "StableDiffusion3Img2ImgPipeline"),
        ("qwen-image", "QwenImageImg2ImgPipeline"),
    ],
)
def test_img2img_is_that_of_diffusers(
    loaded: dict[str, DiffusersGenerator], name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The VAE's noise is the one thing that differs, so the test takes the mode there too."""
    import diffusers
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    generator = loaded[name]
    spec, family = generator.spec, FAMILIES[type(generator.pipeline).__name__]
    images = torch.rand(3, 3, 32, 48, generator=torch.Generator().manual_seed(2))
    pipeline = getattr(diffusers, kind)(
        **{part: value for part, value in generator.pipeline.components.items() if value is not None}
    )
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        prompt=list(PROMPTS),
        image=images,
        strength=0.67,
        num_inference_steps=3,
        generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
        output_type="pt",
        **family.arguments(spec, 3),
    ).images
    images_out = generator.img2img(images, PROMPTS, SEEDS, strength=0.67)
    torch.testing.assert_close(images_out, expected.float(), atol=1e-5, rtol=0)


def test_sdxl_img2img_is_that_of_its_own_pipeline_on_the_encoded_image(
    loaded: dict[str, DiffusersGenerator], monkeypatch: pytest.MonkeyPatch
) -> None:
    import diffusers
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    generator = loaded["sdxl"]
    images = torch.rand(3, 3, 32, 48, generator=torch.Generator().manual_seed(2))
    parts = {part: value for part, value in generator.pipeline.components.items() if value is not None}
    pipeline = diffusers.StableDiffusionXLImg2ImgPipeline(**parts, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    expected: Any = pipeline(
        prompt=list(PROMPTS),
        image=images,
        strength=0.67,
        num_inference_steps=3,
        guidance_scale=4.0,
        generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
        output_type="pt",
    )
    images_out = generator.img2img(images, PROMPTS, SEEDS, strength=0.67)
    torch.testing.assert_close(images_out, expected.images.float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("shape", "strength", "steps", "words"),
    [
        ((3, 3, 32, 48), 0.0, None, "strength 0 is not possible"),
        ((3, 3, 32, 48), 1.5, None, "strength 1.5 is not possible"),
        ((3, 3, 32, 48), 0.2, None, "leaves no step to run; use 0.333333 or more"),
        ((2, 3, 32, 48), 0.5, None, r"give \(3, 3, 32, 48\)"),
        ((3, 3, 48, 32), 0.5, None, r"give \(3, 3, 32, 48\)"),
        ((3, 3, 32, 48), 0.5, 0, "0 steps are not possible"),
    ],
)
def test_img2img_refuses(
    loaded: dict[str, DiffusersGenerator], shape: tuple[int, ...], strength: float, steps: int | None, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        loaded["flux1"].img2img(torch.rand(shape), PROMPTS, SEEDS, strength=strength, steps=steps)


@pytest.mark.parametrize("name", ["sdxl", "z-image", "flux1"])
def test_a_negative_prompt_changes_the_image(specs: dict[str, GeneratorSpec], name: str) -> None:
    change: dict[str, Any] = {"negative_prompt": "red hair"}
    if name == "flux1":
        change["true_cfg_scale"] = 3.0
    guided = load_generator(specs[name].model_copy(update=change))
    plain = load_generator(specs[name])
    assert (guided.generate(PROMPTS, SEEDS) - plain.generate(PROMPTS, SEEDS)).abs().max() > 1e-4


def test_settings_that_a_family_lacks_are_refused(specs: dict[str, GeneratorSpec]) -> None:
    with pytest.raises(UsageError, match="has a unet and no transformer; remove transformer"):
        load_generator(specs["sdxl"].model_copy(update={"transformer": specs["z-image"].model}))
    with pytest.raises(UsageError, match="has no negative prompt"):
        load_generator(specs["flux2-klein"].model_copy(update={"negative_prompt": "x"}))
    with pytest.raises(UsageError, match="passes over guidance_scale; set it to 1, and true_cfg_scale"):
        load_generator(specs["qwen-image"].model_copy(update={"guidance_scale": 4.0}))
    images = torch.rand(1, 3, 32, 64)
    with pytest.raises(UsageError, match="SanaPipeline has no image-to-image; use the pairing same-seed"):
        load_generator(specs["sana"]).img2img(images, PROMPTS[:1], SEEDS[:1], strength=0.5)
    with pytest.raises(UsageError, match="has no true_cfg_scale; set guidance_scale"):
        load_generator(specs["sdxl"].model_copy(update={"negative_prompt": "x", "true_cfg_scale": 2.0}))


@pytest.mark.parametrize(
    ("pipeline", "change", "passes", "texts"),
    [
        ("FluxPipeline", {"guidance_scale": 3.5}, 1, 1),
        ("FluxPipeline", {"true_cfg_scale": 2.0, "negative_prompt": ""}, 2, 2),
        ("Flux2KleinPipeline", {"guidance_scale": 1.0}, 1, 1),
        ("Flux2KleinPipeline", {"guidance_scale": 4.0}, 2, 2),
        ("StableDiffusionXLPipeline", {"guidance_scale": 0.0}, 1, 1),
        ("StableDiffusionXLPipeline", {"guidance_scale": 5.0}, 2, 1),
        ("StableDiffusionXLPipeline", {"guidance_scale": 5.0, "negative_prompt": "x"}, 2, 2),
        ("ZImagePipeline", {"guidance_scale": 0.0}, 1, 1),
        ("ZImagePipeline", {"guidance_scale": 0.5}, 2, 2),
        ("Flux2Pipeline", {"guidance_scale": 4.0}, 1, 1),
        ("StableDiffusionPipeline", {"guidance_scale": 7.5}, 2, 2),
        ("StableDiffusion3Pipeline", {"guidance_scale": 1.0}, 1, 1),
        ("StableDiffusion3Pipeline", {"guidance_scale": 4.5}, 2, 2),
        ("QwenImagePipeline", {"true_cfg_scale": 4.0, "negative_prompt": " "}, 2, 2),
        ("QwenImagePipeline", {"negative_prompt": " "}, 1, 1),
        ("SanaPipeline", {"guidance_scale": 4.5}, 2, 2),
        ("SanaSprintPipeline", {"guidance_scale": 4.5}, 1, 1),
        ("PixArtSigmaPipeline", {"guidance_scale": 1.0}, 1, 1),
    ],
)
def test_passes_in_a_step(flux_pair: ModelPair, pipeline: str, change: dict[str, Any], passes: int, texts: int) -> None:
    spec = flux_pair.baseline.model_copy(update=change)
    assert (FAMILIES[pipeline].passes(spec), FAMILIES[pipeline].text_passes(spec)) == (passes, texts)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("guidance", [0.0, 4.0])
def test_passes_are_what_the_pipeline_runs(specs: dict[str, GeneratorSpec], name: str, guidance: float) -> None:
    change = {"true_cfg_scale": max(1.0, guidance)} if name == "qwen-image" else {"guidance_scale": guidance}
    generator = load_generator(specs[name].model_copy(update=change))
    family = FAMILIES[type(generator.pipeline).__name__]
    rows: list[int] = []

    def count(module: Any, args: tuple[Any, ...], given: dict[str, Any]) -> None:
        latents = args[0] if args else given["hidden_states"]
        rows.append(len(latents))

    generator.pipeline.components[family.denoiser].register_forward_pre_hook(count, with_kwargs=True)
    generator.generate_latents(PROMPTS[:1], SEEDS[:1])
    assert sum(rows) == family.passes(generator.spec) * generator.spec.steps


def test_another_scheduler(specs: dict[str, GeneratorSpec]) -> None:
    wanted = SchedulerSpec(name="EulerAncestralDiscreteScheduler", config={"timestep_spacing": "trailing"})
    generator = load_generator(specs["sdxl"].model_copy(update={"scheduler": wanted}))
    scheduler = generator.pipeline.scheduler
    assert type(scheduler).__name__ == "EulerAncestralDiscreteScheduler"
    assert scheduler.config.timestep_spacing == "trailing" and scheduler.config.beta_end == 0.012
    plain = load_generator(specs["sdxl"])
    assert (generator.generate(PROMPTS, SEEDS) - plain.generate(PROMPTS, SEEDS)).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (SchedulerSpec(name="NoSuchScheduler"), "no scheduler 'NoSuchScheduler'"),
        (SchedulerSpec(name="FluxPipeline"), "no scheduler 'FluxPipeline'"),
        (SchedulerSpec(name="EulerDiscreteScheduler", config={"shft": 1}), "no setting 'shft'; use one of: "),
    ],
)
def test_a_scheduler_that_is_not_there(specs: dict[str, GeneratorSpec], wanted: SchedulerSpec, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_generator(specs["sdxl"].model_copy(update={"scheduler": wanted}))


def test_float16_sdxl_decodes_in_float32(specs: dict[str, GeneratorSpec]) -> None:
    generator = load_generator(specs["sdxl"].model_copy(update={"dtype": "float16"}))
    assert torch.isfinite(generator.decode(torch.randn(1, 4, 4, 6))).all()
    assert generator.pipeline.vae.dtype == torch.float32 and generator.pipeline.unet.dtype == torch.float16


@pytest.mark.parametrize("kind", ["bitsandbytes-4bit", "torchao-int8"])
def test_quantisation_without_its_package(
    specs: dict[str, GeneratorSpec], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=f"quantisation {kind} needs the package {kind.split('-')[0]}; install it"):
        load_generator(specs["flux1"].model_copy(update={"quantisation": kind}))
