"""topcoat's heads in spandrel, and so in programs that load their models with it.

    from spandrel import ModelLoader
    from topcoat.integrations.spandrel import register

    register()
    model = ModelLoader().load_from_file("head.safetensors")  # of topcoat export HEAD -o head.safetensors
    enhanced = model(images)  # (1, 3, H, W) in [0, 1]

The ``model.safetensors`` of a U-Net's folder is loaded too.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import warnings
from typing import Any

import torch

try:
    from spandrel import MAIN_REGISTRY, Architecture, ArchRegistry, ArchSupport, ImageModelDescriptor, ModelTiling
except ModuleNotFoundError as error:
    message = f"{error}; install a torchvision that fits your torch, then: pip install 'topcoat[spandrel]'"
    raise ModuleNotFoundError(message, name=error.name) from error

from topcoat.heads.network import Network, channels_last
from topcoat.heads.single_file import is_head, settings_and_weights

ARCHITECTURE = "topcoat"
"""The id in spandrel's registry."""


class TopcoatArch(Architecture[Network]):
    """A head that takes images, told by the settings in its file, or by the names of a U-Net's weights."""

    def __init__(self) -> None:
        super().__init__(id=ARCHITECTURE, name="topcoat head", detect=is_head)

    def load(self, state_dict: dict[str, Any]) -> ImageModelDescriptor[Network]:
        """The head at full strength, in float32: `topcoat.Head` has strength and 16 bits.

        Any size is padded inside. Raises `DataError` for settings that are damaged or of another version.
        """
        config, complete, weights = settings_and_weights(state_dict)
        if not complete:
            warnings.warn(
                "this file does not say over which window the head's attention pools, and the default is taken; "
                "topcoat export HEAD -o head.safetensors writes a file that says it",
                stacklevel=2,
            )
        network = channels_last(config.build())
        assert isinstance(network, Network)
        return ImageModelDescriptor(
            network,
            weights,
            architecture=self,
            purpose="Restoration",
            tags=[config.name()],
            supports_half=False,
            supports_bfloat16=False,
            scale=1,
            input_channels=3,
            output_channels=3,
            tiling=ModelTiling.SUPPORTED if config.halo_px is not None else ModelTiling.DISCOURAGED,
            call_fn=_enhanced,
        )


def register(registry: ArchRegistry = MAIN_REGISTRY) -> None:
    """Have spandrel's ``ModelLoader`` know topcoat's heads; a second call does nothing."""
    others = tuple(support.architecture.id for support in registry if support.architecture.id != ARCHITECTURE)
    registry.add(ArchSupport.from_architecture(TopcoatArch(), before=others), ignore_duplicates=True)


def _enhanced(network: Network, image: torch.Tensor) -> torch.Tensor:
    return network.enhance(image.contiguous(memory_format=torch.channels_last)).contiguous()
