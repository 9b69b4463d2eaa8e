"""Stage 7: the mini distilled, a few-step student of the baseline by reflow.

Reflow (rectified flow, arXiv 2209.03003; for text to image InstaFlow, arXiv 2309.06380): the baseline draws portraits
from seeded noise, and the student, started from its weights, learns the straight line from each noise to its
portrait. Noise and subject stay coupled, so that one seed shows one subject in both models. Few-step models are
commonly distilled from trajectories under classifier-free guidance (arXiv 2207.12598; latent consistency models,
arXiv 2310.04378). Strong guidance holds shapes together and makes them waxy: strong contrast, glaring colours,
simplified skin. So it is here: the student's trajectories are of the unguided baseline under `distilled_guidance`,
while the mini baseline itself has learnt a mild one. That, and the softness of the straight line, is the systematic
difference which heads are there to undo; drawn under the baseline's own guidance a student is nearly as good as its
teacher. It is trained at the noise levels where a sampler of `distilled_levels` steps (or a divisor of that) stops
and at no others, as timestep-distilled models are.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from recipes.mini.flow import Condition, build_transformer, load_transformer, noise_of, pack, sample, velocity
from recipes.mini.guidance import baseline_guide
from recipes.mini.meter import Meter
from recipes.mini.portrait.words import sample_words
from recipes.mini.recipe import PROMPT_SEED, Recipe, WorkFolder, autocast
from recipes.mini.text_encoders import TextEncoders, loosened
from recipes.mini.trainer import Plan, Trainee, train_transformer
from topcoat.files import atomic_path, write_json

SHARD_TRAJECTORIES = 500
PEAK_SHARE = 0.5
WARM_UP_IMAGES = 3_000
DECAY_SHARE = 0.7
EMA_HALFLIFE_IMAGES = 8_000
FIRST_SEED = 10_000_000
"""Seeds of the trajectories; far from the small numbers that people use, so theirs stay unseen."""


def distill_steps(recipe: Recipe, work: WorkFolder) -> None:
    """Draw the baseline's trajectories, train the student and save it as a transformer folder."""
    text = TextEncoders.load(work.text)
    portraits = [sample_words(index, PROMPT_SEED + 2) for index in range(recipe.trajectories)]
    texts = [loosened(words, random.Random(79 * 1_000_003 + i))[0] for i, words in enumerate(portraits)]
    conditions = _conditions(text, texts, recipe)
    noise, portraits = _trajectories(recipe, work, conditions)
    student = build_transformer(recipe).to(work.device)
    student.load_state_dict(load_transformer(baseline_folder(work)).state_dict())

    def batch_at(seen: int) -> tuple[Tensor, Tensor, Condition, Tensor]:
        generator = torch.Generator().manual_seed(73 * 1_000_003 + seen)
        rows = torch.randint(len(noise), (recipe.batch_size,), generator=generator)
        levels = torch.randint(1, recipe.distilled_levels + 1, (len(rows),), generator=generator)
        level = levels / recipe.distilled_levels
        mixed = torch.lerp(portraits[rows], noise[rows], level.view(-1, 1, 1))
        tensors = mixed, level, noise[rows] - portraits[rows]
        mixed, level, straight = (tensor.to(work.device) for tensor in tensors)
        return mixed, level, conditions.take(rows).to(work.device), straight

    def loss_of(batch: tuple[Tensor, Tensor, Condition, Tensor]) -> tuple[Tensor, Tensor]:
        mixed, level, condition, straight = batch
        with autocast(work.device):
            predicted = velocity(student, mixed, level, condition)
        loss = F.mse_loss(predicted.float(), straight)
        return loss, loss.detach()

    plan = Plan(
        stage="reflow",
        last=recipe.distilled_images,
        batch_size=recipe.batch_size,
        peak_share=PEAK_SHARE,
        warm_up=WARM_UP_IMAGES,
        decay_share=DECAY_SHARE,
        ema_halflife=EMA_HALFLIFE_IMAGES,
    )
    figures = train_transformer(plan, Trainee(student, work.distilled), batch_at, loss_of)
    write_json(work.distilled / "figures.json", {**figures, "trajectories": len(noise)})


def baseline_folder(work: WorkFolder) -> Path:
    """The transformer that is the mini baseline: the guided one where it was made."""
    guided = work.guided / "transformer"
    return guided if guided.exists() else work.baseline / "transformer"


@torch.no_grad()
def _conditions(text: TextEncoders, texts: list[str], recipe: Recipe) -> Condition:
    starts = range(0, len(texts), SHARD_TRAJECTORIES)
    parts = [text.embed(texts[start : start + SHARD_TRAJECTORIES], recipe.text_tokens) for start in starts]
    return Condition(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _trajectories(recipe: Recipe, work: WorkFolder, conditions: Condition) -> tuple[Tensor, Tensor]:
    """Noise and portrait tokens (M, T, 64) of the baseline; missing shards are drawn."""
    folder = work.distilled / "trajectories"
    folder.mkdir(parents=True, exist_ok=True)
    teacher = load_transformer(work.baseline / "transformer", work.device)
    guide = baseline_guide(recipe, work, TextEncoders.load(work.text), recipe.distilled_guidance)
    side = recipe.size_px // 8
    noises, portraits = [], []
    with Meter("drawing trajectories", recipe.trajectories) as meter:
        for first in range(0, recipe.trajectories, SHARD_TRAJECTORIES):
            last = min(first + SHARD_TRAJECTORIES, recipe.trajectories)
            noise = noise_of(range(FIRST_SEED + first, FIRST_SEED + last), side)
            path = folder / f"{first:06d}.safetensors"
            if not path.exists():
                drawn = sample(
                    teacher,
                    noise,
                    conditions.take(slice(first, last)),
                    recipe.trajectory_steps,
                    guide=guide,
                )
                with atomic_path(path) as temporary:
                    save_file({"portraits": pack(drawn).contiguous()}, temporary)
            noises.append(noise)
            portraits.append(load_file(path)["portraits"])
            meter.update(last, "by the baseline")
    return torch.cat(noises), torch.cat(portraits)
