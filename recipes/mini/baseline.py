"""Stage 5: the mini baseline, a Flux transformer trained by flow matching on the renders' latents.

It reads the prompt's text alone, as FLUX does; everything that words leave open is left to the noise. Matrices are
trained by Muon, the rest by AdamW; an alignment term (REPA, arXiv 2410.06940) pulls the hidden image tokens towards
the loss net's features of the clean portrait, which shortens the training several times.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.mini.autoencoder import encode, load_autoencoder
from recipes.mini.checkpoint import load_state, save_state
from recipes.mini.flow import Condition, build_transformer, pack, velocity
from recipes.mini.meter import Meter
from recipes.mini.recipe import Recipe, Workshop
from recipes.mini.renders import load_renders
from recipes.mini.text_encoders import TextEncoders, loosened
from topcoat.features import FeatureNet
from topcoat.files import atomic_path, write_json
from topcoat.prompts import Prompt
from topcoat.training.ema import Ema, ema_decay

MATRIX_RATE = 2e-3
OTHER_RATE = 1e-3
WARM_UP_IMAGES = 6_400
DECAY_SHARE = 0.4
"""The learning rate is flat at first and falls linearly to 0 over this last share of the run."""
ALIGNMENT_WEIGHT = 0.5
UNPROMPTED_SHARE = 0.1
"""Share of training images whose prompt is emptied, so that classifier-free guidance is possible."""
CHECKPOINT_SECONDS = 180


@dataclass(frozen=True)
class Corpus:
    """Latent tokens (N, T, 64), aligned features (N, T, C) and prompts of every render."""

    tokens: Tensor
    features: Tensor
    prompts: list[Prompt]


def train_baseline(recipe: Recipe, shop: Workshop) -> None:
    """Train (or go on training) the baseline and save its averaged weights as a diffusers folder."""
    corpus = load_corpus(recipe, shop)
    text = TextEncoders.load(shop.text)
    torch.manual_seed(53)
    transformer = build_transformer(recipe)
    width = recipe.heads * recipe.head_dim
    projector = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, corpus.features.shape[-1]))
    optimizers = build_optimizers(transformer, projector)
    ema = Ema(transformer)
    averaged: Any = ema.network
    modules = {"transformer": transformer, "projector": projector, "average": ema.network}
    counters = load_state(shop.baseline, modules, optimizers)
    seen, flow_loss = int(counters.get("images", 0)), counters.get("flow_loss", 0.0)
    hidden = watch_image_tokens(transformer)
    saved = time.monotonic()
    with Meter("baseline", recipe.baseline_images, seen) as meter:
        while seen < recipe.baseline_images:
            set_rates(optimizers, _schedule(seen, recipe.baseline_images))
            flow, alignment = _losses(transformer, projector, text, corpus, recipe, seen, hidden)
            for optimizer in optimizers.values():
                optimizer.zero_grad()
            (flow + ALIGNMENT_WEIGHT * alignment).backward()
            nn.utils.clip_grad_norm_(transformer.parameters(), 1.0)
            for optimizer in optimizers.values():
                optimizer.step()
            seen += recipe.batch_size
            ema.update(transformer, ema_decay(seen, recipe.batch_size, recipe.ema_halflife_images))
            flow_loss = flow.item() if flow_loss == 0 else 0.98 * flow_loss + 0.02 * flow.item()
            meter.update(seen, f"flow loss {flow_loss:.4f}, alignment {alignment.item():.3f}")
            if time.monotonic() - saved > CHECKPOINT_SECONDS or seen >= recipe.baseline_images:
                counters = {"images": seen, "flow_loss": flow_loss}
                save_state(shop.baseline, modules, optimizers, counters)
                averaged.save_pretrained(shop.baseline / "transformer")
                saved = time.monotonic()
    write_json(shop.baseline / "figures.json", {"images_seen": seen, "flow_loss": flow_loss})
    print(f"baseline: {seen:,} images seen, flow loss {flow_loss:.4f}")


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


def build_optimizers(transformer: nn.Module, *others: nn.Module) -> dict[str, torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for embeddings, norms, biases and the ``others``."""
    matrices = [p for n, p in transformer.named_parameters() if p.ndim == 2 and "transformer_blocks" in n]
    chosen = {id(p) for p in matrices}
    rest = [p for module in (transformer, *others) for p in module.parameters() if id(p) not in chosen]
    return {
        "muon": torch.optim.Muon(matrices, lr=MATRIX_RATE, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        "adamw": torch.optim.AdamW(rest, lr=OTHER_RATE, betas=(0.9, 0.98), weight_decay=0.0),
    }


def set_rates(optimizers: dict[str, torch.optim.Optimizer], share: float) -> None:
    """Set both learning rates to ``share`` of their peaks."""
    for name, optimizer in optimizers.items():
        for group in optimizer.param_groups:
            group["lr"] = share * (MATRIX_RATE if name == "muon" else OTHER_RATE)


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
        words = prompts[row].words
        assert words is not None
        yield "" if rng.random() < UNPROMPTED_SHARE else loosened(words, rng)[0]


def _losses(
    transformer: FluxTransformer2DModel,
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


def _schedule(seen: int, total: int) -> float:
    return min(1.0, (seen + 1) / WARM_UP_IMAGES, (total - seen) / (DECAY_SHARE * total))
