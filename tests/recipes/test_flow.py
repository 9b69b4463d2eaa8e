"""The recipe's flow matching agrees with the pipeline that ships its results."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline

from recipes.mini.autoencoder import build_autoencoder
from recipes.mini.flow import Condition, Guide, build_transformer, noise_of, pack, sample, unpack
from recipes.mini.recipe import Recipe
from recipes.mini.text_encoders import build_text_encoders

TINY = Recipe(size_px=32, heads=1, head_dim=16, double_blocks=1, single_blocks=1, text_width=16, text_layers=1)


def test_unpack_undoes_pack_and_matches_the_pipeline() -> None:
    latents = torch.randn(2, 16, 4, 4)
    packed = pack(latents)
    assert packed.shape == (2, 4, 64)
    torch.testing.assert_close(packed, FluxPipeline._pack_latents(latents, 2, 16, 4, 4))
    torch.testing.assert_close(unpack(packed), latents)


def test_sampling_equals_the_pipeline_at_the_same_seeds() -> None:
    torch.manual_seed(0)
    text: Any = build_text_encoders(TINY).eval()
    transformer = build_transformer(TINY).eval()
    autoencoder = build_autoencoder(TINY)
    autoencoder.register_to_config(block_out_channels=[16, 16, 32, 64], scaling_factor=1.0, shift_factor=0.0)
    pipeline: Any = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=autoencoder,
        text_encoder=text.clip,
        tokenizer=text.clip_tokenizer,
        text_encoder_2=text.t5,
        tokenizer_2=text.t5_tokenizer,
        transformer=transformer,
    )
    pipeline.set_progress_bar_config(disable=True)
    texts, seeds = ["studio portrait of an old man, beard", "a young woman called Zxyq"], [3, 4]
    theirs = pipeline(
        prompt=texts,
        height=32,
        width=32,
        num_inference_steps=3,
        guidance_scale=0.0,
        max_sequence_length=TINY.text_tokens,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="latent",
    ).images
    with torch.no_grad():
        condition = Condition(*text.embed(texts, TINY.text_tokens))
    ours = sample(transformer, noise_of(seeds, 4), condition, 3, exact=True)
    torch.testing.assert_close(pack(ours), theirs, rtol=1e-4, atol=1e-4)


def test_an_image_does_not_depend_on_its_neighbours() -> None:
    torch.manual_seed(1)
    transformer = build_transformer(TINY).eval()
    condition = Condition(torch.randn(3, 16), torch.randn(3, 8, 16))
    noise = noise_of([5, 6, 7], 4)
    together = sample(transformer, noise, condition, 2, exact=True)
    alone = sample(transformer, noise[1:2], condition.take(slice(1, 2)), 2, exact=True)
    torch.testing.assert_close(together[1:2], alone, rtol=1e-5, atol=1e-5)


def test_a_guide_of_scale_one_changes_nothing_and_a_larger_one_moves_away_from_it() -> None:
    torch.manual_seed(2)
    transformer, weaker = build_transformer(TINY).eval(), build_transformer(TINY).eval()
    condition = Condition(torch.randn(2, 16), torch.randn(2, 3, 16))
    empty = Condition(torch.zeros(1, 16), torch.zeros(1, 3, 16))
    noise = noise_of([5, 6], 4)

    def generate(guide: Guide | None) -> torch.Tensor:
        return sample(transformer, noise, condition, 1, guide=guide, exact=True)

    plain = generate(None)
    for model, worse in ((transformer, empty), (weaker, None)):
        torch.testing.assert_close(generate(Guide(model, worse, 1.0)), plain)
        away = generate(Guide(model, worse, 3.0)) - plain
        worst = generate(Guide(model, worse, 0.0))
        torch.testing.assert_close(away, 2 * (plain - worst), rtol=1e-4, atol=1e-5)
