"""ESA-CycleGAN: CycleGAN's generator with an ESA block at the end of every residual branch, before the skip is added.

arXiv 2505.02255 names its third head ESA-CycleGAN, "CycleGAN with Enhanced Spatial Attention", without a reference.
Here that is the block of RFANet (CVPR 2020). A method of 2022 with the same name (edge features and self-attention) is
another one.
"""

from __future__ import annotations

from typing import Literal

from topcoat.heads.cyclegan import ResNetGenerator, ResNetSettings
from topcoat.heads.esa import ESA, SMALLEST_SIDE


class ESACycleGANConfig(ResNetSettings):
    """Shape of an `ESAResNetGenerator`; the default has 13.04 M parameters and 25.6 GFLOP per 128x128 image."""

    kind: Literal["esa-cyclegan"] = "esa-cyclegan"  # pyright: ignore[reportIncompatibleVariableOverride]

    @property
    def smallest_px(self) -> int:
        """The ESA blocks work at a quarter of the size."""
        return 4 * SMALLEST_SIDE


class ESAResNetGenerator(ResNetGenerator):
    """`ResNetGenerator` with `ESA` in its residual branches; H and W are at least 60."""

    def __init__(self, config: ESACycleGANConfig) -> None:
        super().__init__(config, attention=ESA)
