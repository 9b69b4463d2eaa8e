"""What models read of a prompt: counted as their pipelines cut it, without loading a network."""

from __future__ import annotations

from typing import Any

import pytest

from topcoat.generators.base import GeneratorSpec, ModelPair
from topcoat.generators.diffusers import load_generator
from topcoat.generators.presets import model_pair
from topcoat.generators.tokens import read_by
from topcoat.prompts import Prompt
from topcoat.prompts.clip import clip_tokens

pytestmark = pytest.mark.filterwarnings(  # diffusers' Euler schedulers hand a tensor to numpy in an old way
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
WORDS = ["studio", "portrait", "young", "old", "woman", "man", "red", "hair", "brown", "eyes"]


def prompt(words: int) -> Prompt:
    return Prompt(f"words-{words}", " ".join(WORDS[number % len(WORDS)] for number in range(words)))


def pair_of(spec: GeneratorSpec, **baseline: Any) -> ModelPair:
    return ModelPair(name="tiny", distilled=spec, baseline=spec.model_copy(update={"name": "slow", **baseline}))


@pytest.mark.parametrize(
    "family", ["flux2-klein", "flux2", "sdxl", "sd15", "sd3", "qwen-image", "z-image", "sana", "pixart"]
)
def test_counts_what_the_pipeline_gives_its_tokenizers(
    family: str, family_specs: dict[str, GeneratorSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call of a tokenizer while the real pipeline encodes a text, untruncated, has as many tokens as counted."""
    from transformers import PreTrainedTokenizerFast

    spec = family_specs[family].model_copy(update={"max_sequence_length": 8, "negative_prompt": None})
    spec = spec.model_copy(update={"true_cfg_scale": 1.0})
    text = prompt(90)
    reading = read_by(pair_of(spec), [text, prompt(1)])
    counted = {
        cut.tokenizer: (cut.tokens, cut.read) for cut in reading.cut if cut.model == spec.name and cut.id == text.id
    }
    generator = load_generator(spec)
    original = PreTrainedTokenizerFast._encode_plus
    lengths: set[int] = set()

    def recording(self: Any, text: Any, *arguments: Any, **named: Any) -> Any:
        batch = [text] if isinstance(text, str) else text
        lengths.update(len(self._tokenizer.encode(each).ids) for each in batch)
        return original(self, text, *arguments, **named)

    assert counted and reading.uncounted == ()
    for name, (tokens, read) in counted.items():
        assert tokens > read, name
    monkeypatch.setattr(PreTrainedTokenizerFast, "_encode_plus", recording)
    generator.encode_texts([text.text])
    extra = {"qwen-image": 34, "flux2": 2}.get(family, 0)  # dropped after encoding; not added to a chat
    if family != "sana":  # its instruction has room of its own
        assert {tokens + extra for tokens, _ in counted.values()} <= lengths, (counted, lengths)


def test_each_side_reads_its_own_length(flux_pair: ModelPair) -> None:
    spec = flux_pair.distilled
    pair = pair_of(spec.model_copy(update={"max_sequence_length": 16}), max_sequence_length=32)
    reading = read_by(pair, [prompt(10), prompt(14), prompt(15), prompt(20), prompt(31)])
    long = [(cut.id, cut.model, cut.tokens, cut.read) for cut in reading.cut if cut.tokenizer == "tokenizer_2"]
    assert long == [
        ("words-15", spec.name, 17, 16),
        ("words-20", spec.name, 22, 16),
        ("words-31", spec.name, 33, 16),
        ("words-31", "slow", 33, 32),
    ]
    sentence = next(each for each in reading.sentences() if "tokenizer_2: 16 tokens" in each)
    assert sentence == (
        f"3 prompts are longer than what {spec.name} reads (tokenizer_2: 16 tokens), and the rest is cut: "
        "words-15 (17), words-20 (22), words-31 (33)"
    )


def test_prompts_that_differ_after_what_is_read_give_one_image(family_specs: dict[str, GeneratorSpec]) -> None:
    """What the count is for, with a tiny SDXL: and it is said."""
    spec = family_specs["sdxl"]
    start = "studio portrait of a young woman " + "red hair brown eyes " * 22
    one, other = Prompt("one", start + "old man"), Prompt("other", start + "a young woman")
    generator = load_generator(spec)
    first, second = generator.generate([one.text], [1]), generator.generate([other.text], [1])
    assert bool((first == second).all())
    assert {cut.id for cut in read_by(pair_of(spec), [one, other]).cut} == {"one", "other"}


def test_a_preset_that_is_not_here_is_said_and_its_clip_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    text = prompt(100)
    flux = read_by(model_pair("flux1"), [text, prompt(5)])
    assert {(cut.tokenizer, cut.tokens, cut.read) for cut in flux.cut} == {("tokenizer", clip_tokens(text.text), 77)}
    assert len(flux.uncounted) == 2 and all("tokenizer_2 of black-forest-labs/" in each for each in flux.uncounted)
    sdxl = read_by(model_pair("sdxl"), [text])
    assert sdxl.uncounted == () and {cut.tokenizer for cut in sdxl.cut} == {"tokenizer", "tokenizer_2"}
    assert "FLUX.1-schnell and FLUX.1-dev read (tokenizer: 77 tokens)" in flux.sentences()[0]


def test_a_prompt_without_a_known_word_is_named() -> None:
    reading = read_by(
        model_pair("mini"), [Prompt("a", "astronaut riding horses"), Prompt("b", "an astronaut, old man")]
    )
    assert reading.unknown == ("a",)
    assert "1 prompt is without a word that the model knows" in reading.sentences()[0]


def test_no_network_is_loaded(flux_pair: ModelPair, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr(safetensors.torch, "load_file", refuse)
    monkeypatch.setattr("safetensors.safe_open", refuse)
    assert read_by(flux_pair, [prompt(3)]).uncounted == ()
