"""A head as one safetensors file, for programs that load models from weights alone: a tensor holds its settings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from topcoat.errors import DataError, UsageError
from topcoat.files import atomic_path
from topcoat.heads.head import Head
from topcoat.heads.kinds import parse_head_config
from topcoat.heads.network import HeadConfig
from topcoat.heads.unet import UNetConfig

SETTINGS_KEY = "topcoat_settings"
"""The tensor (uint8) that holds the head's settings as JSON."""
_UNET_KEYS = ("stem.weight", "middle.0.first.weight", "middle.0.second.weight", "out.weight")


def write_single_file(head: Head, path: str | Path) -> None:
    """Write weights and settings of ``head`` into one file; raises `UsageError` for a head that decodes latents."""
    if head.input != "image":
        raise UsageError(
            "programs that load single files give a head images, and this one decodes latents; use another"
        )
    settings = json.dumps(head.config.model_dump(mode="json"), sort_keys=True).encode()
    weights = {name: value.detach().cpu().contiguous() for name, value in head.network.state_dict().items()}
    tensor = torch.frombuffer(bytearray(settings), dtype=torch.uint8)
    with atomic_path(Path(path)) as temporary:
        save_file(weights | {SETTINGS_KEY: tensor}, temporary, metadata={"format": "pt"})


def is_head(weights: Mapping[str, Tensor]) -> bool:
    """Whether these are a head's: of `write_single_file`, or the ``model.safetensors`` of a U-Net."""
    if SETTINGS_KEY in weights:
        return True
    if not all(name in weights for name in _UNET_KEYS):
        return False
    stem, out = weights["stem.weight"], weights["out.weight"]
    return stem.shape[:2] == out.shape[:2][::-1] and stem.shape[1] in (3, 12, 48)


def settings_and_weights(weights: Mapping[str, Tensor]) -> tuple[HeadConfig, bool, dict[str, Tensor]]:
    """The settings of a file's head, whether the file says all of them, and its weights.

    ``model.safetensors`` of a U-Net says all but the attention's window, which is then taken for the default. Raises
    `DataError` for settings that are damaged, or of another version.
    """
    own = {name: value for name, value in weights.items() if name != SETTINGS_KEY}
    if SETTINGS_KEY not in weights:
        config = _unet_of(own)
        return config, not config.cbam, own
    try:
        settings = json.loads(bytes(weights[SETTINGS_KEY].cpu().tolist()))
        return parse_head_config(settings, source=SETTINGS_KEY), True, own
    except (ValueError, AttributeError) as error:  # a UsageError is a ValueError
        raise DataError(f"the head's settings cannot be read ({error}); export it again with this topcoat") from error


def _unet_of(weights: Mapping[str, Tensor]) -> UNetConfig:
    stem = weights["stem.weight"]
    blocks = sum(name.startswith("middle.") and name.endswith(".first.weight") for name in weights)
    depth = sum(name.startswith("down.") and name.endswith(".weight") for name in weights)
    shuffled = depth == 0 or weights["up.0.weight"].shape[0] == 4 * stem.shape[0]
    return UNetConfig.model_validate(
        {
            "channels": [stem.shape[0], *(weights[f"down.{scale}.weight"].shape[0] for scale in range(depth))],
            "blocks_per_stage": blocks,
            "unshuffle": math.isqrt(stem.shape[1] // 3),
            "cbam": any(".attention.channel." in name for name in weights),
            "upsampling": "pixel-shuffle" if shuffled else "resize",
        }
    )
