"""The second edition's `words.toml`: its sentences are those that the networks are trained on, its people plausible."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import recipes.mini.assemble
from recipes.mini.portrait.words import PORTRAIT_VOCABULARY, Words, sample_words
from topcoat.prompts.mini import mini_words
from topcoat.prompts.stratified import StratifiedSampler

VOCABULARY = mini_words(Path(recipes.mini.assemble.__file__).with_name("words.toml"))
TOGETHER = (
    ("ancestry", "skin"),
    ("ancestry", "eyes"),
    ("ancestry", "hair_style"),
    ("ancestry", "hair_texture"),
    ("ancestry", "hair_color"),
    ("age", "hair_color"),
    ("gender", "hair_style"),
    ("gender", "facial_hair"),
    ("hair_style", "hair_texture"),
    ("skin", "freckles"),
)


def test_it_has_every_word_of_the_renderer() -> None:
    assert list(VOCABULARY.attributes) == list(PORTRAIT_VOCABULARY)
    for name, words in PORTRAIT_VOCABULARY.items():
        assert set(VOCABULARY.choices(name)) == set(words)
    assert sorted(name for names in VOCABULARY.groups.values() for name in names) == sorted(PORTRAIT_VOCABULARY)


def test_sampled_people_are_of_the_kind_that_was_rendered_and_said_alike() -> None:
    rendered = [dataclasses.asdict(sample_words(index)) for index in range(6_000)]
    known = {pair: {(words[pair[0]], words[pair[1]]) for words in rendered} for pair in TOGETHER}
    sampler = StratifiedSampler(3)
    for index in range(1_000):
        words = VOCABULARY.sample(sampler, index)
        assert VOCABULARY.text(words) == Words(**words).sentence()
        for (one, other), seen in known.items():
            assert (words[one], words[other]) in seen
