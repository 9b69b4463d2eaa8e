"""Tiny folders of random weights, one for each family."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny_parts import (
    CLIP,
    LANGUAGE_MODEL,
    VISION,
    clip,
    diffusers,
    euler,
    qwen,
    t5,
    tiny_tokenizer,
    transformers,
    unet,
    vae,
)
from topcoat.generators.base import GeneratorSpec, Licence, ModelPair

TINY: dict[str, dict[str, Any]] = {
    "flux2-klein": {},
    "flux2": {},
    "sdxl": {},
    "sd15": {},
    "sd3": {},
    "qwen-image": {"guidance_scale": 1.0, "true_cfg_scale": 4.0, "negative_prompt": " "},
    "z-image": {},
    "sana": {"width_px": 64},
    "sana-sprint": {"width_px": 64},
    "pixart": {},
}
"""Family -> what its spec sets besides `_spec`, with classifier-free guidance on where the family has it."""


@pytest.fixture(scope="session")
def family_specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, GeneratorSpec]:
    """Family -> a spec of its tiny folder; FLUX.1 has `flux_pair`."""
    root = tmp_path_factory.mktemp("families")
    builders: tuple[Callable[[], Any], ...] = (
        _klein, _flux2, _sdxl, _sd15, _sd3, _qwen_image, _z_image, _sana, _sana_sprint, _pixart
    )  # fmt: skip
    specs = {}
    for (name, change), build in zip(TINY.items(), builders, strict=True):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            build().save_pretrained(root / name)
        specs[name] = _spec(name, root / name).model_copy(update=change)
    return specs


@pytest.fixture(scope="session")
def flux_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FLUX.1 folder, with a second transformer and scheduler in ``distilled/`` beside it.

    It has FLUX.1's own latent geometry (8x, 16 channels, packed 2x2).
    """
    root = tmp_path_factory.mktemp("flux")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _flux().save_pretrained(root / "pipeline")
        _flux_transformer().save_pretrained(root / "distilled" / "transformer")
    diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(root / "distilled" / "scheduler")
    return root / "pipeline"


@pytest.fixture(scope="session")
def flux_pair(flux_folder: Path) -> ModelPair:
    """A model pair on the tiny FLUX.1 folder; the distilled side has a transformer of its own."""
    baseline = _spec("baseline", flux_folder).model_copy(update={"guidance_scale": 0.0, "max_sequence_length": 12})
    own = {"name": "tiny-distilled", "transformer": str(flux_folder.parent / "distilled"), "steps": 1}
    return ModelPair(name="tiny", distilled=baseline.model_copy(update=own), baseline=baseline)


def _spec(name: str, folder: Path) -> GeneratorSpec:
    return GeneratorSpec(
        name=f"tiny-{name}",
        model=str(folder),
        steps=3,
        guidance_scale=4.0,
        max_sequence_length=8,
        width_px=48,
        height_px=32,
        dtype="float32",
        device="cpu",
        licence=Licence(name="Apache-2.0", url="https://example.org/licence"),
    )


def _flux() -> Any:
    return diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=1.0),
        transformer=_flux_transformer(),
        vae=diffusers.AutoencoderTiny(
            latent_channels=16,
            encoder_block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            num_encoder_blocks=(1, 1, 1, 1),
            num_decoder_blocks=(1, 1, 1, 1),
            scaling_factor=0.5,
            shift_factor=0.1,
        ),
        text_encoder=clip(16, projects=False),
        text_encoder_2=t5(16),
        tokenizer=tiny_tokenizer(16),
        tokenizer_2=tiny_tokenizer(32),
    )


def _flux_transformer() -> Any:
    return diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        guidance_embeds=False,
        axes_dims_rope=(2, 2, 4),
    )


def _klein() -> Any:
    return diffusers.Flux2KleinPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=_flux2_vae(),
        text_encoder=qwen("Qwen3ForCausalLM", layers=28),  # the pipeline reads the layers 9, 18 and 27
        tokenizer=tiny_tokenizer(),
        transformer=_flux2_transformer(guidance_embeds=False),
    )


def _flux2() -> Any:
    config = transformers.Mistral3Config(
        text_config={
            "model_type": "mistral",
            **LANGUAGE_MODEL,
            "num_hidden_layers": 30,
        },  # layers 10, 20 and 30 are read
        vision_config={"model_type": "pixtral", **VISION, "image_size": 16, "patch_size": 8, "head_dim": 8},
        image_token_index=1,
    )
    return diffusers.Flux2Pipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=_flux2_vae(),
        text_encoder=transformers.Mistral3ForConditionalGeneration(config),
        tokenizer=tiny_tokenizer(),
        transformer=_flux2_transformer(guidance_embeds=True),
    )


def _flux2_vae() -> Any:
    vae = diffusers.AutoencoderKLFlux2(
        block_out_channels=(8, 8, 8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=4, sample_size=32
    )
    vae.bn.running_mean.uniform_(-0.5, 0.5)
    vae.bn.running_var.uniform_(0.5, 2.0)
    return vae


def _flux2_transformer(guidance_embeds: bool) -> Any:
    return diffusers.Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=3 * 16,
        timestep_guidance_channels=16,
        axes_dims_rope=(2, 2, 2, 2),
        guidance_embeds=guidance_embeds,
    )


def _sdxl() -> Any:
    return diffusers.StableDiffusionXLPipeline(
        vae=vae(4, scaling_factor=0.13025),
        text_encoder=clip(8, projects=False),
        text_encoder_2=clip(16),
        tokenizer=tiny_tokenizer(length=77),
        tokenizer_2=tiny_tokenizer(length=77),
        unet=unet(
            attention_head_dim=(2, 4),
            transformer_layers_per_block=(1, 1),
            cross_attention_dim=24,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=16 + 6 * 8,
            use_linear_projection=True,
        ),
        scheduler=euler(),
        add_watermarker=False,
    )


def _sd15() -> Any:
    safety = transformers.CLIPConfig(
        text_config=CLIP | {"hidden_size": 16}, vision_config=VISION | {"image_size": 16, "patch_size": 8}
    )
    return diffusers.StableDiffusionPipeline(
        vae=vae(4, scaling_factor=0.18215),
        text_encoder=clip(16, projects=False),
        tokenizer=tiny_tokenizer(length=77),
        unet=unet(attention_head_dim=2, cross_attention_dim=16),
        scheduler=euler(),
        safety_checker=importlib.import_module(
            "diffusers.pipelines.stable_diffusion.safety_checker"
        ).StableDiffusionSafetyChecker(safety),
        feature_extractor=transformers.CLIPImageProcessorPil(),
    )


def _sd3() -> Any:
    return diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=16,
            patch_size=2,
            in_channels=16,
            out_channels=16,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=32,
            caption_projection_dim=16,
            pooled_projection_dim=32,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(16, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=clip(16),
        tokenizer=tiny_tokenizer(length=77),
        text_encoder_2=clip(16),
        tokenizer_2=tiny_tokenizer(length=77),
        text_encoder_3=t5(32),
        tokenizer_3=tiny_tokenizer(length=77),
    )


def _qwen_image() -> Any:
    rope = {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"}
    config = transformers.Qwen2_5_VLConfig(
        text_config=LANGUAGE_MODEL | {"rope_scaling": rope},
        vision_config=VISION | {"depth": 1, "out_hidden_size": 16},
    )
    return diffusers.QwenImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=diffusers.AutoencoderKLQwenImage(
            base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.1] * 4, latents_std=[1.5] * 4
        ),
        text_encoder=transformers.Qwen2_5_VLForConditionalGeneration(config),
        tokenizer=tiny_tokenizer(length=2048),
        transformer=diffusers.QwenImageTransformer2DModel(
            in_channels=16,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(4, 6, 6),
        ),
    )


def _sana() -> Any:
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
    scheduler = diffusers.DPMSolverMultistepScheduler(**flow)
    return diffusers.SanaPipeline(scheduler=scheduler, transformer=_sana_transformer(), **_sana_parts())


def _sana_sprint() -> Any:
    transformer = _sana_transformer(guidance_embeds=True, qk_norm="rms_norm_across_heads")
    return diffusers.SanaSprintPipeline(scheduler=diffusers.SCMScheduler(), transformer=transformer, **_sana_parts())


def _sana_parts() -> dict[str, Any]:
    stages: dict[str, Any] = {}
    for half in ("encoder", "decoder"):
        stages |= {f"{half}_block_out_channels": (8, 8, 8), f"{half}_layers_per_block": (1, 1, 1)}
        stages |= {f"{half}_block_types": "ResBlock", f"{half}_qkv_multiscales": ((), (), ())}
    config = transformers.Gemma2Config(**LANGUAGE_MODEL, head_dim=8)
    return {
        "tokenizer": tiny_tokenizer(length=512),
        "text_encoder": transformers.Gemma2Model(config),
        "vae": diffusers.AutoencoderDC(latent_channels=4, scaling_factor=0.41407, **stages),
    }


def _sana_transformer(**more: Any) -> Any:
    return diffusers.SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=8,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=16,
        sample_size=8,
        **more,
    )


def _pixart() -> Any:
    return diffusers.PixArtSigmaPipeline(
        tokenizer=tiny_tokenizer(),
        text_encoder=t5(16),
        vae=vae(4, scaling_factor=0.13025),
        transformer=diffusers.PixArtTransformer2DModel(
            sample_size=8,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            caption_channels=16,
            cross_attention_dim=16,
            in_channels=4,
            out_channels=8,
            use_additional_conditions=False,
        ),
        scheduler=diffusers.DPMSolverMultistepScheduler(),
    )


def _z_image() -> Any:
    return diffusers.ZImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(16, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=qwen("Qwen3Model", layers=2),
        tokenizer=tiny_tokenizer(),
        transformer=diffusers.ZImageTransformer2DModel(
            dim=32,
            n_layers=1,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=16,
            axes_dims=[4, 6, 6],
            axes_lens=[64, 16, 16],
        ),
    )
