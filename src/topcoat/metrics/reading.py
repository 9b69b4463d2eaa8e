"""One pass over enhanced, reference, distilled and gated images in step: everything that is measured per image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import zip_longest

import torch
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.features import QualityNet
from topcoat.metrics.artefacts import ArtefactScan
from topcoat.metrics.c2st import MOST_IMAGES
from topcoat.metrics.cache import FeatureCache
from topcoat.metrics.colour import ciede2000, skin_colour, skin_mask, typology_angle
from topcoat.metrics.embed import Embeddings, FeatureNetLike, Images, SeenBatch, batches, perceptual
from topcoat.metrics.growing import GrowingTensor
from topcoat.metrics.paired import gradient_agreement, gradient_energy, psnr
from topcoat.metrics.spectrum import RINGS, SMALLEST_PX, decibels
from topcoat.metrics.structure import SSIM_WINDOW_PX, structural_similarities

NAMES = ("enhanced", "reference", "distilled", "gated")
MOST_DECIBELS = 100
"""Equal images have no finite PSNR; this is what 8-bit files cannot reach, and JSON can hold it."""
_KEPT_NUMBERS = 2**29
"""Pixels that are kept as bytes per set at most: 512 MiB."""


class Reading:
    """What the pass found; memory grows by features, a few numbers an image and the first images as bytes."""

    def __init__(
        self,
        net: FeatureNetLike,
        cache: FeatureCache | None,
        metrics: frozenset[str],
        quality: QualityNet | None = None,
    ) -> None:
        self._net = net
        self._quality = quality
        self.quality_digest = None if quality is None else quality.digest
        self._cache = cache
        self._metrics = metrics
        self._scan = ArtefactScan() if "artefacts" in metrics else None
        self._keep = bool(metrics & {"two-sample", "artefacts"})
        self._columns: dict[str, GrowingTensor] = {}
        self._power: dict[str, tuple[Tensor, int]] = {}
        self.decided = {"enhanced": 0, "weakened": 0, "distilled": 0}
        """How many gated images are as the head made them, between, or as they were."""
        self.notes: list[str] = []
        self.size: tuple[int, int] = (0, 0)

    def read(self, streams: list[Iterator[Tensor]]) -> None:
        """Read the streams of `NAMES` (the last two may be empty) to their ends."""
        for images in zip_longest(*streams):
            seen = {
                name: SeenBatch(batch, self._net, self._cache)
                for name, batch in zip(NAMES, images, strict=True)
                if batch is not None
            }
            for name, batch in seen.items():
                self._one(name, batch)
            y = seen.get("reference")
            if y is None:
                continue
            for name, batch in seen.items():
                if batch is not y:
                    self.size = (y.images.shape[-2], y.images.shape[-1])
                    self._pair(name, batch, y)
            given = {name: batch.images for name, batch in seen.items()}
            if {"enhanced", "distilled"} <= set(given) and len({len(part) for part in given.values()}) == 1:
                self._three(given["distilled"], given["enhanced"], given["reference"])
                if "gated" in given:
                    self._decisions(given["distilled"], given["enhanced"], given["gated"])

    def read_floor(self, images: Images, batch_size: int) -> None:
        """Read the baseline at other seeds."""
        for batch in batches(images, batch_size, "floor"):
            self._one("floor", SeenBatch(batch, self._net, self._cache))

    def embeddings(self, name: str) -> Embeddings:
        """What the net says of a set; raises `UsageError` where it holds no images."""
        embedding, identity = self._rows(f"{name} embedding"), self._rows(f"{name} identity")
        if embedding is None or identity is None:
            raise UsageError(f"{name} hold no images; give 2 or more")
        return Embeddings(embedding, identity)

    def score(self, name: str) -> Tensor | None:
        """The ``(N,)`` per-image values called ``name``, or None where there are none."""
        return self._rows(name)

    def energy(self, name: str) -> float:
        """Mean gradient energy of a set that was read."""
        values = self._rows(f"{name} energy")
        assert values is not None
        return float(values.mean())

    def kept(self, name: str) -> Tensor | None:
        """The first images of a set ``(K, 3, H, W)`` as bytes, or None where none were kept."""
        return self._rows(f"{name} pixels")

    def power(self, name: str) -> Tensor | None:
        """The ``(rings,)`` mean power spectrum of a set, or None where none was taken."""
        total = self._power.get(name)
        return None if total is None else total[0] / total[1]

    @property
    def scan(self) -> ArtefactScan | None:
        """The scan for artefacts, or None where they were not asked for."""
        return self._scan

    def _one(self, name: str, seen: SeenBatch) -> None:
        batch = seen.images
        found = seen.embeddings()
        self._add(f"{name} embedding", found.embedding)
        self._add(f"{name} identity", found.identity)
        self._add(f"{name} energy", gradient_energy(batch))
        if self._quality is not None:
            self._add(f"{name} quality", seen.quality(self._quality))
        if "paired" in self._metrics and name in NAMES and min(batch.shape[-2:]) >= SMALLEST_PX:
            total, count = self._power.get(name, (torch.zeros(RINGS, dtype=torch.float64), 0))
            self._power[name] = (total + seen.spectrum.sum(dim=0), count + len(batch))
        if not self._keep:
            return
        room = min(MOST_IMAGES, _KEPT_NUMBERS // batch[0].numel()) - len(self._columns.get(f"{name} pixels", ()))
        if room > 0:
            self._add(f"{name} pixels", (batch[:room].clamp(0, 1) * 255).round().to(torch.uint8))

    def _pair(self, name: str, seen: SeenBatch, seen_reference: SeenBatch) -> None:
        batch, reference = seen.images, seen_reference.images
        if batch.shape[-2:] != reference.shape[-2:]:
            sizes = f"{batch.shape[-1]}x{batch.shape[-2]} and {reference.shape[-1]}x{reference.shape[-2]}"
            raise UsageError(
                f"{name} and reference images are of different sizes ({sizes} px); resize them to one size first"
            )
        count = min(len(batch), len(reference))
        a, b = batch[:count], reference[:count]
        self._add(f"{name} psnr", psnr(a, b).clamp_max(MOST_DECIBELS))
        if "paired" not in self._metrics:
            return
        self._add(f"{name} gradient", gradient_agreement(a, b))
        if min(a.shape[-2:]) >= SMALLEST_PX:
            power = decibels(seen.spectrum[:count], seen_reference.spectrum[:count])
            self._add(f"{name} spectrum", power.abs().mean(dim=1))
        if min(a.shape[-2:]) >= SSIM_WINDOW_PX:
            single, multi = structural_similarities(a, b)
            self._add(f"{name} ssim", single)
            self._add(f"{name} ms_ssim", multi)
        self._attempt(lambda: self._add(f"{name} perceptual", perceptual(seen, seen_reference, count, self._cache)))

    def _three(self, x: Tensor, z: Tensor, y: Tensor) -> None:
        scan = self._scan
        if scan is not None:
            self._attempt(lambda: scan.update(x, z, y))
        if "groups" in self._metrics:
            masks = [skin_mask(part) for part in (x, z, y)]
            own = [skin_colour(part, mask) for part, mask in zip((x, z, y), masks, strict=True)]
            before, after = own[0], skin_colour(z, masks[0])  # the same pixels
            self._add("enhanced skin", ciede2000(before, after))
            self._add("enhanced ita", typology_angle(after) - typology_angle(before))
            angles = [typology_angle(colour) for colour in own]
            self._add("distilled ita to baseline", angles[0] - angles[2])
            self._add("enhanced ita to baseline", angles[1] - angles[2])

    def _decisions(self, x: Tensor, z: Tensor, gated: Tensor) -> None:
        """Gates leave an image as it is or mix two of them, so what they did can be seen."""
        whole, nothing = ((gated == other).flatten(1).all(dim=1) for other in (z, x))
        self.decided["enhanced"] += int(whole.sum())
        self.decided["distilled"] += int((nothing & ~whole).sum())
        self.decided["weakened"] += int((~nothing & ~whole).sum())

    def _add(self, name: str, values: Tensor) -> None:
        self._columns.setdefault(name, GrowingTensor()).add(values)

    def _rows(self, name: str) -> Tensor | None:
        column = self._columns.get(name)
        return None if column is None else column.rows

    def _attempt(self, measure: Callable[[], None]) -> None:
        """Do without a measure that these images or this net cannot give, and say so once."""
        try:
            measure()
        except UsageError as error:
            if str(error) not in self.notes:
                self.notes.append(str(error))
