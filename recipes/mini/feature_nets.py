"""Stage 2: the two feature nets, taught to read the attributes of rendered portraits.

Both regress the subject's identity and scene vectors, and how much the image was blurred, sharpened or made noisy: a
net that only knew *who* is shown would call a plastic portrait perfect. Different architectures, seeds and renders
(even ones for the loss net, odd ones for the evaluation net) keep their opinions apart.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from recipes.mini.checkpoint import load_state, save_state
from recipes.mini.meter import Meter
from recipes.mini.portraits import Portraits, load_portraits
from recipes.mini.recipe import Recipe, WorkFolder, autocast
from topcoat.features import FeatureNet, FeatureNetConfig
from topcoat.files import write_json

ARCHITECTURES: dict[str, tuple[str, tuple[int, ...], int]] = {
    "loss": ("plain", (12, 24, 40, 64, 96), 11),
    "eval": ("residual", (24, 48, 72, 96), 23),
}
"""Name -> kind, channels, seed."""

BATCH_IMAGES = 32
HELD_OUT = 500
QUALITY_DIMS = 2
CHECKPOINT_SECONDS = 120


@dataclass(frozen=True)
class Targets:
    """Standardised regression targets (N, D) and the sizes of their identity and scene parts."""

    values: Tensor
    identity_dims: int
    scene_dims: int


def train_feature_nets(recipe: Recipe, work: WorkFolder) -> None:
    """Train both nets, one after the other; a finished one is left alone."""
    for name in ARCHITECTURES:
        if not (work.features / name / "figures.json").exists():
            train_feature_net(name, recipe, work)


def train_feature_net(name: str, recipe: Recipe, work: WorkFolder) -> None:
    """Train net ``name`` (``loss`` or ``eval``), print its held-out R² and save it."""
    kind, channels, seed = ARCHITECTURES[name]
    renders = load_portraits(recipe, work)
    targets = _targets(renders)
    torch.manual_seed(seed)
    config = FeatureNetConfig.model_validate(
        {
            "kind": kind,
            "channels": channels,
            "identity_dims": targets.identity_dims,
            "scene_dims": targets.scene_dims,
            "quality_dims": QUALITY_DIMS,
        }
    )
    net = FeatureNet(config).to(work.device)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.02)
    folder = work.features / name
    seen = int(load_state(folder, {"net": net}, {"optimizer": optimizer}).get("images", 0))
    parity = 0 if name == "loss" else 1
    usable = torch.arange(parity, len(renders.images) - HELD_OUT, 2)
    saved = time.monotonic()
    with Meter(f"feature net {name}", recipe.feature_images, seen) as meter:
        while seen < recipe.feature_images:
            generator = torch.Generator().manual_seed(seed * 1_000_003 + seen)
            chosen = usable[torch.randint(len(usable), (BATCH_IMAGES,), generator=generator)]
            images, quality = degraded(renders.images[chosen].float() / 255, generator)
            for group in optimizer.param_groups:
                group["lr"] = 2e-3 * _one_cycle(seen / recipe.feature_images)
            wanted = torch.cat([targets.values[chosen], quality], dim=1).to(work.device)
            images = images.to(work.device, memory_format=torch.channels_last)
            with autocast(work.device):
                predicted = net.predictions(images)
            loss = F.smooth_l1_loss(predicted.float(), wanted)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            seen += BATCH_IMAGES
            meter.update(seen, f"loss {loss.item():.3f}")
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                save_state(folder, {"net": net}, {"optimizer": optimizer}, {"images": seen})
                saved = time.monotonic()
    score = _explained(net.cpu().eval(), renders, targets)
    net.save(folder)
    write_json(folder / "figures.json", {"images_seen": seen, "held_out": HELD_OUT, "r2": score})
    print(f"feature net {name}: held-out R2 identity {score['identity']:.3f}, scene {score['scene']:.3f}")


def degraded(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Half of ``images`` (N, 3, H, W) blurred, sharpened or made noisy, and how much of it (N, 2) in about [-1, 1]."""
    count = len(images)
    touched = (torch.rand(count, generator=generator) < 0.5).float()
    blur = (torch.rand(count, generator=generator) * 2 - 1) * touched
    noise = torch.rand(count, generator=generator) * touched
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    weights = (kernel[:, None] * kernel[None, :]).expand(3, 1, 5, 5)
    soft = F.conv2d(F.pad(images, (2, 2, 2, 2), mode="reflect"), weights, groups=3)
    mixed = images + blur.view(-1, 1, 1, 1) * (soft - images)
    grain = torch.randn(images.shape, generator=generator) * 0.04 * noise.view(-1, 1, 1, 1)
    return (mixed + grain).clamp(0, 1), torch.stack([blur, noise], dim=1)


def _targets(renders: Portraits) -> Targets:
    def standardised(values: Tensor) -> Tensor:
        return (values - values.mean(dim=0)) / values.std(dim=0).clamp_min(1e-3)

    values = torch.cat([standardised(renders.identity), standardised(renders.scene)], dim=1)
    return Targets(values, renders.identity.shape[1], renders.scene.shape[1])


def _one_cycle(progress: float) -> float:
    return min(progress / 0.05, 1.0) * max(0.0, 1 - progress) ** 0.7


@torch.no_grad()
def _explained(net: FeatureNet, renders: Portraits, targets: Targets) -> dict[str, float]:
    images = renders.images[-HELD_OUT:].float() / 255
    predicted = torch.cat([net.predictions(batch) for batch in images.split(50)])[:, : targets.values.shape[1]]
    truth = targets.values[-HELD_OUT:]
    r2 = 1 - (predicted - truth).square().mean(dim=0) / truth.var(dim=0)
    return {
        "identity": float(r2[: targets.identity_dims].mean()),
        "scene": float(r2[targets.identity_dims :].mean()),
    }
