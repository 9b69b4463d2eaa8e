"""The baseline images of another dataset, used again: they are most of the price of a pair.

Another distilled model, a LoRA or another step count against the same baseline needs new distilled images alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from topcoat.errors import DataError
from topcoat.generators.base import Generator, GeneratorSpec, check_request
from topcoat.pairs.dataset import PairDataset
from topcoat.pairs.manifest import differences, spec_identity


class KeptBaseline:
    """A `Generator` that gives the baseline images which a dataset holds, and paints those which it does not.

    An image is known by its prompt and seed. It is the 8-bit image of the dataset's file; painted in a batch of another
    shape it may differ from that by a rounding.
    """

    def __init__(self, dataset: PairDataset, spec: GeneratorSpec, load: Callable[[], Generator]) -> None:
        """``load`` makes the real generator of ``spec``; it is called when the first image is missing, if ever."""
        self._dataset, self._spec, self._load = dataset, spec, load
        self._generator: Generator | None = None
        self._rows = {(record.prompt, record.seed): row for row, record in enumerate(dataset.records)}

    @property
    def spec(self) -> GeneratorSpec:
        """The baseline's settings."""
        return self._spec

    def generate(self, prompts: Sequence[str], seeds: Sequence[int], *, steps: int | None = None) -> Tensor:
        """``(N, 3, H, W)`` float32 in [0, 1]; with other ``steps`` than the spec's everything is painted."""
        texts, numbers = check_request(prompts, seeds)
        if steps not in (None, self._spec.steps):
            return self._painter().generate(texts, numbers, steps=steps)
        rows = [self._rows.get(request) for request in zip(texts, numbers, strict=True)]
        missing = [place for place, row in enumerate(rows) if row is None]
        images = [Tensor() if row is None else self._dataset.image(row, "baseline") for row in rows]
        if missing:
            made = self._painter().generate([texts[place] for place in missing], [numbers[place] for place in missing])
            for place, image in zip(missing, made, strict=True):
                images[place] = image
        return torch.stack(images)

    def _painter(self) -> Generator:
        if self._generator is None:
            self._generator = self._load()
        return self._generator


def open_baseline_source(folder: Path, baseline: GeneratorSpec) -> PairDataset:
    """The dataset in ``folder``, if its baseline images are those of ``baseline``.

    Raises `DataError` if it holds none, or they were made by other settings, weights, or not from the seed alone.
    """
    dataset = PairDataset.open(folder)
    if dataset.painting.pairing != "same-seed":
        raise DataError(
            f"the baseline of {folder} re-rendered its own distilled images; take baselines from a dataset built with "
            "the pairing same-seed"
        )
    changed = differences({"baseline": dataset.manifest.identity["baseline"]}, {"baseline": spec_identity(baseline)})
    if changed:
        raise DataError(
            f"the baseline images of {folder} are of other settings ({'; '.join(changed[:2])}); leave that dataset "
            "out, or give the pair it was built with"
        )
    return dataset
