"""The mini style: what the embedded pair was taught must never change."""

from __future__ import annotations

import hashlib
import json

import pytest

from topcoat.errors import UsageError
from topcoat.prompts import Prompt, held_out_prompts, sample_prompts, sample_style, style_of_pair
from topcoat.prompts.mini import mini_words

GOLDEN_FIRST = (
    "studio portrait of a young man, olive skin, short wavy brown hair, "
    "grey eyes, stubble, glasses, neutral expression, black sweater, cool light from the right, dark background"
)
GOLDEN_DIGEST = "5f32ee7bcee3b8671b2e98811d05abded003ff0bee4faaa5090c280a37d14dcb"
"""Of the first 500 prompts of the seeds 0 and 5, as the embedded weights know them."""


def test_the_mini_prompts_are_those_that_the_embedded_pair_was_made_with() -> None:
    first = sample_prompts(1)[0]
    assert first.id == "0000-00000000"
    assert first.text == GOLDEN_FIRST
    rows = [[prompt.id, prompt.text, prompt.attributes] for seed in (0, 5) for prompt in sample_prompts(500, seed)]
    assert hashlib.sha256(json.dumps(rows).encode()).hexdigest() == GOLDEN_DIGEST


@pytest.mark.parametrize("seed", [0, 1, 12])
def test_mini_prompts_start_alike_at_any_count(seed: int) -> None:
    assert sample_prompts(70, seed)[:7] == sample_prompts(7, seed)
    assert sample_prompts(7, seed) != sample_prompts(7, seed + 1)


@pytest.mark.parametrize("name", ["gender", "skin", "eyes", "glasses", "background", "light_tone"])
def test_words_that_nothing_rules_out_are_balanced_within_one(name: str) -> None:
    for count in (50, 121, 400):
        words = [prompt.attributes[name] for prompt in sample_prompts(count, 3)]
        counts = [words.count(word) for word in mini_words().choices(name)]
        assert max(counts) - min(counts) <= 1


def test_the_attributes_of_a_mini_prompt_are_its_words() -> None:
    prompt = sample_prompts(1, 2)[0]
    assert list(prompt.attributes) == list(mini_words().attributes)
    mini_words().check(prompt.attributes)
    assert len({prompt, sample_prompts(1, 2)[0]}) == 1


def test_a_word_outside_the_vocabulary_is_refused() -> None:
    words = dict(sample_prompts(1)[0].attributes)
    with pytest.raises(UsageError, match="eyes='pink' is unknown; use one of: brown, green"):
        mini_words().check({**words, "eyes": "pink"})
    mini_words().check({"eyes": "pink"})  # of another style


@pytest.mark.parametrize("style", ["mini", "photo"])
def test_held_out_prompts_are_of_the_test_split_and_start_alike(style: str) -> None:
    chosen = "photo" if style == "photo" else "mini"
    few, many = held_out_prompts(3, 1, chosen), held_out_prompts(10, 1, chosen)
    assert many[:3] == few
    assert {prompt.split for prompt in many} == {"test"}


def test_every_pair_gets_prompts_that_it_understands() -> None:
    assert style_of_pair("mini") == style_of_pair("mini-two-steps") == "mini"
    assert style_of_pair("flux1") == style_of_pair("minister") == "photo"
    assert sample_style("mini", 3, 4) == sample_prompts(3, 4)
    assert sample_style("photo", 1)[0].attributes.keys() != mini_words().attributes.keys()


def test_the_split_follows_from_the_id_alone() -> None:
    ids = [f"{seed}-{index}" for seed in range(20) for index in range(500)]
    splits = [Prompt(id=name, text=f"text {position}").split for position, name in enumerate(ids)]
    assert splits == [Prompt(id=name, text="another", attributes={"age": "old"}).split for name in ids]
    for split, share in (("train", 0.90), ("val", 0.05), ("test", 0.05)):
        assert splits.count(split) / len(splits) == pytest.approx(share, abs=0.01)
    assert Prompt(id="0000-00000000", text="").split == "train"


@pytest.mark.parametrize(("count", "seed", "says"), [(0, 0, "0 prompts"), (3, -1, "seed -1 is negative")])
@pytest.mark.parametrize("style", ["mini", "photo"])
def test_a_bad_count_or_seed_is_one_sentence(count: int, seed: int, says: str, style: str) -> None:
    with pytest.raises(UsageError, match=says):
        sample_style("photo" if style == "photo" else "mini", count, seed)
