"""The baseline images of another dataset, used again: they are most of the cost of a pair.

Another distilled model, a LoRA or another step count against the same baseline needs only new distilled images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from topcoat.errors import DataError, UsageError, first_few
from topcoat.generators.base import Generator, GeneratorSpec, check_request
from topcoat.pairs.dataset import PairDataset
from topcoat.pairs.manifest import setting_differences, spec_identity
from topcoat.pairs.schema import PairingConfig


class ReusedBaseline:
    """A `Generator` that gives the baseline images which a dataset holds, and generates the others.

    An image is known by its prompt and seed. It is the 8-bit image of the dataset's file; generated in a batch of
    another shape it may differ from that by a rounding.
    """

    def __init__(self, dataset: PairDataset, spec: GeneratorSpec, load: Callable[[], Generator]) -> None:
        """``load`` makes the real generator of ``spec``; it is called when the first image is missing, if ever."""
        self.spec = spec
        self._dataset, self._load = dataset, load
        self._rows = {(record.prompt, record.seed): row for row, record in enumerate(dataset.records)}

    def generate(self, prompts: Sequence[str], seeds: Sequence[int], *, steps: int | None = None) -> Tensor:
        """``(N, 3, H, W)`` float32 in [0, 1]; with other ``steps`` than the spec's all are generated."""
        texts, numbers = check_request(prompts, seeds)
        if steps not in (None, self.spec.steps):
            return self._generator.generate(texts, numbers, steps=steps)
        rows = [self._rows.get(request) for request in zip(texts, numbers, strict=True)]
        missing = [position for position, row in enumerate(rows) if row is None]
        images = [Tensor() if row is None else self._dataset.image(row, "baseline") for row in rows]
        if missing:
            made = self._generator.generate([texts[i] for i in missing], [numbers[i] for i in missing])
            for position, image in zip(missing, made, strict=True):
                images[position] = image
        return torch.stack(images)

    @cached_property
    def _generator(self) -> Generator:
        return self._load()


def check_baseline_source(folder: Path, baseline: GeneratorSpec, pairing: PairingConfig) -> None:
    """Check that the dataset in ``folder`` has baseline images that a build with ``pairing`` can use again.

    Raises `UsageError` if ``pairing`` needs more than they are, and `DataError` if there are none, or they were made by
    other settings than ``baseline``, other weights, or not from the seed alone.
    """
    if pairing.method != "same-seed":
        raise UsageError("a baseline from image-to-image needs its own distilled images; leave baseline_from out")
    if pairing.baseline_latents:
        raise UsageError("baseline images of another dataset come without latents; leave out one of the two")
    dataset = PairDataset.open(folder)
    if dataset.pairing.method != "same-seed":
        raise DataError(
            f"the baseline of {folder} started from its own distilled images; take baselines from a dataset built with "
            "the pairing same-seed"
        )
    changed = setting_differences("baseline.", dataset.manifest.baseline, spec_identity(baseline))
    if changed:
        raise DataError(
            f"the baseline images of {folder} are of other settings ({first_few(changed, 2, '; ')}); leave that "
            "dataset out, or give the pair it was built with"
        )
