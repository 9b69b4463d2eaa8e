"""Tiny stand-ins that every test may use: two fake generators, and real diffusers folders with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.tiny_pipelines import family_specs as family_specs  # fixtures for every folder
from tests.tiny_pipelines import flux_folder as flux_folder
from tests.tiny_pipelines import flux_pair as flux_pair
from topcoat.errors import ModelError
from topcoat.generators.base import GeneratorSpec, Licence, ModelPair, check_request, check_steps
from topcoat.heads.head import Head

if TYPE_CHECKING:
    from tests.card import Card

torch.set_num_threads(1)  # tiny tensors: a second thread costs more than it does, above all on a busy machine

SIZE_PX = 32
"""Side of the fakes' images."""


def fake_spec(name: str, steps: int, *, width_px: int = SIZE_PX, height_px: int = SIZE_PX) -> GeneratorSpec:
    """The spec of a fake generator; its model is a hub id that does not exist."""
    return GeneratorSpec(
        name=name,
        model=f"fake/{name}",
        steps=steps,
        guidance_scale=0.0,
        max_sequence_length=32,
        width_px=width_px,
        height_px=height_px,
        dtype="float32",
        device="cpu",
        licence=Licence(name=f"{name} licence", url=f"https://example.org/{name}"),
    )


class FakeGenerator:
    """Paints a soft "face" with fine texture from (prompt, seed) alone; ``plastic`` blurs the texture away.

    A batch size or an order cannot change an image. ``fails_on`` makes every batch with that seed raise, ``nan_on``
    makes it hold NaN, ``fits`` is the largest batch for which there is memory, and ``calls`` holds the number of images
    of each call.
    """

    def __init__(self, spec: GeneratorSpec, *, plastic: bool, fails_on: int | None = None) -> None:
        self.spec = spec
        self.plastic = plastic
        self.fails_on = fails_on
        self.nan_on: int | None = None
        self.fits: int | None = None
        self.calls: list[int] = []

    def generate(self, prompts: Sequence[str], seeds: Sequence[int], *, steps: int | None = None) -> Tensor:
        return self.decode(self.generate_latents(prompts, seeds, steps=steps))

    def generate_latents(self, prompts: Sequence[str], seeds: Sequence[int], *, steps: int | None = None) -> Tensor:
        """``(N, 16, H/8, W/8)``: noise of the seed, moved by the prompt."""
        texts, numbers = check_request(prompts, seeds)
        further = check_steps(steps, self.spec) - self.spec.steps
        self.calls.append(len(texts))
        if self.fits is not None and len(texts) > self.fits:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if self.fails_on in numbers:
            raise ModelError(f"seed {self.fails_on} cannot be painted")
        shape = (16, self.spec.height_px // 8, self.spec.width_px // 8)
        rows = []
        for text, seed in zip(texts, numbers, strict=True):
            noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
            rows.append(noise + 0.3 * (sum(text.encode()) % 7 - 3) + 0.1 * further)
            if seed == self.nan_on:
                rows[-1][0, 0, 0] = float("nan")
        return torch.stack(rows)

    def img2img(
        self,
        images: Tensor,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        strength: float,
        steps: int | None = None,
    ) -> Tensor:
        """``images`` with ``strength`` of its own picture of the prompt in them."""
        return torch.lerp(images, self.generate(prompts, seeds, steps=steps), strength)

    def decode(self, latents: Tensor) -> Tensor:
        """A blob of the latents' colour with texture at full resolution."""
        return torch.cat([self._paint(latent[None]) for latent in latents])

    def _paint(self, latent: Tensor) -> Tensor:
        height, width = self.spec.height_px, self.spec.width_px
        soft = functional.interpolate(latent[:, :3], size=(height, width), mode="bicubic", align_corners=False)
        texture = functional.pixel_shuffle(latent.repeat(1, 12, 1, 1), 8)
        image = torch.sigmoid(soft * 0.6) * 0.7 + 0.15 + 0.08 * texture.tanh()
        if self.plastic:
            image = functional.avg_pool2d(functional.pad(image, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
        return image.clamp(0, 1)


class FakeHead(Head):
    """What callers may ask of a head of images; fakes say what it does with them."""

    def __init__(self) -> None:
        self.input = "image"
        self.has_strength = True
        self.latent_channels = None
        self.network: Any = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self._device = torch.device("cpu")

    @property
    def digest(self) -> str:
        return "fake"

    @property
    def device(self) -> torch.device:
        return self._device

    def to(self, device: str | torch.device | torch.dtype | None = None, dtype: torch.dtype | None = None) -> Head:
        assert isinstance(device, str | torch.device)
        self._device = torch.device(device)
        return self

    def input_shape(self, width_px: int, height_px: int) -> tuple[int, int, int]:
        return 3, -(-height_px // 4) * 4, -(-width_px // 4) * 4


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    """The graphics card that is played in this test."""
    from tests.card import Card  # not above: the crash test loads this file by its path

    return Card(monkeypatch)


@pytest.fixture
def fake_pair() -> ModelPair:
    """The specs of the two fakes."""
    return ModelPair(name="fake", distilled=fake_spec("plastic", 2), baseline=fake_spec("good", 8))


@pytest.fixture
def fake_generators(fake_pair: ModelPair) -> tuple[FakeGenerator, FakeGenerator]:
    """(distilled, baseline): a plastic and a good generator that agree on the subject of a seed."""
    return FakeGenerator(fake_pair.distilled, plastic=True), FakeGenerator(fake_pair.baseline, plastic=False)
