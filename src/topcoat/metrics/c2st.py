"""Classifier two-sample test: can a fresh network tell two sets of images apart? 50 % means that it cannot.

C2ST (Lopez-Paz and Oquab 2017, arXiv 1610.06545) on raw pixels: a small convolutional network is trained from scratch
on part of the images and classifies the rest, in folds. It reads whole images, and their fine detail as extra channels,
which is too faint for a fresh net to find in time. Both images of a subject lie in one fold, so that a network cannot
win by knowing the subject. The baseline against itself at other seeds has to read chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from topcoat.errors import UsageError
from topcoat.images import gaussian_blur
from topcoat.metrics.base import LEVEL, Flag, Interval, Metric, Score, score_of

FEWEST_IMAGES = 50
CROP_PX = 128
"""Larger images are classified by one crop of this size each."""
_FOLDS = 4
_STEPS = 160
"""Training steps of a fold, whatever N is: the price does not grow with it."""
_BATCH = 32
_DETAIL_SIGMA_PX = 1.0
_RATE = 3e-3


def two_sample(
    a: Tensor, b: Tensor, *, folds: int = _FOLDS, steps: int = _STEPS, seed: int = 0
) -> tuple[Interval, float]:
    """Accuracy of a fresh classifier with its 95 % Wilson interval, and the mean area under the ROC curve over folds.

    ``a`` and ``b`` are images ``(N, 3, H, W)`` of one shape, uint8 or floats in [0, 1], N >= 50; 0.5 is chance.
    Row i of both counts as one subject. H and W >= 32; above 128 px one crop of each subject is classified, at a
    position drawn for it. Seeded: the same images in the same order give the same result on one machine. Raises
    `UsageError` for too few images, sets of different shapes or fewer than 2 folds.
    """
    from scipy.stats import binomtest, mannwhitneyu

    if a.shape != b.shape or a.ndim != 4 or a.shape[1] != 3:
        shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise UsageError(f"the two-sample test needs two sets of one shape (N, 3, H, W), not {shapes}")
    if len(a) < FEWEST_IMAGES:
        raise UsageError(f"the two-sample test needs {FEWEST_IMAGES} or more images on each side, not {len(a)}")
    if min(a.shape[-2:]) < 32:
        raise UsageError(f"the two-sample test needs images of 32 or more px a side, not {a.shape[3]}x{a.shape[2]}")
    if not 2 <= folds <= len(a) // 10 or steps < 1:
        raise UsageError(
            f"{folds} folds and {steps} steps are not possible; use 2 to {len(a) // 10} folds, 1 step or more"
        )
    generator = torch.Generator().manual_seed(seed)
    a, b = _with_detail(*_crops(a, b, generator))
    order = torch.randperm(len(a), generator=generator)
    right, areas = 0, []
    for fold in range(folds):
        held = order[fold::folds]
        rest = torch.cat([order[other::folds] for other in range(folds) if other != fold])
        network = _train(a[rest], b[rest], steps, generator)
        scores_a, scores_b = _scores(network, a[held]), _scores(network, b[held])
        right += int((scores_a < 0).sum()) + int((scores_b >= 0).sum())
        wins = mannwhitneyu(scores_b.numpy(), scores_a.numpy(), method="asymptotic").statistic
        areas.append(float(wins) / len(held) ** 2)
    ends = binomtest(right, 2 * len(a)).proportion_ci(LEVEL, method="wilson")
    return Interval(right / (2 * len(a)), float(ends.low), float(ends.high)), sum(areas) / folds


def _crops(a: Tensor, b: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Both sets cut to at most `CROP_PX` a side, the two images of a subject at the same place."""
    height, width = a.shape[-2:]
    if height <= CROP_PX and width <= CROP_PX:
        return a, b
    tall, wide = min(height, CROP_PX), min(width, CROP_PX)
    tops = torch.randint(height - tall + 1, (len(a),), generator=generator).tolist()
    lefts = torch.randint(width - wide + 1, (len(a),), generator=generator).tolist()
    corners = list(zip(tops, lefts, strict=True))
    crops = [
        torch.stack([image[:, t : t + tall, s : s + wide] for image, (t, s) in zip(one, corners, strict=True)])
        for one in (a, b)
    ]
    return crops[0], crops[1]


def _with_detail(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both sets with what a small blur takes from them: ``(N, 6, H, W)`` float16, made once for all folds.

    Each channel has mean 0 and variance 1 over both sets together, which says nothing of where an image comes from.
    """
    made: list[Tensor] = []
    sums = torch.zeros(2, 6, dtype=torch.float64)
    for images in (a, b):
        parts: list[Tensor] = []
        for part in images.split(_BATCH):
            floats = part.float() / 255 if part.dtype == torch.uint8 else part.float()
            detailed = torch.cat([floats, floats - gaussian_blur(floats, _DETAIL_SIGMA_PX)], dim=1)
            sums += torch.stack([detailed.sum(dim=(0, 2, 3)), detailed.square().sum(dim=(0, 2, 3))])
            parts.append(detailed.half())
        made.append(torch.cat(parts).contiguous(memory_format=torch.channels_last))
    mean, second = (sums / (2 * len(a) * a.shape[2] * a.shape[3])).view(2, 6, 1, 1)
    spread = (second - mean.square()).clamp_min(1e-8).sqrt()
    for one in made:
        one.sub_(mean.half()).div_(spread.half())
    return made[0], made[1]


class _Statistics(nn.Module):
    """``(N, 2 C)`` means and standard deviations over positions of maps ``(N, C, h, w)``."""

    def forward(self, maps: Tensor) -> Tensor:
        positions = maps.permute(0, 2, 3, 1).flatten(1, 2)  # (N, h w, C), as they lie in memory
        mean = positions.mean(dim=1, keepdim=True)
        std = (positions - mean).square().mean(dim=1).add(1e-4).sqrt()
        return torch.cat([mean.squeeze(1), std], dim=1)


def _network(generator: torch.Generator) -> nn.Module:
    """Three strided stages and statistics over positions: sees texture and colour at full resolution, costs little."""
    layers: list[nn.Module] = []
    for before, after, kernel_px in ((6, 16, 5), (16, 32, 3), (32, 64, 3)):
        layers += [
            nn.Conv2d(before, after, kernel_px, 2, kernel_px // 2, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(True),
        ]
    network = nn.Sequential(*layers, _Statistics(), nn.BatchNorm1d(128), nn.Linear(128, 1))
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def _train(a: Tensor, b: Tensor, steps: int, generator: torch.Generator) -> nn.Module:
    """A classifier whose score is above 0 for images like ``b``; each step sees both images of its subjects."""
    with torch.random.fork_rng(devices=[]):  # building layers draws from the global generator, which is the caller's
        network = _network(generator)
    half = min(_BATCH // 2, len(a))
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=1e-2, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=_RATE, total_steps=steps + 1)
    targets = torch.cat([torch.zeros(half), torch.ones(half)])
    order = torch.randperm(len(a), generator=generator)
    # One piece of memory for all steps: fresh pages would cost as much as what is written to them.
    images = torch.empty(2 * half, *a.shape[1:]).contiguous(memory_format=torch.channels_last)
    for _ in range(steps):
        if len(order) < half:
            order = torch.cat([order, torch.randperm(len(a), generator=generator)])
        rows, order = order[:half], order[half:]
        mirrored = bool(torch.randint(2, (), generator=generator))
        for part, own in zip(images.split(half), (a, b), strict=True):
            part.copy_(own[rows].flip(-1) if mirrored else own[rows])
        loss = functional.binary_cross_entropy_with_logits(network(images).squeeze(1), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return _settled(network, a, b)


@torch.no_grad()
def _settled(network: nn.Module, a: Tensor, b: Tensor) -> nn.Module:
    """The network with the statistics that its final weights give on all training images.

    Those of training belong to earlier weights, which would shift every score and with it the accuracy at 0.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the plain mean over all batches
    half = _BATCH // 2
    for part_a, part_b in zip(a.split(half), b.split(half), strict=True):
        network(torch.cat([part_a, part_b]).float())
    return network.eval()


@torch.no_grad()
def _scores(network: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([network(part.float()).squeeze(1) for part in images.split(_BATCH)]).double()


class TwoSampleMetric(Metric):
    """Accuracy and AUC of a fresh classifier, every arm against the reference."""

    name, family, label, better = "c2st_accuracy", "two-sample", "two-sample accuracy", "low"
    unit = "share"
    keeps_pixels = True
    tested: ClassVar[tuple[str, ...]] = ("distilled", "enhanced", "gated", "floor")
    """The arms that are tested, of those that there are."""

    def compute(self) -> list[Score]:
        context, scores = self.context, list[Score]()
        for arm in (arm for arm in context.arms if arm in self.tested):
            images, reference = context.pixels(arm), context.pixels("reference")
            n = min(len(images), len(reference))
            sets = images[:n], reference[:n]
            test = context.attempt(lambda sets=sets: two_sample(*sets, seed=context.seed))
            if test is not None:
                accuracy, auc = test
                scores.append(self.score(arm, accuracy, n))
                scores.append(self.score(arm, auc, n, "c2st_auc", "two-sample AUC", unit=""))
        return scores

    def flags(self, scores: Sequence[Score]) -> list[Flag]:
        floor = score_of(scores, self.name, "floor")
        if floor is None or floor.low is None or floor.low <= 0.5:
            return []
        sentence = (
            f"a classifier tells the baseline from itself at other seeds ({floor.value * 100:.0f} %), so do not rely "
            "on its other accuracies"
        )
        return [Flag("floor not at chance", sentence)]
