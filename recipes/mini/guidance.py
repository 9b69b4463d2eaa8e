"""Stage 6: guidance distillation, as in FLUX.1-dev: one pass a step that looks like classifier-free guidance.

The student starts as the baseline and learns ``v_u + g * (v_c - v_u)`` of the frozen baseline at one guidance scale g
(Meng et al., "On Distillation of Guided Diffusion Models", arXiv 2210.03142, first stage).
"""

from __future__ import annotations

import random
import time
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from recipes.mini.baseline import CHECKPOINT_SECONDS, build_optimizers, load_corpus, set_rates
from recipes.mini.checkpoint import load_state, save_state
from recipes.mini.flow import Condition, build_transformer, load_transformer, velocity
from recipes.mini.meter import Meter
from recipes.mini.recipe import Recipe, Workshop
from recipes.mini.text_encoders import TextEncoders, loosened
from topcoat.files import write_json
from topcoat.training.ema import Ema, ema_decay

PEAK_RATE = 0.25
EMA_HALFLIFE_IMAGES = 5_000


def distill_guidance(recipe: Recipe, shop: Workshop) -> None:
    """Train the guided baseline and save it as a transformer folder."""
    corpus = load_corpus(recipe, shop)
    text = TextEncoders.load(shop.text)
    teacher = load_transformer(shop.baseline / "transformer")
    student = build_transformer(recipe)
    student.load_state_dict(teacher.state_dict())
    optimizers = build_optimizers(student)
    ema = Ema(student)
    averaged: Any = ema.network
    modules = {"student": student, "average": ema.network}
    folder = shop.baseline / "guided"
    seen = int(load_state(folder, modules, optimizers).get("images", 0))
    nothing = Condition(*text.embed([""], recipe.text_tokens))
    average, saved = 0.0, time.monotonic()
    with Meter("guidance", recipe.guidance_images, seen) as meter:
        while seen < recipe.guidance_images:
            generator = torch.Generator().manual_seed(67 * 1_000_003 + seen)
            rng = random.Random(71 * 1_000_003 + seen)
            rows = torch.randint(len(corpus.tokens), (recipe.batch_size,), generator=generator)
            clean = corpus.tokens[rows]
            level = torch.randn(len(rows), generator=generator).sigmoid()
            noisy = torch.lerp(clean, torch.randn(clean.shape, generator=generator), level.view(-1, 1, 1))
            texts = [loosened(words, rng)[0] for row in rows.tolist() if (words := corpus.prompts[row].words)]
            condition = Condition(*text.embed(texts, recipe.text_tokens))
            with torch.autocast("cpu", torch.bfloat16):
                with torch.no_grad():
                    said = velocity(teacher, noisy, level, condition).float()
                    free = velocity(teacher, noisy, level, nothing.take(torch.zeros_like(rows))).float()
                predicted = velocity(student, noisy, level, condition)
            loss = F.mse_loss(predicted.float(), free + recipe.guidance * (said - free))
            for optimizer in optimizers.values():
                optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            set_rates(optimizers, PEAK_RATE * min(1.0, seen / 2_000 + 0.05) * (1 - seen / recipe.guidance_images))
            for optimizer in optimizers.values():
                optimizer.step()
            seen += recipe.batch_size
            ema.update(student, ema_decay(seen, recipe.batch_size, EMA_HALFLIFE_IMAGES))
            average = loss.item() if average == 0 else 0.95 * average + 0.05 * loss.item()
            meter.update(seen, f"loss {average:.4f}")
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                save_state(folder, modules, optimizers, {"images": seen})
                saved = time.monotonic()
    averaged.save_pretrained(folder / "transformer")
    write_json(folder / "figures.json", {"images_seen": seen, "guidance": recipe.guidance, "loss": average})
    print(f"guidance {recipe.guidance}: loss {average:.4f}")
