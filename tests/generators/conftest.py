"""Tiny folders of the other families: FLUX.2 klein, SDXL and Z-Image, of random weights."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from topcoat.generators.base import GeneratorSpec, Licence

Build = Callable[[], Any]

CHAT = "{% for message in messages %}{{ message['content'] }} {% endfor %}"


@pytest.fixture(scope="session")
def family_specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, GeneratorSpec]:
    """Family -> a spec of its tiny folder, with classifier-free guidance on."""
    root = tmp_path_factory.mktemp("families")
    builders: dict[str, Build] = {"flux2-klein": _klein, "sdxl": _sdxl, "z-image": _z_image}
    specs = {}
    for name, build in builders.items():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            build().save_pretrained(root / name)
        specs[name] = _spec(name, root / name)
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

    vae = diffusers.AutoencoderKLFlux2(
        block_out_channels=(8, 8, 8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=4, sample_size=32
    )
    vae.bn.running_mean.uniform_(-0.5, 0.5)
    vae.bn.running_var.uniform_(0.5, 2.0)
    transformer = diffusers.Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=3 * 16,
        timestep_guidance_channels=16,
        axes_dims_rope=(2, 2, 2, 2),
        guidance_embeds=False,
    )
    return diffusers.Flux2KleinPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae,
        text_encoder=_qwen("Qwen3ForCausalLM", layers=28),  # the pipeline reads the layers 9, 18 and 27
        tokenizer=_tokenizer(),
        transformer=transformer,
    )


def _sdxl() -> Any:
    diffusers, transformers = _libraries()

    sizes = {
        "vocab_size": 32,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 77,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "pad_token_id": 0,
    }
    return diffusers.StableDiffusionXLPipeline(
        vae=diffusers.AutoencoderKL(
            block_out_channels=(8, 8, 8, 8),
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=4,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            scaling_factor=0.13025,
        ),
        text_encoder=transformers.CLIPTextModel(transformers.CLIPTextConfig(hidden_size=8, **sizes)),
        text_encoder_2=transformers.CLIPTextModelWithProjection(
            transformers.CLIPTextConfig(hidden_size=16, projection_dim=16, **sizes)
        ),
        tokenizer=_tokenizer(length=77),
        tokenizer_2=_tokenizer(length=77),
        unet=diffusers.UNet2DConditionModel(
            sample_size=16,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=(2, 4),
            transformer_layers_per_block=(1, 1),
            norm_num_groups=4,
            cross_attention_dim=24,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=16 + 6 * 8,
            use_linear_projection=True,
        ),
        scheduler=diffusers.EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
        add_watermarker=False,
    )


def _z_image() -> Any:
    diffusers, _ = _libraries()

    return diffusers.ZImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=diffusers.AutoencoderKL(
            block_out_channels=(8, 8, 8, 8),
            layers_per_block=1,
            latent_channels=16,
            norm_num_groups=4,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            scaling_factor=0.3611,
            shift_factor=0.1159,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ),
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


def _qwen(kind: str, layers: int) -> Any:
    _, transformers = _libraries()

    config = transformers.Qwen3Config(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=64,
    )
    return getattr(transformers, kind)(config)


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
