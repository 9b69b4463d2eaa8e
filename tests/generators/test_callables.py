"""A function of the user's as one side of a pair."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import fake_spec
from topcoat.errors import ModelError, UsageError
from topcoat.generators.base import Generator, GeneratorSpec, LatentGenerator, ModelPair
from topcoat.generators.callables import CallableGenerator, is_callable, open_generator, open_pair
from topcoat.generators.diffusers import DiffusersGenerator
from topcoat.pairs.build import build_pairs
from topcoat.pairs.schema import PairingConfig

CODE = """
import numpy as np

def noise(prompt, seed):
    return np.random.default_rng([seed, len(prompt)]).integers(0, 256, (32, 48, 3), dtype=np.uint8)

def stepped(prompt, seed, steps):
    return np.full((32, 48, 3), 10 * steps, dtype=np.uint8)
"""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GeneratorSpec:
    (tmp_path / "my_model.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_model", raising=False)
    return fake_spec("own", 2, width_px=48, height_px=32).model_copy(update={"model": "my_model:noise"})


def test_it_is_told_from_folders_and_hub_ids(spec: GeneratorSpec) -> None:
    assert is_callable(spec)
    for model in ("owner/name", "/a/folder", "C:\\models", "c:/models", "./here", "name"):
        assert not is_callable(spec.model_copy(update={"model": model})), model


def test_images_are_what_the_function_makes(spec: GeneratorSpec) -> None:
    generator = open_generator(spec)
    assert isinstance(generator, Generator) and not isinstance(generator, LatentGenerator)
    images = generator.generate(["old man", "red hair"], [1, 2])
    pixels = np.random.default_rng([2, 8]).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    assert torch.equal(images[1], torch.from_numpy(pixels).permute(2, 0, 1).float() / 255)
    assert torch.equal(generator.generate(["red hair"], [2])[0], images[1])


@pytest.mark.parametrize("kind", ["pillow", "array", "tensor"])
def test_every_kind_of_image(spec: GeneratorSpec, kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    made: Any = {"pillow": Image.fromarray(pixels), "array": pixels, "tensor": tensor}[kind]
    assert torch.equal(CallableGenerator(spec, lambda prompt, seed: made).generate(["a"], [0])[0], tensor)


def test_steps_are_given_to_a_function_that_takes_them(spec: GeneratorSpec) -> None:
    stepped = open_generator(spec.model_copy(update={"model": "my_model:stepped"}))
    assert float(stepped.generate(["a"], [0], steps=5)[0, 0, 0, 0]) == pytest.approx(50 / 255)
    with pytest.raises(UsageError, match="own has 2 steps alone: its function takes no steps"):
        open_generator(spec).generate(["a"], [0], steps=5)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (np.zeros((32, 32, 3), dtype=np.uint8), r"returned \(3, 32, 32\); return a picture of 48x32"),
        (np.zeros((32, 48, 3)), r"returned \(32, 48, 3\); return a picture"),
        ("a.png", "returned str; return a picture"),
    ],
)
def test_anything_else_is_refused(spec: GeneratorSpec, made: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        CallableGenerator(spec, lambda prompt, seed: made).generate(["a"], [0])


def test_errors_are_one_sentence(spec: GeneratorSpec) -> None:
    with pytest.raises(ModelError, match="my_model:noise raised ZeroDivisionError: division by zero; correct it"):
        CallableGenerator(spec, lambda prompt, seed: 1 / 0).generate(["a"], [0])
    with pytest.raises(UsageError, match="names no function: my_model has no callable nothing"):
        open_generator(spec.model_copy(update={"model": "my_model:nothing"}))
    with pytest.raises(UsageError, match="the model no_such_module:make cannot be imported"):
        open_generator(spec.model_copy(update={"model": "no_such_module:make"}))


def test_it_is_one_side_of_a_pair(spec: GeneratorSpec, flux_pair: ModelPair, tmp_path: Path) -> None:
    pair = ModelPair(name="mixed", distilled=spec, baseline=flux_pair.baseline)
    own, baseline = open_pair(pair)
    assert isinstance(own, CallableGenerator) and isinstance(baseline, DiffusersGenerator)
    pairs = build_pairs(tmp_path / "pairs", ["old man", "red hair"], pair)
    expected = own.generate([pairs[0].record.prompt], [pairs[0].record.seed])[0]
    torch.testing.assert_close(pairs[0].distilled, expected, atol=1e-6, rtol=0)
    with pytest.raises(UsageError, match="own gives no latents; build without keeping its latents"):
        build_pairs(tmp_path / "other", ["old man"], pair, pairing=PairingConfig(latents=True))


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
def test_pairs_of_two_vaes_are_for_heads_of_images(family_specs: dict[str, GeneratorSpec], tmp_path: Path) -> None:
    pair = ModelPair(name="two", distilled=family_specs["sdxl"], baseline=family_specs["z-image"])
    assert len(build_pairs(tmp_path / "pairs", ["old man"], pair, pairing=PairingConfig(latents=True))) == 1
    both = PairingConfig(latents=True, baseline_latents=True)
    with pytest.raises(UsageError, match=r"have two VAEs \(4 and 16 channels\), whose latents cannot be compared"):
        build_pairs(tmp_path / "other", ["old man"], pair, pairing=both)
    same_channels = pair.model_copy(update={"baseline": family_specs["sd15"]})
    with pytest.raises(UsageError, match="whose latents cannot be compared; build without --baseline-latents"):
        build_pairs(tmp_path / "third", ["old man"], same_channels, pairing=both)
    one = pair.model_copy(update={"baseline": family_specs["sdxl"].model_copy(update={"name": "slow", "steps": 4})})
    assert len(build_pairs(tmp_path / "fourth", ["old man"], one, pairing=both)) == 1
