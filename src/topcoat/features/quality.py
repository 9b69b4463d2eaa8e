"""Quality without a reference: CLIP-IQA (Wang, Chan and Loy 2023, arXiv 2207.12396), by CLIP.

CLIP is asked whether an image is nearer to "Good photo." than to "Bad photo."; the softmax of the two is the quality.
Unlike the paper, images are resized to the net's square and its positional embedding stays.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from topcoat.features.hub import PREPROCESSING, load_model, loading, prepared, side_of, weights_digest

DEFAULT_MODEL = "openai/clip-vit-base-patch16"
PROMPTS = ("Good photo.", "Bad photo.")
"""The paper's pair, section 3.1."""


class ClipQuality:
    """CLIP as a quality net; ``texts`` are the token ids ``(2, L)`` of the good and the bad prompt."""

    def __init__(self, model: nn.Module, texts: Tensor, side_px: int) -> None:
        self.side_px = side_px
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = model.eval().requires_grad_(False).to(self.device)
        self._texts = texts.to(self.device)
        self.digest = weights_digest(model.state_dict(), f"{PREPROCESSING}, {PROMPTS}, {side_px} px")

    @classmethod
    def load(cls, source: str | None = None) -> ClipQuality:
        """CLIP from a local folder or hub repository ``source``; raises `ModelError` where it cannot be loaded."""
        source = source or DEFAULT_MODEL
        with loading("clip", source, "leave --quality out"):
            from transformers import AutoTokenizer

            model = load_model("clip", "CLIPModel", source)
            texts = AutoTokenizer.from_pretrained(source)(list(PROMPTS), padding=True, return_tensors="pt")["input_ids"]
            side_px = side_of(model.config.vision_config.image_size)
        return cls(model, texts, side_px)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Qualities ``(N,)`` in [0, 1] of images ``(N, 3, H, W)`` in [0, 1], on the CPU."""
        pixels = prepared(images.to(self.device, torch.float32), "clip", self.side_px)
        output: Any = self._model(input_ids=self._texts, pixel_values=pixels)
        return output.logits_per_image.softmax(dim=1)[:, 0].cpu()
