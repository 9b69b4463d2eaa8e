from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pydantic
import pytest

from topcoat.errors import UsageError
from topcoat.generators.base import Generator, GeneratorSpec, ModelPair, check_request, check_steps
from topcoat.prompts import MAX_WORDS


@pytest.mark.parametrize(
    ("prompts", "seeds", "words"),
    [
        ("a face", [1], "not one text"),
        ([], [], "no prompts"),
        (["a"], [1, 2], "1 prompts came with 2 seeds"),
        (["a", " "], [1, 2], "prompt 1 is empty"),
        (["a"], [-1], "seed -1 is out of range"),
        (["a"], [2**63], "out of range"),
        (["a"], [1.5], "seed 1.5 is not an integer"),
        ([3], [1], "prompt 0 is int"),
        (["a " * (MAX_WORDS + 1)], [1], f"at most {MAX_WORDS}"),
    ],
)
def test_bad_requests(prompts: Any, seeds: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_request(prompts, seeds)


def test_good_requests_become_plain_lists() -> None:
    assert check_request(("a", "a"), range(2)) == (["a", "a"], [0, 1])
    texts, seeds = check_request(["a"], np.array([7]))  # type: ignore[arg-type]
    assert seeds == [7] and type(seeds[0]) is int and texts == ["a"]


def test_steps_default_to_the_spec(fake_pair: ModelPair) -> None:
    assert check_steps(None, fake_pair.baseline) == 8
    assert check_steps(3, fake_pair.baseline) == 3
    with pytest.raises(UsageError, match="0 steps are not possible"):
        check_steps(0, fake_pair.baseline)


def test_a_pair_has_one_size(fake_pair: ModelPair) -> None:
    other = fake_pair.baseline.model_copy(update={"width_px": 64})
    with pytest.raises(pydantic.ValidationError, match="give both the same width_px"):
        ModelPair(name="x", distilled=fake_pair.distilled, baseline=other)


@pytest.mark.parametrize(
    "change", [{"steps": 0}, {"guidance_scale": -1}, {"dtype": "int8"}, {"extra": 1}, {"model": ""}]
)
def test_a_spec_refuses_nonsense(fake_pair: ModelPair, change: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        GeneratorSpec.model_validate(fake_pair.baseline.model_dump() | change)


def test_the_fakes_follow_the_protocol(fake_generators: tuple[Any, Any]) -> None:
    for generator in fake_generators:
        assert isinstance(generator, Generator)
    plastic, good = (generator.generate(["a", "b"], [1, 2]) for generator in fake_generators)
    assert good.shape == plastic.shape == (2, 3, 32, 32)
    roughness = [float((image[..., 1:] - image[..., :-1]).abs().mean()) for image in (plastic, good)]
    assert roughness[0] < 0.6 * roughness[1]
    assert float((plastic - good).abs().mean()) < 0.08
    assert (fake_generators[1].generate(["b"], [2])[0] == good[1]).all()


def test_importing_settings_loads_nothing_heavy() -> None:
    code = (
        "import sys, topcoat.generators, topcoat.generators.presets, topcoat.config, topcoat.prompts, topcoat.files;"
        "sys.exit(bool({'torch', 'diffusers', 'transformers', 'numpy', 'PIL', 'pyarrow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
