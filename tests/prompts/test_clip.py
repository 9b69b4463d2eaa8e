"""CLIP's tokens without a model, and a photo style that CLIP reads whole."""

from __future__ import annotations

import gzip
import importlib
from pathlib import Path
from typing import Any

import pytest

import topcoat.prompts.clip as clip
from topcoat.prompts import sample_style
from topcoat.prompts.clip import CLIP_TOKENS, clip_tokens
from topcoat.prompts.names import is_latin
from topcoat.prompts.photo import sample_photo_prompts
from topcoat.prompts.templates import parse_template, read_templates
from topcoat.prompts.vocabulary import read_vocabulary

VOCABULARY = read_vocabulary()
TEMPLATES = read_templates(None, VOCABULARY)


@pytest.fixture(scope="module")
def published() -> Any:
    """The tokenizer of transformers with CLIP's vocabulary: bytes, bytes at the end of a word, the merges."""
    from transformers import CLIPTokenizer

    packed = Path(clip.__file__).with_name("clip-merges.txt.gz").read_bytes()
    lines = [line.split() for line in gzip.decompress(packed).decode().splitlines()]
    merges: Any = [tuple(line) for line in lines if len(line) == 2]  # the others are the licence
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = (chr(256 + number) for number in range(256 - len(printable)))
    letters = [*map(chr, printable), *others]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary: Any = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges)


def test_the_vocabulary_is_openais(published: Any) -> None:
    """The numbers are those of "a photo of a cat" in every CLIP ViT-L/14, and the vocabulary has 49,408 tokens."""
    assert published("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert len(published) == 49408


def test_counts_as_transformers_does(published: Any) -> None:
    texts = ["a photo of a cat", "it's 12 O'Clock!!! - naïve Ŋgũgĩ 漢字  x\ty", "<tag>", "f/2.8, 85mm", " ", "é" * 9]
    texts += [prompt.text for style in ("photo", "mini") for prompt in sample_style(style, 40, 11)]
    assert [clip_tokens(text) for text in texts] == [len(published(text).input_ids) for text in texts]


@pytest.mark.parametrize("seed", range(3))
def test_clip_reads_photo_prompts_whole(seed: int) -> None:
    assert max(clip_tokens(prompt.text) for prompt in sample_photo_prompts(1000, seed)) <= CLIP_TOKENS


@pytest.mark.parametrize("number", range(len(TEMPLATES)))
def test_the_shortest_form_fits_whoever_is_described(number: int) -> None:
    """The longest words and the longest given name of all, in the form that is tried last, are within 77 tokens.

    CLIP never joins two words, so the longest word of each field makes the longest sentence.
    """
    template = TEMPLATES[number]
    left_out = template.optional & {*VOCABULARY.shorten}
    assert left_out == {"lens", "facial_hair"}
    values = {
        name: max((VOCABULARY.phrase(name, word) for word in words), key=clip_tokens)
        for name, words in VOCABULARY.attributes.items()
        if name not in left_out
    }
    for presentation in VOCABULARY.attributes["presentation"]:
        text = template.render(values | {"presentation": presentation, "age": "88", "name": _longest_given_name()})
        assert clip_tokens(text) <= CLIP_TOKENS, (clip_tokens(text), text)


def _longest_given_name() -> str:
    names: set[str] = set()
    for locale in {locale for locales in VOCABULARY.locales.values() for locale in locales}:
        provider = importlib.import_module(f"faker.providers.person.{locale}").Provider
        for kind in ("names", "romanized_names"):
            for gender in ("female", "male"):
                names |= {word.split()[0] for word in getattr(provider, f"first_{kind}_{gender}", ())}
    return max(filter(is_latin, names), key=clip_tokens)


def test_a_long_sentence_is_shortened_by_steps() -> None:
    forms = (
        "Joyce Wangui, 75, androgynous person, 105mm lens at f/2.8",
        "Joyce Wangui, 75, androgynous person, 105mm",
        "Joyce, 75, androgynous person, 105mm",
        "Joyce, 75, androgynous person",
    )
    said = "{{ name }}, {{ age }}, {{ presentation }}{% if lens %}, {{ lens }}{% endif %}"
    for form, shorter in zip(forms, (*forms[1:], forms[-1]), strict=True):
        room = CLIP_TOKENS - clip_tokens(form)
        for words, expected in (("very " * room, form), ("very " * (room + 1), shorter)):
            prompt = sample_photo_prompts(1, 0, templates=(parse_template(words + said, VOCABULARY),))[0]
            assert prompt.text == words + expected
            assert prompt.attributes["name"] == expected.split(",")[0]
            assert ("lens" in prompt.attributes) == ("105mm" in expected)


def test_a_field_outside_a_condition_is_never_left_out() -> None:
    template = parse_template("very " * 100 + "{{ name }}, {{ age }}, {{ presentation }}, {{ lens }}", VOCABULARY)
    assert template.optional == frozenset()
    assert sample_photo_prompts(1, 0, templates=(template,))[0].text.endswith("Joyce, 75, androgynous person, 105mm")
