"""FLUX.2 klein: latents are normalised and noise is drawn in patches of 2x2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional

from topcoat.generators.base import GeneratorSpec
from topcoat.generators.families.base import Configs, FlowFamily, Published
from topcoat.generators.families.text_encoders import qwen3_4b
from topcoat.generators.latents import from_vae


def _published(repository: str) -> Published:
    """FLUX.2 klein 4B and its base, which have one shape."""
    return Published(
        source=(
            "transformer: klein-4b in huggingface/diffusers scripts/convert_flux2_to_diffusers.py; vae: defaults of "
            "diffusers AutoencoderKLFlux2; text_encoder: model_index.json and text_encoder/config.json (Qwen3 4B) of "
            f"huggingface.co/{repository}"
        ),
        components={
            "transformer": {
                "_class_name": "Flux2Transformer2DModel",
                "patch_size": 1,
                "in_channels": 128,
                "num_layers": 5,
                "num_single_layers": 20,
                "attention_head_dim": 128,
                "num_attention_heads": 24,
                "joint_attention_dim": 7680,
                "timestep_guidance_channels": 256,
                "mlp_ratio": 3.0,
                "axes_dims_rope": [32, 32, 32, 32],
                "rope_theta": 2000,
                "guidance_embeds": False,
            },
            "vae": {
                "_class_name": "AutoencoderKLFlux2",
                "block_out_channels": [128, 256, 512, 512],
                "layers_per_block": 2,
                "latent_channels": 32,
                "norm_num_groups": 32,
                "sample_size": 1024,
            },
            "text_encoder": qwen3_4b("Qwen3ForCausalLM"),
        },
    )


class Flux2Klein(FlowFamily):
    """FLUX.2 klein, distilled and base."""

    pipeline = "Flux2KleinPipeline"
    denoiser_class = "Flux2Transformer2DModel"
    vae_class = "AutoencoderKLFlux2"
    has_negative_prompt = False
    published: ClassVar = {
        name: _published(name)
        for name in ("black-forest-labs/FLUX.2-klein-4B", "black-forest-labs/FLUX.2-klein-base-4B")
    }

    def normalised(self, output: Tensor, pipeline: Any, spec: GeneratorSpec) -> Tensor:
        """The latents normalised again: the pipeline has already undone its VAE's batch norm."""
        return from_vae(output, pipeline.vae)

    def shift(self, scheduler: Any, tokens: int, steps: int) -> float:
        """The shift fitted by FLUX.2's authors."""
        from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

        return compute_empirical_mu(image_seq_len=tokens, num_steps=steps)

    def noise_layout(self, latents: Tensor) -> Tensor:
        """2x2 patches laid into channels."""
        return functional.pixel_unshuffle(latents, 2)

    def denoiser_inputs(
        self, configs: Configs, height: int, width: int, text_tokens: int, ones: Callable[..., Tensor]
    ) -> dict[str, Any]:
        """Image tokens and the text of Qwen3."""
        config, tokens = configs["transformer"], (width // 2) * (height // 2)
        return {
            "hidden_states": ones(1, tokens, config["in_channels"]),
            "encoder_hidden_states": ones(1, text_tokens, config["joint_attention_dim"]),
            "timestep": ones(1),
            "img_ids": ones(1, tokens, 4),
            "txt_ids": ones(1, text_tokens, 4),
            "guidance": ones(1) if config.get("guidance_embeds", True) else None,
        }
