"""Stage 5: the mini baseline, a Flux transformer trained by flow matching on the renders' latents.

It reads the prompt's text alone, as FLUX does; everything that words leave open is left to the noise. Matrices are
trained by Muon, the rest by AdamW; an alignment term (REPA, arXiv 2410.06940) pulls the hidden image tokens towards
the loss net's features of the clean portrait, which shortens the training several times.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.mini.autoencoder import encode, load_autoencoder
from recipes.mini.flow import Condition, build_transformer, load_transformer, pack, velocity
from recipes.mini.recipe import Recipe, Workshop
from recipes.mini.renders import load_renders
from recipes.mini.text_encoders import TextEncoders, loosened
from recipes.mini.trainer import Plan, Trainee, train_transformer
from topcoat.features import FeatureNet
from topcoat.files import atomic_path, read_json, write_json
from topcoat.prompts import Prompt, words_of

WARM_UP_IMAGES = 6_400
DECAY_SHARE = 0.4
ALIGNMENT_WEIGHT = 0.5
UNPROMPTED_SHARE = 0.1
"""Share of training images whose prompt is emptied, so that classifier-free guidance is possible."""


@dataclass(frozen=True)
class Corpus:
    """Latent tokens (N, T, 64), aligned features (N, T, C) and prompts of every render."""

    tokens: Tensor
    features: Tensor
    prompts: list[Prompt]


def train_baseline(recipe: Recipe, shop: Workshop) -> None:
    """Train (or go on training) the baseline and save its averaged weights as a diffusers folder.

    It starts from the weights that the stage `restore` has put into the work folder, or from none.
    """
    corpus = load_corpus(recipe, shop)
    text = TextEncoders.load(shop.text)
    torch.manual_seed(53)
    transformer = build_transformer(recipe)
    width = recipe.heads * recipe.head_dim
    projector = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, corpus.features.shape[-1]))
    first = 0
    if shop.baseline_start.exists():
        transformer.load_state_dict(load_transformer(shop.baseline_start / "transformer").state_dict())
        first = int(read_json(shop.baseline_start / "figures.json")["images_seen"])
    hidden = watch_image_tokens(transformer)
    compiled = torch.compile(transformer)  # the same weights, an eighth faster

    def loss_at(seen: int) -> tuple[Tensor, Tensor]:
        flow, alignment = _losses(compiled, projector, text, corpus, recipe, seen, hidden)
        return flow + ALIGNMENT_WEIGHT * alignment, flow

    plan = Plan(
        stage="baseline",
        first=first,
        last=recipe.baseline_images,
        batch_size=recipe.batch_size,
        peak_share=1.0,
        warm_up=WARM_UP_IMAGES,
        decay_share=DECAY_SHARE,
        ema_halflife=recipe.ema_halflife_images,
    )
    figures = train_transformer(plan, Trainee(transformer, shop.baseline, {"projector": projector}), loss_at)
    write_json(shop.baseline / "figures.json", {"images_seen": figures["images_seen"], "flow_loss": figures["loss"]})


def load_corpus(recipe: Recipe, shop: Workshop) -> Corpus:
    """Latents and features of the renders, computed once and kept beside them."""
    renders = load_renders(recipe, shop)
    path = shop.latents / f"{len(renders.images):06d}.safetensors"
    if not path.exists():
        latents = encode(load_autoencoder(shop), renders.images)
        net = FeatureNet.load(shop.features / "loss")
        with torch.no_grad():
            maps = [net(batch.float() / 255).stages[-1] for batch in renders.images.split(64)]
        features = torch.cat(maps)
        side = latents.shape[-1] // 2
        if features.shape[-1] != side:
            features = F.interpolate(features, size=(side, side), mode="area")
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            aligned = features.flatten(2).transpose(1, 2).half().contiguous()
            save_file({"tokens": pack(latents).contiguous(), "features": aligned}, temporary)
    tensors = load_file(path)
    return Corpus(tensors["tokens"], tensors["features"], renders.prompts)


def watch_image_tokens(transformer: FluxTransformer2DModel) -> dict[str, Tensor]:
    """A mapping whose ``tokens`` are, after every pass, the image tokens behind the last double block."""
    seen: dict[str, Tensor] = {}

    def keep(_module: nn.Module, _inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        seen["tokens"] = output[1]

    transformer.transformer_blocks[-1].register_forward_hook(keep)
    return seen


def prompt_batches(prompts: list[Prompt], rows: Tensor, rng: random.Random) -> Iterator[str]:
    """A loosened text for each row; one in ten is empty."""
    for row in rows.tolist():
        words = words_of(prompts[row])
        assert words is not None
        yield "" if rng.random() < UNPROMPTED_SHARE else loosened(words, rng)[0]


def _losses(
    transformer: Callable[..., Any],
    projector: nn.Module,
    text: TextEncoders,
    corpus: Corpus,
    recipe: Recipe,
    seen: int,
    hidden: dict[str, Tensor],
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(59 * 1_000_003 + seen)
    rows = torch.randint(len(corpus.tokens), (recipe.batch_size,), generator=generator)
    clean = corpus.tokens[rows]
    noise = torch.randn(clean.shape, generator=generator)
    level = torch.randn(len(rows), generator=generator).sigmoid()
    noisy = torch.lerp(clean, noise, level.view(-1, 1, 1))
    with torch.no_grad():
        texts = list(prompt_batches(corpus.prompts, rows, random.Random(61 * 1_000_003 + seen)))
        condition = Condition(*text.embed(texts, recipe.text_tokens))
    with torch.autocast("cpu", torch.bfloat16):
        predicted = velocity(transformer, noisy, level, condition)
        aligned = projector(hidden["tokens"])
    flow = F.mse_loss(predicted.float(), noise - clean)
    alignment = 1 - F.cosine_similarity(aligned.float(), corpus.features[rows].float(), dim=-1).mean()
    return flow, alignment
