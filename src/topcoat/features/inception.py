"""The Inception network of FID, for figures that must be comparable with old papers; needs the extra ``inception``."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from topcoat.errors import ModelError
from topcoat.features.hub import weights_digest
from topcoat.features.net import Features
from topcoat.hub import first_line

_LAYER = "2048"


class InceptionNet:
    """torch-fidelity's port of the original network; call it with images ``(N, 3, H, W)`` in [0, 1] for `Features`.

    It reads 8-bit values and resizes by itself, as FID does. It has no feature maps for a perceptual distance.
    """

    def __init__(self, extractor: Any) -> None:
        self._extractor = extractor.eval().requires_grad_(False)
        self.digest = weights_digest(extractor.state_dict(), f"inception {_LAYER}")

    @classmethod
    def load(cls) -> InceptionNet:
        """Fetch the published weights; raises `ModelError` where the package or the weights cannot be loaded."""
        try:
            module = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
        except ImportError:
            raise ModelError(
                "the feature net inception needs torch-fidelity, which is not installed; run "
                "pip install 'topcoat[inception]' beside a torchvision that fits your torch, or use --features mini"
            ) from None
        try:
            return cls(module.FeatureExtractorInceptionV3("inception-v3-compat", [_LAYER]))
        except (OSError, RuntimeError) as error:
            detail = first_line(error)
            raise ModelError(
                f"the weights of inception cannot be loaded ({detail}); connect to fetch them once"
            ) from error

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        """Features of images ``(N, 3, H, W)`` in [0, 1]."""
        pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8)
        embedding = self._extractor(pixels)[0].float()
        return Features((), embedding, functional.normalize(embedding, dim=1))
