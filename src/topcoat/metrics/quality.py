"""Quality of every image by itself, without a reference, by a net that is given for it."""

from __future__ import annotations

from topcoat.metrics.base import Score
from topcoat.metrics.embed import Batch
from topcoat.metrics.per_image import MeanMetric


class QualityMetric(MeanMetric):
    """Mean quality, 0 to 1, of every arm and of the reference, without which that of the others says little."""

    name, family, label, better = "quality", "quality", "quality", "high"
    needs = frozenset({"quality"})
    always = True

    def update(self, batch: Batch) -> None:
        net = self.context.quality
        assert net is not None
        for arm, images in batch.items():
            pixels = images.images
            rows = images.cached(f"quality {net.digest}", lambda pixels=pixels: net(pixels).unsqueeze(1))
            self.add(arm, rows.squeeze(1))

    def compute(self) -> list[Score]:
        net = self.context.quality
        assert net is not None
        return [
            self.score(one.arm, one.interval or one.value, one.n, net="quality", digest=net.digest)
            for one in super().compute()
        ]
