"""CycleGAN's image pool: earlier outputs that a discriminator sees beside the new ones."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class ImagePool:
    """Keeps up to ``size`` images ``(3, H, W)`` of a generator (arXiv 1612.07828, section 2.3).

    While it fills, an image is kept and given back. Then, with an even chance, it is given back as it is, or takes the
    place of a kept one, which is given back instead. What is drawn depends on the seed, on ``stream`` and on the
    image's number in the run alone, so no generator's state has to be saved.
    """

    def __init__(self, size: int, seed: int, stream: int) -> None:
        self._size = size
        self._seed = seed
        self._stream = stream
        self._kept: list[Tensor] = []

    def exchange(self, images: Tensor, first_image: int) -> Tensor:
        """``(N, 3, H, W)`` to show for ``images``, which are number ``first_image`` and following of the run."""
        if self._size == 0:
            return images
        return torch.stack([self._exchange(image, first_image + index) for index, image in enumerate(images)])

    def _exchange(self, image: Tensor, number: int) -> Tensor:
        if len(self._kept) < self._size:
            self._kept.append(image)
            return image
        random = np.random.default_rng([self._seed, self._stream, number])
        if random.integers(2) == 0:
            return image
        place = int(random.integers(self._size))
        kept, self._kept[place] = self._kept[place], image
        return kept

    @property
    def images(self) -> list[Tensor]:
        """What is kept, oldest place first."""
        return list(self._kept)

    def restore(self, images: list[Tensor]) -> None:
        """Keep ``images`` instead."""
        self._kept = list(images)
