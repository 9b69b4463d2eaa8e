"""The training loop that the baseline, its guided version and the distilled share: rates, average, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn, optim

from recipes.mini.checkpoint import load_state, save_state
from recipes.mini.flow import load_transformer
from recipes.mini.meter import Meter
from recipes.mini.muon import Muon
from recipes.mini.weights import restored
from topcoat.files import read_json, write_json
from topcoat.training.optim import Ema, ema_decay

MATRIX_RATE = 2e-3
OTHER_RATE = 1e-3
CHECKPOINT_SECONDS = 180
LOSS_MEMORY = 0.98


@dataclass(frozen=True)
class Plan:
    """How long and how fast a transformer is trained; all lengths in images."""

    stage: str
    last: int
    batch_size: int
    peak_share: float
    """Share of `MATRIX_RATE` and `OTHER_RATE` that the schedule peaks at."""
    warm_up: int
    decay_share: float
    """The rate is flat at first and falls linearly to 0 over this last share of the run."""
    ema_halflife: int
    snapshot_at: int = 0
    """The average after so many images is kept as ``snapshot/``, a weaker copy to guide by; 0 keeps none."""

    def rate(self, seen: int) -> float:
        """Share of the full learning rates after ``seen`` images."""
        decay = (self.last - seen) / (self.decay_share * self.last)
        return self.peak_share * min(1.0, (seen + 1) / self.warm_up, decay)


@dataclass(frozen=True)
class Trainee:
    """A transformer in training, the networks trained along with it, and the folder of its state."""

    transformer: Any
    folder: Path
    beside: dict[str, nn.Module] = field(default_factory=dict[str, nn.Module])


Batch = TypeVar("Batch")


def train_transformer(
    plan: Plan,
    trainee: Trainee,
    batch_at: Callable[[int], Batch],
    loss_of: Callable[[Batch], tuple[Tensor, Tensor]],
) -> dict[str, Any]:
    """Train up to ``plan.last`` images, going on from the folder's state; the average goes to ``transformer/`` there.

    Where the folder holds an average and no state (`recipes.mini.weights`), training goes on from it.

    ``batch_at(seen)`` draws the batch that starts at image ``seen``; ``loss_of`` returns the loss to minimise and the
    part of it to report. Returns the figures: images seen and the reported loss,
    averaged over about fifty steps.
    """
    transformer, folder = trainee.transformer, trainee.folder
    if transformer.device.type == "cpu":
        # the backward pass of PyTorch's fused attention takes a third of a step on a CPU
        transformer.set_attention_backend("_native_math")
        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    optimizers = build_optimizers(transformer, *trainee.beside.values())
    ema = Ema(transformer)
    average: Any = ema.network
    modules = {"transformer": transformer, "average": average, **trainee.beside}
    counters = load_state(folder, modules, optimizers)
    if restored(folder):
        kept = load_transformer(folder / "transformer").state_dict()
        transformer.load_state_dict(kept)
        average.load_state_dict(kept)
        figures = read_json(folder / "figures.json")
        counters = {"images": figures["images_seen"], "loss": figures["loss"]}
    seen, shown = int(counters.get("images", 0)), counters.get("loss", 0.0)
    saved = time.monotonic()
    with Meter(plan.stage, plan.last, seen) as meter:
        while seen < plan.last:
            _set_rates(optimizers, plan.rate(seen))
            loss, part = loss_of(batch_at(seen))
            for optimizer in optimizers.values():
                optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(transformer.parameters(), 1.0)
            for optimizer in optimizers.values():
                optimizer.step()
            seen += plan.batch_size
            ema.update(transformer, ema_decay(seen, plan.batch_size, plan.ema_halflife))
            shown = part.item() if shown == 0 else LOSS_MEMORY * shown + (1 - LOSS_MEMORY) * part.item()
            meter.update(seen, f"loss {shown:.4f}")
            if plan.snapshot_at - plan.batch_size < seen <= plan.snapshot_at:
                average.save_pretrained(folder / "snapshot")
            if time.monotonic() - saved > CHECKPOINT_SECONDS or seen >= plan.last:
                save_state(folder, modules, optimizers, {"images": seen, "loss": shown})
                average.save_pretrained(folder / "transformer")
                write_json(folder / "figures.json", {"images_seen": seen, "loss": shown})
                saved = time.monotonic()
    print(f"{plan.stage}: {seen:,} images seen, loss {shown:.4f}", flush=True)
    return {"images_seen": seen, "loss": shown}


def build_optimizers(transformer: nn.Module, *others: nn.Module) -> dict[str, optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for embeddings, norms, biases and the ``others``."""
    matrices = [p for n, p in transformer.named_parameters() if p.ndim == 2 and "transformer_blocks" in n]
    chosen = {id(p) for p in matrices}
    rest = [p for module in (transformer, *others) for p in module.parameters() if id(p) not in chosen]
    return {
        "muon": Muon(matrices, lr=MATRIX_RATE),
        "adamw": optim.AdamW(rest, lr=OTHER_RATE, betas=(0.9, 0.98), weight_decay=0.0),
    }


def _set_rates(optimizers: dict[str, optim.Optimizer], share: float) -> None:
    for name, optimizer in optimizers.items():
        for group in optimizer.param_groups:
            group["lr"] = share * (MATRIX_RATE if name == "muon" else OTHER_RATE)
