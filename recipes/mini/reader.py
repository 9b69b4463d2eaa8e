"""Stage `reader`: a net that reads a portrait's landmarks and the words of its prompt.

The recipe judges its own models by it: a face is deformed where its landmarks fit no render's (`ShapeModel`), and a
prompt is obeyed where the reader finds its words. No model is ever trained against it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.mini.checkpoint import load_state, save_state
from recipes.mini.meter import Meter
from recipes.mini.portrait.words import PORTRAIT_VOCABULARY, Words
from recipes.mini.portraits import load_portraits
from recipes.mini.recipe import Recipe, WorkFolder
from topcoat.files import atomic_path, write_json

HELD_OUT = 1_000
BATCH_IMAGES = 32
CHECKPOINT_SECONDS = 120
LANDMARK_WEIGHT = 0.05
PEAK_RATE = 2e-3
SHAPE_SHARE = 0.99
"""Share of the renders' landmark variance that the shape model explains."""


@dataclass(frozen=True)
class Reading:
    """What the reader says of N portraits."""

    landmarks: Tensor
    """(N, L, 2), x and y in px."""
    logits: tuple[Tensor, ...]
    """For each attribute of `PORTRAIT_VOCABULARY`, (N, its words)."""

    def words(self) -> Tensor:
        """(N, attributes), the index of the most likely word of each."""
        return torch.stack([logits.argmax(dim=1) for logits in self.logits], dim=1)


class PortraitReader(nn.Module):
    """Heatmaps at a quarter of the size, read by soft-argmax, and one linear classifier for each attribute."""

    def __init__(self, landmarks: int, width: int = 48) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(3, width // 2, stride=2), _conv(width // 2, width, stride=2))
        self.fine = nn.Sequential(*(_Residual(width, dilation) for dilation in (1, 2, 4, 1)))
        self.heatmaps = nn.Conv2d(width, landmarks, 1)
        self.coarse = nn.Sequential(
            _conv(width, 2 * width, stride=2),
            _Residual(2 * width, 1),
            _conv(2 * width, 3 * width, stride=2),
            _Residual(3 * width, 1),
        )
        self.sizes = [len(values) for values in PORTRAIT_VOCABULARY.values()]
        self.classify = nn.Linear(3 * width * 2, sum(self.sizes))

    def forward(self, images: Tensor) -> Reading:
        """Read ``images`` (N, 3, H, W) in [0, 1]."""
        hidden = self.fine(self.stem(images * 2 - 1))
        maps = self.heatmaps(hidden)
        height, width = maps.shape[-2:]
        weights = maps.flatten(2).softmax(dim=-1).view_as(maps)
        centres = [(torch.arange(n, device=maps.device) + 0.5) * 4 - 0.5 for n in (width, height)]
        x = (weights.sum(dim=2) * centres[0]).sum(dim=-1)
        y = (weights.sum(dim=3) * centres[1]).sum(dim=-1)
        deep = self.coarse(hidden)
        pooled = torch.cat([deep.mean(dim=(2, 3)), deep.amax(dim=(2, 3))], dim=1)
        return Reading(torch.stack([x, y], dim=-1), self.classify(pooled).split(self.sizes, dim=1))

    @classmethod
    def load(cls, folder: Path) -> PortraitReader:
        """The trained reader, frozen."""
        weights = load_file(folder / "reader.safetensors")
        reader = cls(len(weights["heatmaps.bias"]))
        reader.load_state_dict(weights)
        return reader.eval().requires_grad_(False)


@dataclass(frozen=True)
class ShapeModel:
    """Principal components of the renders' landmarks, position and size included (portraits are aligned)."""

    mean: Tensor
    """(2 L)."""
    basis: Tensor
    """(2 L, components), orthonormal."""
    limit_px: float
    """99th percentile of the held-out renders' residuals, as the reader sees them."""

    def residual_px(self, landmarks: Tensor) -> Tensor:
        """(N): rms distance of ``landmarks`` (N, L, 2) to the nearest shape of the model."""
        centred = landmarks.flatten(1) - self.mean
        left = centred - centred @ self.basis @ self.basis.T
        return left.view(len(left), -1, 2).square().sum(dim=-1).mean(dim=-1).sqrt()

    @classmethod
    def of(cls, landmarks: Tensor, held_out: Tensor) -> ShapeModel:
        """Fit to exact ``landmarks`` (N, L, 2); ``held_out`` are those that the reader finds in other renders."""
        flat = landmarks.flatten(1)
        mean = flat.mean(dim=0)
        values, vectors = torch.linalg.eigh(torch.cov((flat - mean).T.double()))
        values, vectors = values.flip(0), vectors.flip(1).float()
        count = int((values.cumsum(0) / values.sum() < SHAPE_SHARE).sum()) + 1
        model = cls(mean, vectors[:, :count].contiguous(), 0.0)
        return cls(mean, model.basis, float(model.residual_px(held_out).quantile(0.99)))

    @classmethod
    def load(cls, folder: Path) -> ShapeModel:
        """The model that the stage `reader` has saved."""
        tensors = load_file(folder / "shapes.safetensors")
        return cls(tensors["mean"], tensors["basis"], float(tensors["limit_px"]))

    def save(self, folder: Path) -> None:
        """Write ``shapes.safetensors``."""
        with atomic_path(folder / "shapes.safetensors") as path:
            save_file({"mean": self.mean, "basis": self.basis, "limit_px": torch.tensor(self.limit_px)}, path)


def train_reader(recipe: Recipe, work: WorkFolder) -> None:
    """Train the reader, fit the shape model and print what both make of held-out renders."""
    renders = load_portraits(recipe, work)
    labels = word_indices(renders.words)
    usable = len(renders.images) - HELD_OUT
    torch.manual_seed(17)
    reader = PortraitReader(renders.landmarks.shape[1]).to(work.device)
    reader.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(reader.parameters(), lr=PEAK_RATE, weight_decay=0.02)
    seen = int(load_state(work.reader, {"reader": reader}, {"optimizer": optimizer}).get("images", 0))
    saved = time.monotonic()
    with Meter("reader", recipe.reader_images, seen) as meter:
        while seen < recipe.reader_images:
            generator = torch.Generator().manual_seed(19 * 1_000_003 + seen)
            rows = torch.randint(usable, (BATCH_IMAGES,), generator=generator)
            images = renders.images[rows].float() / 255
            images = (images + torch.randn(images.shape, generator=generator) * 0.01).clamp(0, 1)
            progress = seen / recipe.reader_images
            for group in optimizer.param_groups:
                group["lr"] = PEAK_RATE * min(progress / 0.03 + 0.01, 1.0) * (1 - progress) ** 0.7
            reading = reader(images.to(work.device, memory_format=torch.channels_last))
            loss = LANDMARK_WEIGHT * F.smooth_l1_loss(reading.landmarks, renders.landmarks[rows].to(work.device))
            wanted = labels[rows].to(work.device)
            for index, logits in enumerate(reading.logits):
                loss = loss + F.cross_entropy(logits, wanted[:, index]) / len(reading.logits)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
            optimizer.step()
            seen += BATCH_IMAGES
            meter.update(seen, f"loss {loss.item():.3f}")
            if time.monotonic() - saved > CHECKPOINT_SECONDS or seen >= recipe.reader_images:
                save_state(work.reader, {"reader": reader}, {"optimizer": optimizer}, {"images": seen})
                saved = time.monotonic()
    reader.cpu().eval()
    with atomic_path(work.reader / "reader.safetensors") as path:
        save_file({name: value.contiguous() for name, value in reader.state_dict().items()}, path)
    _finish(reader, renders.images[usable:], renders.landmarks, labels, work.reader, seen)


def word_indices(portraits: list[Words]) -> Tensor:
    """(N, attributes): which of its attribute's words each portrait has."""
    rows = [[values.index(getattr(words, name)) for name, values in PORTRAIT_VOCABULARY.items()] for words in portraits]
    return torch.tensor(rows)


@torch.no_grad()
def read(reader: PortraitReader, images: Tensor) -> tuple[Tensor, Tensor]:
    """Landmarks (N, L, 2) in px and word indices (N, attributes) of ``images`` (N, 3, H, W), uint8 or [0, 1]."""
    scale = 255 if images.dtype == torch.uint8 else 1
    readings = [reader(batch.float() / scale) for batch in images.split(64)]
    return torch.cat([one.landmarks for one in readings]), torch.cat([one.words() for one in readings])


def _finish(
    reader: PortraitReader, held_out: Tensor, landmarks: Tensor, labels: Tensor, folder: Path, seen: int
) -> None:
    estimated, words = read(reader, held_out)
    shapes = ShapeModel.of(landmarks[: -len(held_out)], estimated)
    shapes.save(folder)
    distances = (estimated - landmarks[-len(held_out) :]).norm(dim=-1)
    right = (words == labels[-len(held_out) :]).float().mean(dim=0)
    off = {"median": float(distances.median()), "p95": float(distances.quantile(0.95))}
    figures = {
        "images_seen": seen,
        "held_out": len(held_out),
        "landmark_error_px": off,
        "shape_components": shapes.basis.shape[1],
        "residual_limit_px": shapes.limit_px,
        "words_read": dict(zip(PORTRAIT_VOCABULARY, right.tolist(), strict=True)),
    }
    write_json(folder / "figures.json", figures)
    print(
        f"reader: landmarks off by {off['median']:.2f} px (median), "
        f"{float(right.mean()):.1%} of the words read; a residual above {shapes.limit_px:.2f} px is a deformed face"
    )


class _Residual(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.layers(hidden)


def _conv(before: int, after: int, *, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU())
