"""The recipe's prompts and tokenizers: unknown words cost one token, unsaid attributes are reported as unsaid."""

from __future__ import annotations

import random

import torch

from recipes.mini.recipe import Recipe
from recipes.mini.text_encoders import build_text_encoders, loosened
from topcoat.prompts import VOCABULARY, sample_prompts, words_of

TINY = Recipe(text_width=16, text_layers=1)


def test_every_word_of_the_grammar_is_known_and_a_full_prompt_fits() -> None:
    tokenizer = build_text_encoders(TINY).t5_tokenizer
    for prompt in sample_prompts(200, seed=9):
        ids = tokenizer(prompt.text).input_ids
        assert tokenizer.unk_token_id not in ids
        assert len(ids) <= TINY.text_tokens


def test_unknown_words_are_one_token_each_and_break_nothing() -> None:
    encoders = build_text_encoders(TINY).eval()
    ids = encoders.t5_tokenizer("portrait of Zażółć 🦊 gęślą").input_ids
    assert ids.count(encoders.t5_tokenizer.unk_token_id) == 3
    pooled, states = encoders.embed(["", "portrait of Zażółć 🦊 gęślą " * 40], TINY.text_tokens)
    assert states.shape == (2, TINY.text_tokens, 16)
    assert bool(torch.isfinite(pooled).all())


def test_leaving_clip_padding_away_changes_nothing() -> None:
    encoders = build_text_encoders(TINY).eval()
    text = "studio portrait of an old man, beard"
    alone, _ = encoders.embed([text], TINY.text_tokens)
    beside_longer, _ = encoders.embed([text, text + " with glasses and a broad smile"], TINY.text_tokens)
    torch.testing.assert_close(alone[0], beside_longer[0], rtol=1e-5, atol=1e-5)


def test_a_loosened_prompt_says_what_it_claims_to_say() -> None:
    rng = random.Random(4)
    for prompt in sample_prompts(100, seed=10):
        words = words_of(prompt)
        assert words is not None
        text, said = loosened(words, rng)
        for name, is_said in zip(VOCABULARY, said, strict=True):
            value = prompt.attributes[name]
            if is_said and value != "none" and name != "hair_length":
                assert value in text
