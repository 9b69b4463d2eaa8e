"""The portrait renderer: reproducible, in range, and showing what the words say."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from recipes.mini.portrait import scene
from recipes.mini.portrait.render import render_portrait
from recipes.mini.portrait.subject import IDENTITY_FIELDS, SCENE_FIELDS, Subject, sample_subject
from topcoat.prompts import PortraitWords, sample_prompts, words_of


@pytest.fixture(autouse=True)
def _without_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling the distance functions takes longer than the few small renders of these tests."""
    monkeypatch.setattr(scene, "_compiled", lambda function: function)


def words_at(index: int) -> PortraitWords:
    words = words_of(sample_prompts(index + 1, seed=5)[index])
    assert words is not None
    return words


def rendered(words: PortraitWords, seed: int = 1) -> torch.Tensor:
    return render_portrait(sample_subject(words, seed), seed, size_px=64, supersampling=1)


def test_a_portrait_is_reproducible_and_in_range() -> None:
    first, second = rendered(words_at(0)), rendered(words_at(0))
    assert first.shape == (3, 64, 64)
    assert first.dtype == torch.float32
    assert float(first.min()) >= 0 and float(first.max()) <= 1
    assert float(first.std()) > 0.05
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_another_seed_is_another_portrait_of_the_same_words() -> None:
    assert float((rendered(words_at(0), 1) - rendered(words_at(0), 2)).abs().mean()) > 0.01


def test_skin_and_background_follow_the_words() -> None:
    light = dataclasses.replace(words_at(0), skin="pale", background="white", glasses="none")
    dark = dataclasses.replace(light, skin="dark", background="dark")
    pale, deep = rendered(light), rendered(dark)
    cheek, corner = (slice(None), slice(34, 42), slice(24, 40)), (slice(None), slice(0, 4), slice(0, 4))
    assert float(pale[cheek].mean()) > float(deep[cheek].mean()) + 0.1
    assert float(pale[corner].mean()) > float(deep[corner].mean()) + 0.3


def test_one_person_in_two_scenes_keeps_the_identity() -> None:
    words = words_at(3)
    one, other = (sample_subject(words, 7, scene_seed=scene) for scene in (1, 2))
    np.testing.assert_array_equal(one.vector(IDENTITY_FIELDS), other.vector(IDENTITY_FIELDS))
    assert np.abs(one.vector(SCENE_FIELDS) - other.vector(SCENE_FIELDS)).max() > 0.05


def test_every_field_is_identity_or_scene_and_vectors_are_about_unit_sized() -> None:
    assert {*IDENTITY_FIELDS, *SCENE_FIELDS} == {field.name for field in dataclasses.fields(Subject)}
    vectors = np.stack([sample_subject(words_at(i), i).vector((*IDENTITY_FIELDS, *SCENE_FIELDS)) for i in range(200)])
    assert vectors.dtype == np.float32
    assert np.abs(vectors).max() < 1.6
