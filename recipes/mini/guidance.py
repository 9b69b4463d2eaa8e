"""Stage 6: guidance distillation, as in FLUX.1-dev: one pass a step that looks like a guided one.

The student starts as the baseline and learns the frozen baseline's guided velocity at one scale (Meng et al., "On
Distillation of Guided Diffusion Models", arXiv 2210.03142, first stage).
"""

from __future__ import annotations

import random

import torch
from torch import Tensor
from torch.nn import functional as F

from recipes.mini.baseline import FlowBatch, draw_batch
from recipes.mini.corpus import load_corpus
from recipes.mini.flow import Condition, Guide, build_transformer, load_transformer, velocity
from recipes.mini.recipe import Recipe, WorkFolder, autocast
from recipes.mini.text_encoders import TextEncoders
from recipes.mini.trainer import Plan, Trainee, train_transformer
from topcoat.files import write_json

PEAK_SHARE = 0.25
WARM_UP_IMAGES = 500
EMA_HALFLIFE_IMAGES = 5_000


def baseline_guide(recipe: Recipe, work: WorkFolder, text: TextEncoders, scale: float) -> Guide:
    """What the unguided baseline is guided by: its earlier copy, or itself without a prompt."""
    if recipe.guidance_kind == "auto":
        return Guide(load_transformer(work.baseline / "snapshot", work.device), None, scale)
    nothing = Condition(*text.embed([""], recipe.text_tokens))
    return Guide(load_transformer(work.baseline / "transformer", work.device), nothing, scale)


def distill_guidance(recipe: Recipe, work: WorkFolder) -> None:
    """Train the guided baseline and save it as a transformer folder."""
    corpus = load_corpus(recipe, work)
    text = TextEncoders.load(work.text)
    teacher = load_transformer(work.baseline / "transformer", work.device)
    student = build_transformer(recipe).to(work.device)
    student.load_state_dict(teacher.state_dict())
    guide = baseline_guide(recipe, work, text, recipe.guidance)

    def batch_at(seen: int) -> FlowBatch:
        generator, rng = torch.Generator().manual_seed(67 * 1_000_003 + seen), random.Random(71 * 1_000_003 + seen)
        return draw_batch(corpus, text, recipe, generator, rng, unprompted_share=0.0).to(work.device)

    def loss_of(batch: FlowBatch) -> tuple[Tensor, Tensor]:
        at = (batch.noisy, batch.level, batch.condition)
        with autocast(work.device):
            with torch.no_grad():
                target = guide.apply(velocity(teacher, *at).float(), *at)
            predicted = velocity(student, *at)
        loss = F.mse_loss(predicted.float(), target)
        return loss, loss.detach()

    plan = Plan(
        stage="guidance",
        last=recipe.guidance_images,
        batch_size=recipe.batch_size,
        peak_share=PEAK_SHARE,
        warm_up=WARM_UP_IMAGES,
        decay_share=1.0,
        ema_halflife=EMA_HALFLIFE_IMAGES,
    )
    figures = train_transformer(plan, Trainee(student, work.guided), batch_at, loss_of)
    write_json(work.guided / "figures.json", {**figures, "guidance": recipe.guidance})
