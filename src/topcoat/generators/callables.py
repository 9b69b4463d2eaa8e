"""A generator of your own: any callable that makes an image of a prompt and a seed can be one side of a pair."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from topcoat.config import import_named
from topcoat.errors import ModelError, UsageError
from topcoat.generators.base import Generator, GeneratorSpec, ModelPair, check_request, check_steps
from topcoat.images import check_images, from_pil

_NAME = re.compile(r"[A-Za-z_][\w.]+:[A-Za-z_][\w.]*")


def is_callable(spec: GeneratorSpec) -> bool:
    """Whether the `model` of ``spec`` is ``module:function`` instead of a folder or a hub id."""
    return _NAME.fullmatch(spec.model) is not None


class CallableGenerator:
    """A `Generator` around ``(prompt, seed) -> image``.

    The image is a Pillow picture, a uint8 array ``(H, W, 3)``, or a tensor ``(3, H, W)`` in [0, 1], RGB, of the spec's
    size. It must depend on prompt and seed alone. A function that also takes ``steps`` is given them; one that does not
    always makes the spec's.
    """

    def __init__(self, spec: GeneratorSpec, function: Callable[..., Any]) -> None:
        self.spec = spec
        self._function = function
        self._takes_steps = "steps" in inspect.signature(function).parameters

    def generate(self, prompts: Sequence[str], seeds: Sequence[int], *, steps: int | None = None) -> Tensor:
        """``(N, 3, H, W)`` float32 in [0, 1] on the CPU.

        Raises `UsageError` for an invalid request, `ModelError` if the function raises or returns anything else.
        """
        texts, numbers = check_request(prompts, seeds)
        count = check_steps(steps, self.spec)
        if count != self.spec.steps and not self._takes_steps:
            raise UsageError(f"{self.spec.name} has {self.spec.steps} steps alone: its function takes no steps")
        given = {"steps": count} if self._takes_steps else {}
        images = [self._image(text, seed, given) for text, seed in zip(texts, numbers, strict=True)]
        return torch.stack(images)

    def _image(self, prompt: str, seed: int, given: dict[str, int]) -> Tensor:
        try:
            made = self._function(prompt, seed, **given)
        except Exception as error:  # a user's code may raise anything; it must not look like a defect of topcoat
            reason = textwrap.shorten(str(error), 200, placeholder="...")
            raise ModelError(f"{self.spec.model} raised {type(error).__name__}: {reason}; correct it") from error
        if isinstance(made, np.ndarray) and made.dtype == np.uint8 and made.ndim == 3 and made.shape[2] == 3:
            made = Image.fromarray(made)
        image = from_pil(made) if isinstance(made, Image.Image) else made
        wanted = (3, self.spec.height_px, self.spec.width_px)
        if not isinstance(image, Tensor) or image.shape != wanted:
            shown = tuple(image.shape) if isinstance(image, Tensor | np.ndarray) else type(image).__name__
            raise ModelError(
                f"{self.spec.model} returned {shown}; return a picture of {wanted[2]}x{wanted[1]}, a uint8 array "
                f"(H, W, 3), or a tensor {wanted} in [0, 1]"
            )
        return check_images(image[None].detach().float().cpu(), f"the image of {self.spec.model}")[0]


def open_generator(spec: GeneratorSpec) -> Generator:
    """The generator that ``spec`` names: your function, or a pipeline of diffusers; raises as `load_generator`."""
    from topcoat.generators.diffusers import load_generator

    if is_callable(spec):
        return CallableGenerator(spec, import_named(spec.model, "model", "my_model:generate"))
    return load_generator(spec)


def open_pair(pair: ModelPair) -> tuple[Generator, Generator]:
    """The distilled model and the baseline; two pipelines of diffusers share what both have (`load_pair`)."""
    from topcoat.generators.diffusers import load_pair

    if is_callable(pair.distilled) or is_callable(pair.baseline):
        return open_generator(pair.distilled), open_generator(pair.baseline)
    return load_pair(pair)
