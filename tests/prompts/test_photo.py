"""The photo style: pinned, independent of the count, balanced, independent attributes, plausible people."""

from __future__ import annotations

import functools
from collections import Counter
from itertools import combinations

import pytest

from topcoat.errors import UsageError
from topcoat.prompts import Prompt
from topcoat.prompts.names import is_latin
from topcoat.prompts.photo import sample_photo_prompts
from topcoat.prompts.stratified import StratifiedSampler
from topcoat.prompts.vocabulary import read_vocabulary

VOCABULARY = read_vocabulary()
EVERYBODYS = [name for name in VOCABULARY.attributes if name not in VOCABULARY.only_for]
LINKED = {frozenset(pair) for rule in VOCABULARY.implausible for pair in combinations(rule.when, 2)}
LINKED |= {frozenset(("hair_color", "eyes"))}  # both follow the skin tone


@functools.cache
def sampled(count: int, seed: int) -> list[Prompt]:
    return sample_photo_prompts(count, seed)


GOLDEN_PROMPTS = [
    (
        "photo-0000-00000000-3eb251ea",
        "Photo portrait of Joyce Wangui, a 75-year-old androgynous person from East Africa, deep brown skin, "
        "chin-length wavy grey hair, hazel eyes, a gentle smile, wearing a plain t-shirt, hard midday sun, a "
        "leafy park in the background, 105mm lens at f/2.8",
    ),
    (
        "photo-0000-00000001-e0727a7d",
        "Natural, unretouched photo of Melania Heller, a woman of 65 from Eastern Europe in a floral shirt, a"
        " neutral expression, dark brown eyes, light skin with visible texture, shoulder-length dark brown "
        "hair, curly, studio softbox light, a grey studio backdrop in the distance, 85mm lens at f/1.4",
    ),
    (
        "photo-0000-00000002-d2d9f14c",
        "Chibuzo Ogbuehi, a 39-year-old man from West Africa with golden brown skin, brown eyes and long "
        "coily red hair, a moustache, shows a serious look and wears a black turtleneck; portrait photograph "
        "in warm lamplight, a bright kitchen behind, 35mm lens at f/2",
    ),
]
GOLDEN_NAMES = [
    "Joyce Wangui",
    "Hélène Lambert",
    "Yu-Hsuan Hung",
    "Nicole Desrochers",
    "Omar Moussa",
    "María Mora",
    "Tiziana Trevisan",
    "Katja Mathiesen",
    "Joseph Kiarie",
    "Lamine Noui",
    "Olivia Vega",
    "Óscar Ramírez",
    "Raquel Nunes",
]


def test_the_first_prompts_are_pinned() -> None:
    """A change here means other words, sentences or another Faker: say so in the change log."""
    assert [(prompt.id, prompt.text) for prompt in sample_photo_prompts(3)] == GOLDEN_PROMPTS
    assert [prompt.attributes["name"] for prompt in sampled(200, 0)[::16]] == GOLDEN_NAMES


@pytest.mark.parametrize("seed", [0, 1, 7, 123_456])
def test_prompt_i_is_the_same_however_many_are_asked_for(seed: int) -> None:
    many = sample_photo_prompts(60, seed)
    for count in (1, 13, 37):
        assert sample_photo_prompts(count, seed) == many[:count]
    assert not {prompt.text for prompt in many} & {prompt.text for prompt in sample_photo_prompts(60, seed + 1)}


@pytest.mark.parametrize("seed", range(6))
def test_marginals_are_balanced_within_one_at_any_count(seed: int) -> None:
    prompts = sampled(500, seed)
    for name in EVERYBODYS:
        counts: Counter[str] = Counter(dict.fromkeys(VOCABULARY.attributes[name], 0))
        for number, prompt in enumerate(prompts, start=1):
            counts[prompt.attributes[name]] += 1
            assert max(counts.values()) - min(counts.values()) <= 1, (name, number)


@pytest.mark.parametrize(
    ("inner", "outer"), [("locale", "region"), ("age", "age_band"), ("facial_hair", "presentation")]
)
def test_what_depends_on_an_attribute_is_balanced_within_each_of_its_words(inner: str, outer: str) -> None:
    prompts = [prompt for prompt in sampled(2000, 0) if inner in prompt.attributes]
    for word in {prompt.attributes[outer] for prompt in prompts}:
        counts = Counter(prompt.attributes[inner] for prompt in prompts if prompt.attributes[outer] == word)
        assert max(counts.values()) - min(counts.values()) <= 1
    locales = Counter(prompt.attributes["locale"] for prompt in prompts)
    assert set(locales) <= {locale for names in VOCABULARY.locales.values() for locale in names}


def test_pairs_of_attributes_are_near_independent() -> None:
    """Cramér's V, without its bias, is 0 for independent attributes; a pair of equal attributes would have 1."""
    prompts = sampled(4000, 0)
    for one, other in combinations(EVERYBODYS, 2):
        if frozenset((one, other)) in LINKED:
            continue
        assert _cramers_v(prompts, one, other) < 0.05, (one, other)
    assert _cramers_v(prompts, "skin_tone", "eyes") > 0.2  # the measure sees what a rule does


def _cramers_v(prompts: list[Prompt], one: str, other: str) -> float:
    n = len(prompts)
    joint = Counter((prompt.attributes[one], prompt.attributes[other]) for prompt in prompts)
    first, second = (Counter(prompt.attributes[name] for prompt in prompts) for name in (one, other))
    chi2 = sum(
        (joint[a, b] - first[a] * second[b] / n) ** 2 * n / (first[a] * second[b]) for a in first for b in second
    )
    degrees = (len(first) - 1) * (len(second) - 1)
    return (max(0.0, chi2 - degrees) / n / min(len(first) - 1, len(second) - 1)) ** 0.5


@pytest.mark.parametrize("seed", range(4))
def test_nobody_is_implausible(seed: int) -> None:
    for prompt in sampled(500, seed):
        for rule in VOCABULARY.implausible:
            assert not all(prompt.attributes[name] in words for name, words in rule.when.items()), rule.why
        assert ("facial_hair" in prompt.attributes) == (prompt.attributes["presentation"] == "man")
        low, high = prompt.attributes["age_band"].split("-")
        assert int(low) <= int(prompt.attributes["age"]) <= int(high)
        assert prompt.attributes["locale"] in VOCABULARY.locales[prompt.attributes["region"]]


def test_names_follow_the_presentation_and_are_latin() -> None:
    import importlib

    for prompt in sampled(2000, 0):
        attributes = prompt.attributes
        assert is_latin(attributes["name"])
        assert not any(name.isupper() and len(name) > 3 for name in attributes["name"].split())
        assert not attributes["name"].split()[-1].islower()
        if attributes["locale"] in ("ja_JP", "zh_TW") or attributes["presentation"] not in ("woman", "man"):
            continue
        provider = importlib.import_module(f"faker.providers.person.{attributes['locale']}").Provider
        kind = "female" if attributes["presentation"] == "woman" else "male"
        firsts = set(getattr(provider, f"first_names_{kind}"))
        words = attributes["name"].split()
        assert any(" ".join(words[:length]) in firsts or words[0].title() in firsts for length in (1, 2, 3)), attributes


def test_every_attribute_is_said_and_people_are_diverse() -> None:
    prompts = sampled(2000, 0)
    for prompt in prompts[:300]:
        for name, word in prompt.attributes.items():
            if name not in ("age_band", "locale"):
                said = word if name in VOCABULARY.shorten else VOCABULARY.phrase(name, word)
                assert said in prompt.text
        assert "[" not in prompt.text and "{" not in prompt.text and "  " not in prompt.text
        assert len(prompt.text.split()) < 60
    assert len({prompt.attributes["name"] for prompt in prompts}) > 1900
    assert len({prompt.id for prompt in prompts}) == len({prompt.text for prompt in prompts}) == 2000
    assert {prompt.id.split("-")[0] for prompt in prompts} == {"photo"}


def test_a_round_without_a_possible_order_leaves_out_what_does_not_fit() -> None:
    sampler = StratifiedSampler(0)
    assert {sampler.sample("x", ("a", "b", "c"), index, lambda _, word: word != "a") for index in range(30)} == {
        "b",
        "c",
    }
    with pytest.raises(UsageError, match="prompt 0 of seed 0 has no possible y"):
        StratifiedSampler(0).sample("y", ("a", "b"), 0, lambda _, __: False)
