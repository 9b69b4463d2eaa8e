"""The first prompts of each style and seed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.oracles.golden import Golden
from topcoat.prompts import Prompt, held_out_prompts, sample_style

# Adapters: change these with the library, never the golden values.


def sampled(style: Any, count: int, seed: int) -> list[dict[str, Any]]:
    return [_plain(prompt) for prompt in sample_style(style, count, seed)]


def held_out(style: Any, count: int, seed: int) -> list[dict[str, Any]]:
    return [_plain(prompt) for prompt in held_out_prompts(count, seed, style)]


def _plain(prompt: Prompt) -> dict[str, Any]:
    return {"text": prompt.text, "id": prompt.id, "split": prompt.split, "attributes": dict(prompt.attributes)}


# Oracles


@pytest.mark.parametrize("style", ["mini", "photo"])
@pytest.mark.parametrize("seed", [0, 1, 7])
def test_the_first_prompts(golden: Golden, style: str, seed: int) -> None:
    golden.exact(f"{style} {seed}", sampled(style, 20, seed))


@pytest.mark.parametrize("style", ["mini", "photo"])
def test_held_out_prompts(golden: Golden, style: str) -> None:
    golden.exact(f"{style} held out", [prompt["text"] for prompt in held_out(style, 5, 1)])
