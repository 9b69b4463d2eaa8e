"""Styles of prompts: which one a model pair understands, and prompts of each."""

from __future__ import annotations

from typing import Literal

from topcoat.prompts.prompt import Prompt, check_count_and_seed
from topcoat.prompts.stratified import StratifiedSampler

Style = Literal["photo", "mini"]
"""``photo``: full sentences with invented names, for real models. ``mini``: the few words that the mini pair knows."""


def sample_prompts(count: int, seed: int = 0) -> list[Prompt]:
    """``count`` balanced prompts of the mini vocabulary; the first ``n`` are the same for every ``count >= n``.

    Raises `UsageError` if ``count`` is below 1 or ``seed`` is negative.
    """
    from topcoat.prompts.mini import mini_words

    check_count_and_seed(count, seed)
    sampler, vocabulary = StratifiedSampler(seed), mini_words()
    prompts = []
    for index in range(count):
        words = vocabulary.sample(sampler, index)
        prompts.append(Prompt(id=f"{seed:04d}-{index:08d}", text=vocabulary.text(words), attributes=words))
    return prompts


def style_of_pair(pair: str) -> Style:
    """The style that the model pair of that name understands: ``mini`` for the mini pair and pairs named after it."""
    return "mini" if pair.split("-")[0] == "mini" else "photo"


def sample_style(style: Style, count: int, seed: int = 0) -> list[Prompt]:
    """``count`` prompts of a style with the packaged vocabulary; raises `UsageError` like `sample_prompts`."""
    if style == "mini":
        return sample_prompts(count, seed)
    from topcoat.prompts.photo import sample_photo_prompts

    return sample_photo_prompts(count, seed)


def held_out_prompts(count: int, seed: int = 0, style: Style = "mini") -> list[Prompt]:
    """The first ``count`` sampled prompts of the ``test`` split, which no head is trained on."""
    wanted = 40 * count  # one prompt in 20 is of that split
    while True:
        prompts = [prompt for prompt in sample_style(style, wanted, seed) if prompt.split == "test"]
        if len(prompts) >= count:
            return prompts[:count]
        wanted *= 2
