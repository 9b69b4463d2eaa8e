"""The recipe's prompts and tokenizers: unknown words cost one token, unsaid attributes are reported as unsaid."""

from __future__ import annotations

import random

import torch

from recipes.mini.portrait.words import sample_words
from recipes.mini.recipe import Recipe
from recipes.mini.text_encoders import build_text_encoders, loosened

TINY = Recipe(text_width=16, text_layers=1)


def test_every_word_of_the_grammar_is_known_and_a_full_prompt_fits() -> None:
    tokenizer = build_text_encoders(TINY).t5_tokenizer
    for index in range(200):
        ids = tokenizer(sample_words(index, 9).sentence()).input_ids
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
    for index in range(100):
        words = sample_words(index, 10)
        text, said = loosened(words, rng)
        assert {"age", "gender"} <= said
        for name in said:
            assert getattr(words, name) in text
        for name in ("garment", "background", "skin"):
            phrase = {"garment": words.garment, "background": "background", "skin": " skin"}[name]
            assert (name in said) == (phrase in text)
