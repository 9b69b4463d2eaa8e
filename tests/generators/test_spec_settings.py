"""Each setting of a spec is one call of diffusers: the image is the one that the same call by hand gives."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pydantic
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from topcoat.errors import ModelError, UsageError
from topcoat.generators.base import GeneratorSpec, ModelPair, StepCacheSpec, WeightsSpec
from topcoat.generators.diffusers import load_generator, load_pair
from topcoat.generators.loading import quiet_libraries
from topcoat.generators.weights import quantisation_of

pytestmark = pytest.mark.filterwarnings(  # diffusers' Euler schedulers hand a tensor to numpy in an old way
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
PROMPTS = ["studio portrait of a young woman", "old man"]
SEEDS = [3, 1]


def changed(spec: GeneratorSpec, **settings: Any) -> GeneratorSpec:
    return GeneratorSpec.model_validate({**spec.model_dump(), **settings})


def directly(spec: GeneratorSpec, prepare: Any = None, parts: dict[str, Any] | None = None, **call: Any) -> Tensor:
    """What diffusers gives for the spec's size, steps and guidance; ``prepare`` is done to the loaded pipeline."""
    diffusers = importlib.import_module("diffusers")
    with quiet_libraries():
        pipeline: Any = diffusers.DiffusionPipeline.from_pretrained(spec.model, **(parts or {}))
        if prepare is not None:
            prepare(pipeline)
        if "UNet" not in type(pipeline).__name__ and not hasattr(pipeline, "unet"):
            call["max_sequence_length"] = spec.max_sequence_length
        return pipeline(
            prompt=list(PROMPTS),
            height=spec.height_px,
            width=spec.width_px,
            guidance_scale=spec.guidance_scale,
            generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
            output_type="pt",
            **{"num_inference_steps": spec.steps, **call},
        ).images.float()


def test_another_unet_from_a_folder_a_component_and_one_file(specs: dict[str, GeneratorSpec], tmp_path: Path) -> None:
    diffusers = importlib.import_module("diffusers")
    spec = specs["sdxl"]
    own = diffusers.UNet2DConditionModel.from_pretrained(spec.model, subfolder="unet")
    with torch.random.fork_rng():
        torch.manual_seed(7)
        unet = diffusers.UNet2DConditionModel.from_config(own.config)
    unet.save_pretrained(tmp_path / "pipeline" / "unet")
    unet.save_pretrained(tmp_path / "component")
    save_file(unet.state_dict(), tmp_path / "component" / "fast_unet.safetensors")
    expected = directly(spec, parts={"unet": unet})
    assert (directly(spec) - expected).abs().max() > 1e-3
    ways: tuple[Any, ...] = (
        str(tmp_path / "pipeline"),
        str(tmp_path / "component"),
        WeightsSpec(model=str(tmp_path / "pipeline"), subfolder="unet"),
        str(tmp_path / "component" / "fast_unet.safetensors"),
        WeightsSpec(model=str(tmp_path / "component"), weight_name="fast_unet.safetensors"),
    )
    for way in ways:
        torch.testing.assert_close(load_generator(changed(spec, unet=way)).generate(PROMPTS, SEEDS), expected)


def test_another_transformer_from_one_file(specs: dict[str, GeneratorSpec], tmp_path: Path) -> None:
    diffusers = importlib.import_module("diffusers")
    spec = specs["flux1"]
    own = diffusers.FluxTransformer2DModel.from_pretrained(spec.model, subfolder="transformer")
    with torch.random.fork_rng():
        torch.manual_seed(7)
        transformer = diffusers.FluxTransformer2DModel.from_config(own.config)
    save_file(transformer.state_dict(), tmp_path / "a.safetensors")
    made = load_generator(changed(spec, transformer=str(tmp_path / "a.safetensors"))).generate(PROMPTS, SEEDS)
    torch.testing.assert_close(made, directly(spec, parts={"transformer": transformer}))
    half = dict(list(transformer.state_dict().items())[:3])
    save_file(half, tmp_path / "half.safetensors")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_generator(changed(spec, transformer=str(tmp_path / "half.safetensors")))


def test_another_vae_is_not_shared_with_the_other_side(specs: dict[str, GeneratorSpec], tmp_path: Path) -> None:
    diffusers = importlib.import_module("diffusers")
    spec = specs["sdxl"]
    own = diffusers.AutoencoderKL.from_pretrained(spec.model, subfolder="vae")
    with torch.random.fork_rng():
        torch.manual_seed(7)
        vae = diffusers.AutoencoderKL.from_config(own.config)
    vae.save_pretrained(tmp_path)
    fixed = changed(spec, name="fixed", vae=str(tmp_path))
    one, other = load_pair(ModelPair(name="p", distilled=fixed, baseline=spec))
    torch.testing.assert_close(one.generate(PROMPTS, SEEDS), directly(spec, parts={"vae": vae}))
    torch.testing.assert_close(other.generate(PROMPTS, SEEDS), directly(spec))


@pytest.mark.parametrize(
    ("name", "setting", "levels"),
    [
        ("flux1", "sigmas", [1.0, 0.6, 0.2]),
        ("sd3", "sigmas", [1.0, 0.7, 0.3]),
        ("qwen-image", "sigmas", [1.0, 0.5, 0.25]),
        ("sdxl", "timesteps", [999, 500, 100]),
        ("pixart", "timesteps", [999, 500, 100]),
    ],
)
def test_noise_levels(specs: dict[str, GeneratorSpec], name: str, setting: str, levels: list[float]) -> None:
    spec = specs[name]
    generator = load_generator(changed(spec, **{setting: levels}))
    made = generator.generate(PROMPTS, SEEDS)
    own: dict[str, Any] = {setting: levels}
    if name == "qwen-image":
        own |= {"true_cfg_scale": spec.true_cfg_scale, "negative_prompt": [" "] * 2}
    if name == "pixart":
        own |= {"use_resolution_binning": False, "clean_caption": False}
    torch.testing.assert_close(made, directly(spec, **own))
    assert (load_generator(spec).generate(PROMPTS, SEEDS) - made).abs().max() > 1e-4
    with pytest.raises(UsageError, match="has noise levels of its own for 3 steps, so 2 are not possible"):
        generator.generate(PROMPTS, SEEDS, steps=2)


def test_noise_levels_that_are_not_taken(specs: dict[str, GeneratorSpec]) -> None:
    with pytest.raises(UsageError, match="FluxPipeline takes no timesteps"):
        load_generator(changed(specs["flux1"], timesteps=[999, 500, 1]))
    with pytest.raises(UsageError, match="DPMSolverMultistepScheduler takes no sigmas"):
        load_generator(changed(specs["pixart"], sigmas=[1.0, 0.5, 0.1]))
    with pytest.raises(pydantic.ValidationError, match="2 noise levels came with 3 steps"):
        changed(specs["flux1"], sigmas=[1.0, 0.5])
    with pytest.raises(pydantic.ValidationError, match="give one of them"):
        changed(specs["flux1"], sigmas=[1.0, 0.5, 0.1], timesteps=[999, 500, 1])


def test_img2img_starts_late_on_noise_levels_of_the_spec(specs: dict[str, GeneratorSpec]) -> None:
    generator = load_generator(changed(specs["flux1"], sigmas=[1.0, 0.6, 0.2]))
    images = torch.rand(2, 3, 32, 48)
    over = generator.img2img(images, PROMPTS, SEEDS, strength=1.0)
    torch.testing.assert_close(over, generator.generate(PROMPTS, SEEDS), atol=1e-5, rtol=0)


def test_further_arguments_of_the_call(specs: dict[str, GeneratorSpec]) -> None:
    spec = specs["sdxl"]
    call = {"guidance_rescale": 0.7, "original_size": [64, 64]}
    made = load_generator(changed(spec, call=call)).generate(PROMPTS, SEEDS)
    torch.testing.assert_close(made, directly(spec, guidance_rescale=0.7, original_size=(64, 64)))
    with pytest.raises(UsageError, match="takes no call argument 'output_type' from a spec; use clip_skip, crops"):
        load_generator(changed(spec, call={"output_type": "pil"}))
    with pytest.raises(UsageError, match="takes no call argument 'eta' from a spec; it has none, remove call"):
        load_generator(changed(specs["flux1"], call={"eta": 1.0}))


@pytest.mark.parametrize("name", ["flux1", "sdxl", "sd3"])
def test_weights_in_float8(specs: dict[str, GeneratorSpec], name: str) -> None:
    spec = specs[name]
    generator = load_generator(changed(spec, quantisation="layerwise-float8"))

    def prepare(pipeline: Any) -> None:
        denoiser = getattr(pipeline, "transformer", None) or pipeline.unet
        denoiser.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)

    made = generator.generate(PROMPTS, SEEDS)
    torch.testing.assert_close(made, directly(spec, prepare))
    assert (directly(spec) - made).abs().max() > 1e-4
    denoiser = getattr(generator.pipeline, "transformer", None) or generator.pipeline.unet
    assert any(weight.dtype == torch.float8_e4m3fn for weight in denoiser.parameters())


@pytest.mark.parametrize("name", ["flux1", "sdxl"])
def test_an_attention_backend(specs: dict[str, GeneratorSpec], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = specs[name]
    asked: list[str] = []
    model = importlib.import_module("diffusers").ModelMixin
    original = model.set_attention_backend
    monkeypatch.setattr(
        model, "set_attention_backend", lambda self, backend: (asked.append(backend), original(self, backend))[1]
    )
    made = load_generator(changed(spec, attention_backend="_native_math")).generate(PROMPTS, SEEDS)
    assert asked == ["_native_math"]
    torch.testing.assert_close(made, directly(spec), atol=1e-5, rtol=0)
    for backend in ("no-such-one", "sage"):
        with pytest.raises(ModelError, match=f"attention backend {backend} cannot be used .*; choose another"):
            load_generator(changed(spec, attention_backend=backend))


def test_compiling(specs: dict[str, GeneratorSpec], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []
    compile_one = torch.nn.Module.compile

    def compile_eagerly(self: torch.nn.Module, **given: Any) -> None:
        asked.append((type(self).__name__, given))
        compile_one(self, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", compile_eagerly)
    made = load_generator(changed(specs["flux1"], compile=True)).generate(PROMPTS, SEEDS)
    assert {name for name, _ in asked} == {"FluxTransformerBlock", "FluxSingleTransformerBlock"}
    assert all(given == {"fullgraph": True} for _, given in asked)
    torch.testing.assert_close(made, directly(specs["flux1"]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "cache", "config"),
    [
        ("flux1", "FirstBlockCacheConfig", {"threshold": 10.0}),
        ("flux1", "TaylorSeerCacheConfig", {"cache_interval": 2, "disable_cache_before_step": 1}),
        ("flux2-klein", "TaylorSeerCacheConfig", {"cache_interval": 2, "disable_cache_before_step": 1}),
        ("flux1", "PyramidAttentionBroadcastConfig", {"spatial_attention_block_skip_range": 2}),
        ("qwen-image", "FasterCacheConfig", {"is_guidance_distilled": True, "tensor_format": "BCHW"}),
        ("qwen-image", "FirstBlockCacheConfig", {"threshold": 10.0}),
    ],
)
def test_a_step_cache(specs: dict[str, GeneratorSpec], name: str, cache: str, config: dict[str, Any]) -> None:
    diffusers = importlib.import_module("diffusers")
    spec = specs[name].model_copy(update={"steps": 6})
    generator = load_generator(changed(spec, step_cache=StepCacheSpec(name=cache, config=config)))  # type: ignore[arg-type]
    made = generator.generate(PROMPTS, SEEDS)
    alone = generator.generate(PROMPTS[1:], SEEDS[1:])
    torch.testing.assert_close(made[1:], alone, atol=1e-5, rtol=0)
    own = {"true_cfg_scale": 4.0, "negative_prompt": " "} if name == "qwen-image" else {}
    pipeline: Any = diffusers.DiffusionPipeline.from_pretrained(spec.model)
    if cache in ("FasterCacheConfig", "PyramidAttentionBroadcastConfig"):  # they ask for the timestep
        config = config | {"current_timestep_callback": lambda: pipeline.current_timestep}
    pipeline.transformer.enable_cache(getattr(diffusers, cache)(**config))
    expected = pipeline(
        prompt=PROMPTS[1],
        height=spec.height_px,
        width=spec.width_px,
        num_inference_steps=6,
        guidance_scale=spec.guidance_scale,
        max_sequence_length=spec.max_sequence_length,
        generator=torch.Generator().manual_seed(SEEDS[1]),
        output_type="pt",
        **own,
    ).images.float()
    torch.testing.assert_close(alone, expected, atol=1e-5, rtol=0)
    assert (load_generator(spec).generate(PROMPTS[1:], SEEDS[1:]) - alone).abs().max() > 1e-6


def test_a_step_cache_that_cannot_be(specs: dict[str, GeneratorSpec]) -> None:
    first = {"name": "FirstBlockCacheConfig"}
    for name in ("sdxl", "flux2", "sd3"):
        with pytest.raises(UsageError, match="no step cache FirstBlockCacheConfig; it has none, remove step_cache"):
            load_generator(changed(specs[name], step_cache=first))
    with pytest.raises(UsageError, match="no step cache FirstBlockCacheConfig; use TaylorSeerCacheConfig, Faster"):
        load_generator(changed(specs["flux2-klein"], step_cache=first))
    with pytest.raises(UsageError, match="has no setting 'treshold'; use one of: threshold"):
        load_generator(changed(specs["flux1"], step_cache=first | {"config": {"treshold": 1}}))
    with pytest.raises(pydantic.ValidationError, match="FirstBlockCacheConfig"):
        changed(specs["flux1"], step_cache={"name": "TeaCache"})


def test_what_needs_a_package_says_so(
    specs: dict[str, GeneratorSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=r"a \.gguf file needs the package gguf; install it with: pip install gguf"):
        load_generator(changed(specs["flux1"], transformer=str(tmp_path / "a.gguf")))
    with pytest.raises(ModelError, match="text_quantisation bitsandbytes-8bit needs the package bitsandbytes"):
        load_generator(changed(specs["flux1"], text_quantisation="bitsandbytes-8bit"))


def test_weights_that_are_not_there_or_pickled(specs: dict[str, GeneratorSpec], tmp_path: Path) -> None:
    for name in ("unet.bin", "unet.ckpt"):
        with pytest.raises(pydantic.ValidationError, match=f"{name} is no file of weights; use one that ends with"):
            changed(specs["sdxl"], unet={"model": "owner/name", "weight_name": name})
    with pytest.raises(ModelError, match=r"there is no file .*; correct weight_name"):
        load_generator(changed(specs["sdxl"], unet={"model": str(tmp_path), "weight_name": "a.safetensors"}))
    with pytest.raises(ModelError, match="there is no folder nowhere"):
        load_generator(changed(specs["sdxl"], vae="nowhere"))
    with pytest.raises(UsageError, match="has a transformer and no unet; remove unet"):
        load_generator(changed(specs["flux1"], unet=specs["sdxl"].model))


def test_text_encoders_are_quantised_by_their_own_library(
    specs: dict[str, GeneratorSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.45.0")  # the package itself is not here
    spec = changed(specs["flux1"], quantisation="bitsandbytes-4bit", text_quantisation="bitsandbytes-8bit")
    index = {"text_encoder": ["transformers", "CLIPTextModel"], "text_encoder_2": ["transformers", "T5EncoderModel"]}
    mapping = quantisation_of(spec, index).quant_mapping
    assert set(mapping) == {"transformer", "unet", "text_encoder", "text_encoder_2"}
    assert type(mapping["text_encoder"]).__module__.startswith("transformers") and mapping["text_encoder"].load_in_8bit
    assert type(mapping["transformer"]).__module__.startswith("diffusers") and mapping["transformer"].load_in_4bit
    assert quantisation_of(specs["flux1"], index) is None
