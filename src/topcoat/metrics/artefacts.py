"""Artefacts: what a broken head adds that a set distance may forgive.

Every measure compares the change, z - x, with the wanted change, y - x (x distilled, z enhanced, y baseline); z = y
gives the neutral value: 0 dB, a ratio of 1, or the 1 % that any 99th percentile leaves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from topcoat.errors import UsageError
from topcoat.images import gaussian_blur
from topcoat.metrics.base import Better, Flag, Metric, Score
from topcoat.metrics.colour import colour_difference, patch_colours
from topcoat.metrics.context import Context
from topcoat.metrics.embed import Batch, GrowingTensor
from topcoat.metrics.grids import (
    BLOCK_PX,
    PLACES,
    block_powers,
    border_steps,
    grid_excess,
    grid_levels,
    grid_peaks,
    worst_peak,
    worst_seam,
)
from topcoat.metrics.spectrum import decibels, luma, windowed_power

SMALLEST_PX = 32
"""Fewer pixels a side leave no room to tell a grid from a face."""
_EDGE_SHARE = 0.1
_BLOB_GRID = 32
_BLOB_MARGIN = 1.25
_HALF_A_LEVEL = 0.5 / 255

# Limits of the flags.
CHECKERBOARD_DB, CHECKERBOARD_LEVELS = 3.0, 0.5
BLUR_DB = 1.0
FOREIGN_DB = 3.0
SEAM_RATIO = 1.5
BLOB_SHARE = 0.05
HALO_RATIO, HALO_LUMA = 1.25, 0.002
COLOUR_DIFFERENCE = 2.0


@dataclass(frozen=True, slots=True)
class Artefacts:
    """What `ArtefactMetric` measured on N subjects."""

    changed: float
    """Mean absolute change from distilled to enhanced, of 1; 0 is the identity map."""
    checkerboard_db: float
    """Strongest peak at an up-sampling frequency above that of the wanted change."""
    checkerboard_period_px: int
    checkerboard_levels: float
    """Amplitude of that grid, in 8-bit levels beyond the wanted change; under a half it is in no file."""
    grid_db: float
    """The most power of the change over the wanted one at any up-sampling frequency."""
    seam_ratio: float
    """Step across tile borders over the step elsewhere, relative to that of the wanted change."""
    seam_period_px: int | None
    """None where images are too small for tiles."""
    blob_share: float
    """Share of images with a blob larger than 99 % of the wanted changes have, by a margin of 25 %."""
    halo_luma: float
    """Mean overshoot at strong edges, of 1."""
    halo_luma_baseline: float
    """The baseline's own, at the same edges."""
    high_frequency_db: float
    """Power above half the highest frequency, enhanced over baseline; well below 0 is blur."""
    high_frequency_db_distilled: float
    foreign_db: float
    """As `foreign_detail`."""
    foreign_period_px: float
    foreign_place: str
    """One of `PLACES`."""
    lab_shift: tuple[float, ...]
    lab_std: tuple[float, ...]
    """Mean difference of the enhanced images from the baseline in L*, a*, b*, and its standard deviation."""
    colour_difference: float
    """Mean CIEDE2000 of patches, enhanced against baseline."""
    colour_difference_distilled: float


_SCORES: dict[str, tuple[str, str, Better | None]] = {
    "changed": ("mean change", "", None),
    "checkerboard_db": ("checkerboard", "dB", "low"),
    "checkerboard_levels": ("checkerboard", "levels", "low"),
    "grid_db": ("power at up-sampling frequencies", "dB", "low"),
    "seam_ratio": ("tile seams, ratio", "", "low"),
    "blob_share": ("images with a blob", "share", "low"),
    "halo_luma": ("overshoot at edges", "", "low"),
    "high_frequency_db": ("high frequencies", "dB", None),
    "foreign_db": ("foreign detail", "dB", "low"),
    "colour_difference": ("colour difference", "CIEDE2000", "low"),
}
"""Label, unit and direction of the fields of `Artefacts` that are scores."""


class ArtefactMetric(Metric):
    """Artefacts of the enhanced images; memory grows by a few numbers an image."""

    name, family = "artefacts", "artefacts"
    needs = frozenset({"distilled", "pairs"})

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._n = 0
        self._power: list[Tensor] = []  # change, wanted change, x, z, y: each (H, W), summed over images
        self._blocks: list[Tensor] = []  # x, z, y: each (3, 3, 8, 8), summed over images
        self._steps: list[Tensor] = []  # change and wanted change, across and down
        self._rows: dict[str, GrowingTensor] = {}
        self._result: Artefacts | None = None

    def update(self, batch: Batch) -> None:
        parts = [batch[arm].images for arm in ("distilled", "enhanced", "reference") if arm in batch]
        if len(parts) < 3 or len({len(part) for part in parts}) != 1:
            return
        height, width = parts[0].shape[2:]
        if min(height, width) < SMALLEST_PX:
            raise UsageError(f"artefacts need images of {SMALLEST_PX} or more pixels a side, not {width}x{height}")
        x, z, y = (part.to("cpu", torch.float32) for part in parts)
        change, wanted = z - x, y - x
        grey_x, grey_z, grey_y = greys = [luma(part) for part in (x, z, y)]  # that of a change is their difference
        planes = (grey_z - grey_x, grey_y - grey_x, *greys)
        power = [windowed_power(part).to(torch.float64).sum(dim=0) for part in planes]
        steps = [border_steps(part, dim) for part in (change, wanted) for dim in (-1, -2)]
        blocks = [len(x) * block_powers(part.unsqueeze(1))[0].to(torch.float64) for part in greys]
        self._power, self._blocks, self._steps = (
            new if not old else [a + b for a, b in zip(old, new, strict=True)]
            for old, new in ((self._power, power), (self._blocks, blocks), (self._steps, steps))
        )
        self._n += len(x)
        colours = [patch_colours(part) for part in (x, z, y)]
        per_image = {
            "changed": change.abs().mean(dim=(1, 2, 3), dtype=torch.float64),
            "blob": blob_peak(change),
            "blob_wanted": blob_peak(wanted),
            "halo": overshoot(z, x),
            "halo_baseline": overshoot(y, x),
            "shift": (colours[1] - colours[2]).to(torch.float64).mean(dim=(1, 2)),
            "difference": colour_difference(colours[1], colours[2]),
            "difference_distilled": colour_difference(colours[0], colours[2]),
        }
        for name, values in per_image.items():
            self._rows.setdefault(name, GrowingTensor()).add(values)

    def result(self) -> Artefacts:
        """The means over all subjects; raises `UsageError` for fewer than 2 subjects."""
        if self._n < 2:
            raise UsageError(f"artefacts are looked for in 2 or more subjects, not {self._n}; add images")
        rows = {name: column.rows for name, column in self._rows.items()}
        means = {name: values.mean(dim=0) for name, values in rows.items()}
        power = [part / self._n for part in self._power]
        peak, period = worst_peak(grid_peaks(power[0]), grid_peaks(power[1]))
        seam, seam_period = worst_seam([part / self._n for part in self._steps])
        limit = rows["blob_wanted"].quantile(0.99) * _BLOB_MARGIN
        high = [_high_power(part) for part in power[2:]]
        foreign, foreign_period, place = foreign_detail(*(part / self._n for part in self._blocks))
        return Artefacts(
            changed=float(means["changed"]),
            checkerboard_db=peak,
            checkerboard_period_px=period,
            checkerboard_levels=grid_levels(power[0], power[1], period),
            grid_db=grid_excess(power[0], power[1]),
            seam_ratio=seam,
            seam_period_px=seam_period,
            blob_share=float((rows["blob"] > limit).double().mean()),
            halo_luma=float(means["halo"]),
            halo_luma_baseline=float(means["halo_baseline"]),
            high_frequency_db=float(decibels(high[1], high[2])),
            high_frequency_db_distilled=float(decibels(high[0], high[2])),
            foreign_db=foreign,
            foreign_period_px=foreign_period,
            foreign_place=place,
            lab_shift=tuple(means["shift"].tolist()),
            lab_std=tuple(rows["shift"].std(dim=0).tolist()),
            colour_difference=float(means["difference"]),
            colour_difference_distilled=float(means["difference_distilled"]),
        )

    def compute(self) -> list[Score]:
        self._result = one = self.result()
        details = {
            "checkerboard_db": f"{one.checkerboard_period_px} px",
            "seam_ratio": "" if one.seam_period_px is None else f"{one.seam_period_px} px",
            "foreign_db": f"{one.foreign_place}, {one.foreign_period_px:.1f} px",
        }
        scores = [
            self.score(
                arm, getattr(one, name + suffix), self._n, name, label,
                unit=unit, better=better, detail=details.get(name, ""),
            )
            for name, (label, unit, better) in _SCORES.items()
            for suffix, arm in (("", "enhanced"), ("_baseline", "reference"), ("_distilled", "distilled"))
            if hasattr(one, name + suffix)
        ]  # fmt: skip
        for axis, shift, std in zip("Lab", one.lab_shift, one.lab_std, strict=True):
            name, label, detail = f"{axis.lower()}_shift", f"{axis}* shift", f"std {std:.2f}"
            scores.append(self.score("enhanced", shift, self._n, name, label, detail=detail))
        return scores

    def flags(self, scores: Sequence[Score]) -> list[Flag]:
        one = self._result
        if one is None:
            return []
        if one.changed < _HALF_A_LEVEL:
            return [Flag("identity map", "the enhanced images are the distilled ones: the head does nothing")]
        grid = f"{one.checkerboard_levels:.1f} levels of 255, {one.checkerboard_db:.1f} dB out of the change"
        where = "inside" if one.foreign_place == "middle" else f"at the {one.foreign_place}"
        times = one.halo_luma / max(one.halo_luma_baseline, 1e-6)
        checks = {
            "checkerboard": (
                one.checkerboard_db > CHECKERBOARD_DB and one.checkerboard_levels > CHECKERBOARD_LEVELS,
                f"a grid of {one.checkerboard_period_px} px stands about {grid}",
            ),
            "blur": (
                one.high_frequency_db < min(0.0, one.high_frequency_db_distilled) - BLUR_DB,
                f"fine detail is {one.high_frequency_db:.1f} dB against the baseline's, less than that of the "
                f"distilled images ({one.high_frequency_db_distilled:.1f} dB)",
            ),
            "foreign detail": (
                one.foreign_db > FOREIGN_DB,
                f"{where}, at periods of {one.foreign_period_px:.1f} px, the enhanced images have {one.foreign_db:.1f} "
                "dB more power than the baseline and the distilled ones",
            ),
            "tile seams": (
                one.seam_ratio > SEAM_RATIO,
                f"steps every {one.seam_period_px} px are {one.seam_ratio:.1f} times others",
            ),
            "blobs": (
                one.blob_share > BLOB_SHARE and self._n >= 1 / BLOB_SHARE,
                f"{one.blob_share * 100:.0f} % of the images have a spot that the baseline lacks",
            ),
            "halos": (
                one.halo_luma > HALO_RATIO * one.halo_luma_baseline + HALO_LUMA,
                f"edges overshoot {times:.1f} times as far as the baseline's",
            ),
            "colour shift": (
                one.colour_difference > one.colour_difference_distilled + COLOUR_DIFFERENCE,
                f"colours are {one.colour_difference:.1f} CIEDE2000 off the baseline's, the distilled images' "
                f"{one.colour_difference_distilled:.1f}",
            ),
        }
        return [Flag(name, sentence) for name, (wrong, sentence) in checks.items() if wrong]


def foreign_detail(distilled: Tensor, enhanced: Tensor, baseline: Tensor) -> tuple[float, float, str]:
    """The largest excess of power, in dB, its period in px and its place, of mean `block_powers` ``(3, 3, 8, 8)`` each.

    Excess is what enhanced images have over the baseline, less what distilled ones have over it where that is more than
    none: 0 for enhanced images that are the baseline's or the distilled ones'.
    """
    excess = decibels(enhanced, baseline) - decibels(distilled, baseline).clamp_min(0)
    excess[..., 0, 0] = -math.inf  # the means of blocks: colour and light, which have measures of their own
    best = max(PLACES, key=lambda name: float(excess[PLACES[name]].max()))
    there = excess[PLACES[best]]
    down, across = divmod(int(there.argmax()), BLOCK_PX)
    return max(0.0, float(there.max())), 2 * BLOCK_PX / math.hypot(down, across), best


def blob_peak(change: Tensor) -> Tensor:
    """``(N,)`` float64 strongest round spot of about 1/16 of the side in changes of images ``(N, 3, H, W)``.

    The largest difference, over places and channels, between a spot and what surrounds it.
    """
    grid = (min(_BLOB_GRID, change.shape[-2]), min(_BLOB_GRID, change.shape[-1]))
    small = functional.adaptive_avg_pool2d(change, grid)
    spots = gaussian_blur(small, 0.8) - gaussian_blur(small, 2.5)
    return spots.abs().amax(dim=(1, 2, 3)).to(torch.float64)


def overshoot(images: Tensor, guide: Tensor) -> Tensor:
    """``(N,)`` float64 mean luma by which ``images`` leave the range of ``guide`` around them, at its strongest edges.

    Both ``(N, 3, H, W)``; the range is that of 5 x 5 px, the edges are the 10 % of pixels with the steepest luma.
    """
    grey, base = luma(images).unsqueeze(1), luma(guide).unsqueeze(1)
    # Windows of 5 px across, then down: on a CPU a pooling layer takes ten times as long.
    rows = functional.pad(base, (2, 2, 2, 2), mode="replicate").unfold(-1, 5, 1)
    high, low = rows.amax(-1).unfold(-2, 5, 1).amax(-1), rows.amin(-1).unfold(-2, 5, 1).amin(-1)
    beyond = (grey - high).clamp_min(0) + (low - grey).clamp_min(0)
    contrast = (high - low).flatten(1)
    count = max(1, round(_EDGE_SHARE * contrast.shape[1]))
    edges = contrast.topk(count, dim=1).indices
    return beyond.flatten(1).gather(1, edges).mean(dim=1).to(torch.float64)


def _high_power(power: Tensor) -> Tensor:
    height, width = power.shape
    radius = torch.hypot(torch.fft.fftfreq(height).unsqueeze(1), torch.fft.fftfreq(width).unsqueeze(0))
    return power[(radius > 0.25) & (radius <= 0.5)].mean()
