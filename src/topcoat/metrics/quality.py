"""Quality: each image rated by itself, or with its prompt, by the nets of `topcoat.features.quality`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from topcoat.features import QualityNet
from topcoat.metrics.base import MeanMetric, Score
from topcoat.metrics.context import Context
from topcoat.metrics.embed import Batch, ImageBatch


class QualityMetric(MeanMetric):
    """Mean rating by every quality net, of every arm and of the reference, without which the others say little."""

    name, family, better = "quality", "quality", "high"
    needs = frozenset({"quality"})
    always = True

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._nets = {net.name: net for net in context.quality}
        self._read: Counter[str] = Counter()

    def update(self, batch: Batch) -> None:
        for arm, images in batch.items():
            first, count = self._read[arm], len(images)
            self._read[arm] += count
            prompts = (self.context.prompts or ())[first : first + count]
            for name, net in self._nets.items():
                if not net.needs_prompts:
                    self._rate(arm, images, net, ())
                elif len(prompts) == count:
                    self._rate(arm, images, net, prompts)
                else:
                    self.context.note(f"{name} rates images with their prompts, and {arm} images have none")

    def _rate(self, arm: str, images: ImageBatch, net: QualityNet, prompts: Sequence[str]) -> None:
        title = f"quality {net.digest}"
        names = [f"{title} {prompt}" for prompt in prompts] if net.needs_prompts else title
        given = (prompts,) if net.needs_prompts else ()
        rows = images.cached(names, lambda: net(images.images, *given).unsqueeze(1))
        self.add(arm, rows.squeeze(1), net.name)

    def compute(self) -> list[Score]:
        scores: list[Score] = []
        for one in super().compute():
            net = self._nets[one.metric]
            scores.append(replace(one, label=net.label, net=net.name, digest=net.digest))
        return scores
