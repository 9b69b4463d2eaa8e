"""Stage 6: guidance distillation, as in FLUX.1-dev: one pass a step that looks like classifier-free guidance.

The student starts as the baseline and learns ``v_u + g * (v_c - v_u)`` of the frozen baseline at one guidance scale g
(Meng et al., "On Distillation of Guided Diffusion Models", arXiv 2210.03142, first stage).
"""

from __future__ import annotations

import random

import torch
from torch import Tensor
from torch.nn import functional as F

from recipes.mini.baseline import load_corpus
from recipes.mini.flow import Condition, build_transformer, load_transformer, velocity
from recipes.mini.recipe import Recipe, Workshop
from recipes.mini.text_encoders import TextEncoders, loosened
from recipes.mini.trainer import Plan, Trainee, train_transformer
from topcoat.files import write_json
from topcoat.prompts import words_of

PEAK_SHARE = 0.25
WARM_UP_IMAGES = 500
EMA_HALFLIFE_IMAGES = 5_000


def distill_guidance(recipe: Recipe, shop: Workshop) -> None:
    """Train the guided baseline and save it as a transformer folder."""
    corpus = load_corpus(recipe, shop)
    text = TextEncoders.load(shop.text)
    teacher = load_transformer(shop.baseline / "transformer")
    student = build_transformer(recipe)
    student.load_state_dict(teacher.state_dict())
    nothing = Condition(*text.embed([""], recipe.text_tokens))

    def loss_at(seen: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(67 * 1_000_003 + seen)
        rng = random.Random(71 * 1_000_003 + seen)
        rows = torch.randint(len(corpus.tokens), (recipe.batch_size,), generator=generator)
        clean = corpus.tokens[rows]
        level = torch.randn(len(rows), generator=generator).sigmoid()
        noisy = torch.lerp(clean, torch.randn(clean.shape, generator=generator), level.view(-1, 1, 1))
        texts = [loosened(words, rng)[0] for row in rows.tolist() if (words := words_of(corpus.prompts[row]))]
        condition = Condition(*text.embed(texts, recipe.text_tokens))
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                said = velocity(teacher, noisy, level, condition).float()
                free = velocity(teacher, noisy, level, nothing.take(torch.zeros_like(rows))).float()
            predicted = velocity(student, noisy, level, condition)
        loss = F.mse_loss(predicted.float(), free + recipe.guidance * (said - free))
        return loss, loss.detach()

    plan = Plan(
        stage="guidance",
        first=0,
        last=recipe.guidance_images,
        batch_size=recipe.batch_size,
        peak_share=PEAK_SHARE,
        warm_up=WARM_UP_IMAGES,
        decay_share=1.0,
        ema_halflife=EMA_HALFLIFE_IMAGES,
    )
    figures = train_transformer(plan, Trainee(student, shop.guided), loss_at)
    write_json(shop.guided / "figures.json", {**figures, "guidance": recipe.guidance})
