"""What gates did: how many images are as the head made them, weakened, or left distilled."""

from __future__ import annotations

from topcoat.metrics.base import Metric, Score
from topcoat.metrics.context import Context
from topcoat.metrics.embed import Batch


class GatesMetric(Metric):
    """Shares of the gated images; the three sum to 1. A gate leaves an image as it is or mixes two, so they show."""

    name, family, unit = "gates", "gates", "share"
    needs = frozenset({"distilled", "gated", "pairs"})
    always = True

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._counts = {"enhanced": 0, "weakened": 0, "distilled": 0}

    def update(self, batch: Batch) -> None:
        if not {"distilled", "enhanced", "gated"} <= set(batch):
            return
        distilled, enhanced, gated = (batch[arm].images for arm in ("distilled", "enhanced", "gated"))
        if not len(distilled) == len(enhanced) == len(gated):
            return
        full, none = ((gated == other).flatten(1).all(dim=1) for other in (enhanced, distilled))
        self._counts["enhanced"] += int(full.sum())
        self._counts["distilled"] += int((none & ~full).sum())
        self._counts["weakened"] += int((~none & ~full).sum())

    def compute(self) -> list[Score]:
        n = self.context.count("gated")
        labels = {
            "enhanced": "as the head made them",
            "weakened": "with less of the head",
            "distilled": "left distilled",
        }
        return [
            self.score("gated", count / n, n, f"{name}_share", labels[name]) for name, count in self._counts.items()
        ]
