"""Stage 5: the mini baseline, a Flux transformer trained by flow matching on the renders' latents.

It reads the prompt's text alone, as FLUX does; everything that words leave open is left to the noise. Matrices are
trained by Muon, the rest by AdamW; an alignment term (REPA, arXiv 2410.06940) pulls the hidden image tokens towards
the loss net's features of the clean portrait, which shortens the training several times.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.mini.corpus import Corpus, load_corpus
from recipes.mini.flow import Condition, build_transformer, velocity
from recipes.mini.recipe import Recipe, WorkFolder, autocast
from recipes.mini.text_encoders import TextEncoders, loosened
from recipes.mini.trainer import Plan, Trainee, train_transformer

WARM_UP_IMAGES = 6_400
DECAY_SHARE = 0.4
ALIGNMENT_WEIGHT = 0.5
LEVEL_SHIFT = 0.3
UNPROMPTED_SHARE = 0.1
"""Share of training images whose prompt is emptied, so that classifier-free guidance is possible."""


def train_baseline(recipe: Recipe, work: WorkFolder) -> None:
    """Train (or go on training) the baseline and save its averaged weights as a diffusers folder."""
    corpus = load_corpus(recipe, work)
    text = TextEncoders.load(work.text)
    torch.manual_seed(53)
    transformer = build_transformer(recipe).to(work.device)
    width = recipe.heads * recipe.head_dim
    projector = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, corpus.features.shape[-1]))
    projector.to(work.device)
    hidden = watch_image_tokens(transformer)
    compiled = torch.compile(transformer)  # the same weights, an eighth faster

    def batch_at(seen: int) -> FlowBatch:
        generator, rng = torch.Generator().manual_seed(59 * 1_000_003 + seen), random.Random(61 * 1_000_003 + seen)
        return draw_batch(corpus, text, recipe, generator, rng, UNPROMPTED_SHARE).to(work.device)

    def loss_of(batch: FlowBatch) -> tuple[Tensor, Tensor]:
        with autocast(work.device):
            predicted = velocity(compiled, batch.noisy, batch.level, batch.condition)
            aligned = projector(hidden["tokens"])
        flow = F.mse_loss(predicted.float(), batch.velocity)
        alignment = 1 - F.cosine_similarity(aligned.float(), batch.features, dim=-1).mean()
        return flow + ALIGNMENT_WEIGHT * alignment, flow

    plan = Plan(
        stage="baseline",
        last=recipe.baseline_images,
        batch_size=recipe.batch_size,
        peak_share=1.0,
        warm_up=WARM_UP_IMAGES,
        decay_share=DECAY_SHARE,
        ema_halflife=recipe.ema_halflife_images,
        snapshot_at=recipe.snapshot_images,
    )
    train_transformer(plan, Trainee(transformer, work.baseline, {"projector": projector}), batch_at, loss_of)


def watch_image_tokens(transformer: FluxTransformer2DModel) -> dict[str, Tensor]:
    """A mapping whose ``tokens`` are, after every pass, the image tokens behind the last double block."""
    seen: dict[str, Tensor] = {}

    def keep(_module: nn.Module, _inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        seen["tokens"] = output[1]

    transformer.transformer_blocks[-1].register_forward_hook(keep)
    return seen


def noise_levels(count: int, generator: torch.Generator) -> Tensor:
    """Logit-normal noise levels (N) in (0, 1), a little to the noisy side (arXiv 2403.03206, eq. 19)."""
    return (torch.randn(count, generator=generator) + LEVEL_SHIFT).sigmoid()


@dataclass(frozen=True)
class FlowBatch:
    """Noisy latent tokens (N, T, 64) at ``level`` (N), the velocity there, the prompts and the aligned features."""

    noisy: Tensor
    level: Tensor
    velocity: Tensor
    condition: Condition
    features: Tensor

    def to(self, device: str) -> FlowBatch:
        """The same on another device."""
        tensors = (self.noisy.to(device), self.level.to(device), self.velocity.to(device))
        return FlowBatch(*tensors, self.condition.to(device), self.features.to(device))


@torch.no_grad()
def draw_batch(
    corpus: Corpus,
    text: TextEncoders,
    recipe: Recipe,
    generator: torch.Generator,
    rng: random.Random,
    unprompted_share: float,
) -> FlowBatch:
    """Random portraits at random noise levels, each with a loosened prompt; a share of the prompts is empty."""
    rows = torch.randint(len(corpus.tokens), (recipe.batch_size,), generator=generator)
    clean = corpus.tokens[rows].float()
    noise = torch.randn(clean.shape, generator=generator)
    level = noise_levels(len(rows), generator)
    texts = ["" if rng.random() < unprompted_share else loosened(corpus.words[row], rng)[0] for row in rows.tolist()]
    return FlowBatch(
        noisy=torch.lerp(clean, noise, level.view(-1, 1, 1)),
        level=level,
        velocity=noise - clean,
        condition=Condition(*text.embed(texts, recipe.text_tokens)),
        features=corpus.features[rows].float(),
    )
