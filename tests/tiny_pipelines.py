"""Tiny folders of random weights, one for each family but FLUX.1."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from topcoat.generators.base import GeneratorSpec, Licence

CHAT = (
    "{% for message in messages %}{% if message['content'] is string %}{{ message['content'] }} {% else %}"
    "{% for part in message['content'] %}{{ part['text'] }} {% endfor %}{% endif %}{% endfor %}"
)

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
    """Family -> a spec of its tiny folder."""
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


def _klein() -> Any:
    diffusers, _ = _libraries()
    return diffusers.Flux2KleinPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=_flux2_vae(),
        text_encoder=_qwen("Qwen3ForCausalLM", layers=28),  # the pipeline reads the layers 9, 18 and 27
        tokenizer=_tokenizer(),
        transformer=_flux2_transformer(guidance_embeds=False),
    )


def _flux2() -> Any:
    diffusers, transformers = _libraries()
    config = transformers.Mistral3Config(
        text_config={
            "model_type": "mistral",
            **_LANGUAGE_MODEL,
            "num_hidden_layers": 30,
        },  # layers 10, 20 and 30 are read
        vision_config={"model_type": "pixtral", **_VISION, "image_size": 16, "patch_size": 8, "head_dim": 8},
        image_token_index=1,
    )
    return diffusers.Flux2Pipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=_flux2_vae(),
        text_encoder=transformers.Mistral3ForConditionalGeneration(config),
        tokenizer=_tokenizer(),
        transformer=_flux2_transformer(guidance_embeds=True),
    )


def _flux2_vae() -> Any:
    diffusers, _ = _libraries()
    vae = diffusers.AutoencoderKLFlux2(
        block_out_channels=(8, 8, 8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=4, sample_size=32
    )
    vae.bn.running_mean.uniform_(-0.5, 0.5)
    vae.bn.running_var.uniform_(0.5, 2.0)
    return vae


def _flux2_transformer(guidance_embeds: bool) -> Any:
    diffusers, _ = _libraries()
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
    diffusers, _ = _libraries()
    return diffusers.StableDiffusionXLPipeline(
        vae=_vae(4, scaling_factor=0.13025),
        text_encoder=_clip(8, projects=False),
        text_encoder_2=_clip(16),
        tokenizer=_tokenizer(length=77),
        tokenizer_2=_tokenizer(length=77),
        unet=_unet(
            attention_head_dim=(2, 4),
            transformer_layers_per_block=(1, 1),
            cross_attention_dim=24,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=16 + 6 * 8,
            use_linear_projection=True,
        ),
        scheduler=_euler(),
        add_watermarker=False,
    )


def _sd15() -> Any:
    diffusers, transformers = _libraries()
    safety = transformers.CLIPConfig(
        text_config=_CLIP | {"hidden_size": 16}, vision_config=_VISION | {"image_size": 16, "patch_size": 8}
    )
    return diffusers.StableDiffusionPipeline(
        vae=_vae(4, scaling_factor=0.18215),
        text_encoder=_clip(16, projects=False),
        tokenizer=_tokenizer(length=77),
        unet=_unet(attention_head_dim=2, cross_attention_dim=16),
        scheduler=_euler(),
        safety_checker=importlib.import_module(
            "diffusers.pipelines.stable_diffusion.safety_checker"
        ).StableDiffusionSafetyChecker(safety),
        feature_extractor=transformers.CLIPImageProcessorPil(),
    )


def _sd3() -> Any:
    diffusers, _ = _libraries()
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
        vae=_vae(16, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=_clip(16),
        tokenizer=_tokenizer(length=77),
        text_encoder_2=_clip(16),
        tokenizer_2=_tokenizer(length=77),
        text_encoder_3=_t5(32),
        tokenizer_3=_tokenizer(length=77),
    )


def _qwen_image() -> Any:
    diffusers, transformers = _libraries()
    rope = {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"}
    config = transformers.Qwen2_5_VLConfig(
        text_config=_LANGUAGE_MODEL | {"rope_scaling": rope},
        vision_config=_VISION | {"depth": 1, "out_hidden_size": 16},
    )
    return diffusers.QwenImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=diffusers.AutoencoderKLQwenImage(
            base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.1] * 4, latents_std=[1.5] * 4
        ),
        text_encoder=transformers.Qwen2_5_VLForConditionalGeneration(config),
        tokenizer=_tokenizer(length=2048),
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
    diffusers, _ = _libraries()
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
    scheduler = diffusers.DPMSolverMultistepScheduler(**flow)
    return diffusers.SanaPipeline(scheduler=scheduler, transformer=_sana_transformer(), **_sana_parts())


def _sana_sprint() -> Any:
    diffusers, _ = _libraries()
    transformer = _sana_transformer(guidance_embeds=True, qk_norm="rms_norm_across_heads")
    return diffusers.SanaSprintPipeline(scheduler=diffusers.SCMScheduler(), transformer=transformer, **_sana_parts())


def _sana_parts() -> dict[str, Any]:
    diffusers, transformers = _libraries()
    stages: dict[str, Any] = {}
    for half in ("encoder", "decoder"):
        stages |= {f"{half}_block_out_channels": (8, 8, 8), f"{half}_layers_per_block": (1, 1, 1)}
        stages |= {f"{half}_block_types": "ResBlock", f"{half}_qkv_multiscales": ((), (), ())}
    config = transformers.Gemma2Config(**_LANGUAGE_MODEL, head_dim=8)
    return {
        "tokenizer": _tokenizer(length=512),
        "text_encoder": transformers.Gemma2Model(config),
        "vae": diffusers.AutoencoderDC(latent_channels=4, scaling_factor=0.41407, **stages),
    }


def _sana_transformer(**more: Any) -> Any:
    diffusers, _ = _libraries()
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
    diffusers, _ = _libraries()
    return diffusers.PixArtSigmaPipeline(
        tokenizer=_tokenizer(),
        text_encoder=_t5(16),
        vae=_vae(4, scaling_factor=0.13025),
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
    diffusers, _ = _libraries()
    return diffusers.ZImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(16, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=_qwen("Qwen3Model", layers=2),
        tokenizer=_tokenizer(),
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


_LANGUAGE_MODEL = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
_VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_heads": 2}
_CLIP = {
    "vocab_size": 32,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 77,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "pad_token_id": 0,
}


def _qwen(kind: str, layers: int) -> Any:
    _, transformers = _libraries()
    return getattr(transformers, kind)(
        transformers.Qwen3Config(**_LANGUAGE_MODEL | {"num_hidden_layers": layers}, head_dim=8)
    )


def _clip(width: int, projects: bool = True) -> Any:
    _, transformers = _libraries()
    config = transformers.CLIPTextConfig(hidden_size=width, projection_dim=width, **_CLIP)
    return (transformers.CLIPTextModelWithProjection if projects else transformers.CLIPTextModel)(config)


def _t5(width: int) -> Any:
    _, transformers = _libraries()
    config = transformers.T5Config(vocab_size=32, d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return transformers.T5EncoderModel(config)


def _vae(channels: int, **more: Any) -> Any:
    diffusers, _ = _libraries()
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        **more,
    )


def _unet(**more: Any) -> Any:
    diffusers, _ = _libraries()
    return diffusers.UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        **more,
    )


def _euler() -> Any:
    diffusers, _ = _libraries()
    return diffusers.EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
    )


def _tokenizer(length: int = 64) -> Any:
    import tokenizers

    _, transformers = _libraries()
    words = ("studio", "portrait", "young", "old", "woman", "man", "red", "hair", "brown", "eyes", "of", "a", "an")
    vocabulary = {word: number for number, word in enumerate(["<pad>", "<unk>", "<s>", "</s>", *words])}
    core = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    core.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=length,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        chat_template=CHAT,
    )


def _libraries() -> tuple[Any, Any]:
    """Both libraries untyped: their hints take one-element tuples where they mean tuples of any length."""
    return importlib.import_module("diffusers"), importlib.import_module("transformers")
