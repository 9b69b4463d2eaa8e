"""Quality: each image rated by itself, or with its prompt, by the nets of `topcoat.features.quality`."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial

from topcoat.metrics.base import MeanMetric, Score
from topcoat.metrics.context import Context
from topcoat.metrics.embed import Batch


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
                key: str | list[str] = f"quality {net.digest}"
                rate = partial(net, images.images)
                if net.needs_prompts:
                    if len(prompts) != count:
                        self.context.note(f"{name} rates images with their prompts, and {arm} images have none")
                        continue
                    key, rate = [f"{key} {prompt}" for prompt in prompts], partial(rate, prompts)
                self.add(arm, images.cached(key, rate).squeeze(1), name)

    def compute(self) -> list[Score]:
        rated = [(one, self._nets[one.metric]) for one in super().compute()]
        return [replace(one, label=net.label, net=net.name, digest=net.digest) for one, net in rated]
