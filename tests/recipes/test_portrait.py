"""The portrait renderer: words and numbers are plausible and reproducible, renders show what the words say."""

from __future__ import annotations

import collections
import dataclasses
import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from recipes.mini import renders
from recipes.mini.portrait.shards import WORDS_SEED, Shard, count_done, load_shard, reopen, shards
from recipes.mini.portrait.subject import part_rng, sample_subject
from recipes.mini.portrait.words import PORTRAIT_VOCABULARY, Words, sample_words
from recipes.mini.portraits import load_portraits, pack_renders
from recipes.mini.recipe import Recipe, WorkFolder
from recipes.mini.renders import RenderFunction, render_shard

WORDS = [sample_words(index) for index in range(600)]


def test_words_depend_on_index_and_seed_alone() -> None:
    assert sample_words(17, 3) == sample_words(17, 3)
    assert sample_words(17, 3) != sample_words(17, 4)
    assert sample_words(17, 3) != sample_words(18, 3)


def test_every_word_of_the_vocabulary_is_used() -> None:
    for name, known in PORTRAIT_VOCABULARY.items():
        assert {getattr(words, name) for words in WORDS} == set(known), name


def test_words_are_balanced_where_nothing_speaks_against_it() -> None:
    for name in ("age", "gender", "ancestry", "face_shape", "light_tone", "background"):
        counts = collections.Counter(getattr(words, name) for words in WORDS)
        assert min(counts.values()) > 0.6 * len(WORDS) / len(counts), name


def test_words_are_plausible() -> None:
    for words in WORDS:
        assert words.facial_hair == "none" or words.gender == "man"
        assert words.hair_style != "bald" or words.gender == "man"
        assert words.age != "young" or words.hair_color not in ("grey", "white")
        assert words.ancestry != "african" or words.skin in ("brown", "dark")
        assert words.eyes != "blue" or words.ancestry in ("european", "latin", "middle eastern")


def test_an_unknown_word_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match="hair_color cannot be 'pink'; it is one of black, brown"):
        dataclasses.replace(WORDS[0], hair_color="pink")


def test_the_sentence_says_every_word_that_is_seen() -> None:
    for words in WORDS[:100]:
        sentence = words.sentence()
        hidden = {"none"} | ({words.hair_texture, words.hair_color} if words.hair_style == "bald" else set())
        hidden |= {words.hair_texture} if words.hair_style == "afro" else set()
        for word in set(dataclasses.astuple(words)) - hidden - {"front"}:
            assert word in sentence


def test_parts_have_generators_of_their_own() -> None:
    assert part_rng(5, "skin").random() == part_rng(5, "skin").random()
    assert part_rng(5, "skin").random() != part_rng(5, "eyes").random()
    assert part_rng(5, "skin").random() != part_rng(6, "skin").random()


def test_changing_one_word_leaves_the_other_parts_alone() -> None:
    words = dataclasses.replace(WORDS[0], eyes="brown", background="grey")
    first = sample_subject(words, 9)
    other = sample_subject(dataclasses.replace(words, background="blue"), 9)
    assert first.backdrop_color != other.backdrop_color
    np.testing.assert_array_equal(first.identity_vector(), other.identity_vector())
    assert first.shape == other.shape
    assert first.yaw == other.yaw


def test_vectors_are_about_unit_sized_and_differ() -> None:
    subjects = [sample_subject(words, index) for index, words in enumerate(WORDS[:200])]
    for vectors in ([s.identity_vector() for s in subjects], [s.scene_vector() for s in subjects]):
        stacked = np.stack(vectors)
        assert stacked.dtype == np.float32
        assert np.abs(stacked).max() < 2.5
        assert (stacked.std(axis=0) > 0).all()


def test_eyes_look_at_the_camera_or_a_little_past_it() -> None:
    for index, words in enumerate(WORDS[:100]):
        subject = sample_subject(words, index)
        assert abs(subject.yaw + subject.gaze_x) < 0.15
        assert abs(subject.yaw) < np.radians(20)


# --- shards, with a stand-in for Blender --------------------------------------------------------------------------


def stand_in(words: Words, seed: int, size_px: int) -> Any:
    """A render without Blender: noise that depends on the seed."""
    image = np.random.default_rng(seed).integers(0, 255, (size_px, size_px, 3), dtype=np.uint8)
    subject = sample_subject(words, seed)
    landmarks = np.full((68, 2), float(size_px) / 2)
    return SimpleNamespace(
        image=image, identity=subject.identity_vector(), scene=subject.scene_vector(), landmarks=landmarks
    )


def test_the_last_shard_may_be_shorter() -> None:
    assert [(s.first, s.count) for s in shards(Path("x"), 600)] == [(0, 250), (250, 250), (500, 100)]
    assert [s.path.name for s in shards(Path("x"), 600, 250)] == ["00001.safetensors", "00002.safetensors"]
    assert Shard(Path("x"), 500, 100).path.name == "00002.safetensors"


def test_a_killed_shard_goes_on_where_it_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renders, "KEPT_EVERY", 4)
    shard, seen = Shard(tmp_path, 0, 12), []

    def killed(words: Words, seed: int, size_px: int) -> Any:
        if seed == 9:
            raise KeyboardInterrupt
        seen.append(seed)
        return stand_in(words, seed, size_px)

    with pytest.raises(KeyboardInterrupt):
        render_shard(shard, killed, 16, budget=99)
    assert count_done([shard]) == 8
    assert not shard.path.exists()

    def going_on(words: Words, seed: int, size_px: int) -> Any:
        seen.append(seed)
        return stand_in(words, seed, size_px)

    assert render_shard(shard, going_on, 16, budget=99) == 4
    assert seen == [*range(9), *range(8, 12)]
    assert [path.name for path in tmp_path.iterdir()] == ["00000.safetensors"]


def test_pieces_make_the_same_shard_as_one_go(tmp_path: Path) -> None:
    whole, pieces = Shard(tmp_path / "a", 250, 10), Shard(tmp_path / "b", 250, 10)
    for shard in (whole, pieces):
        shard.folder.mkdir()
    render_shard(whole, stand_in, 16, budget=99)
    while not pieces.path.exists():
        render_shard(pieces, stand_in, 16, budget=3)
    one, other = load_shard(whole.path), load_shard(pieces.path)
    for name in ("images", "identity", "scene", "landmarks", "index"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.words == other.words


def test_a_short_shard_is_continued_when_more_portraits_are_wanted(tmp_path: Path) -> None:
    render_shard(Shard(tmp_path, 0, 4), stand_in, 16, budget=99)
    longer = Shard(tmp_path, 0, 6)
    reopen(longer)
    assert render_shard(longer, stand_in, 16, budget=99) == 2
    assert load_shard(longer.path).index.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_portrait_that_fails_twice_is_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    attempts = collections.Counter[int]()

    def fragile(words: Words, seed: int, size_px: int) -> Any:
        attempts[seed] += 1
        if seed == 3 or (seed == 5 and attempts[seed] == 1):
            raise RuntimeError("no mesh")
        return stand_in(words, seed, size_px)

    shard = Shard(tmp_path, 0, 8)
    render_shard(shard, fragile, 16, budget=99)
    loaded = load_shard(shard.path)
    assert loaded.index.tolist() == [0, 1, 2, 4, 5, 6, 7]
    assert "portrait 3 is left out: RuntimeError: no mesh" in capsys.readouterr().err


def test_rendering_stops_where_nothing_can_be_rendered(tmp_path: Path) -> None:
    def broken(words: Words, seed: int, size_px: int) -> Any:
        if seed >= 4:
            raise RuntimeError("no room for the picture")
        return stand_in(words, seed, size_px)

    shard = Shard(tmp_path, 0, 60)
    with pytest.raises(SystemExit, match="8 portraits in a row cannot be rendered"):
        render_shard(shard, broken, 16, budget=99)
    assert not shard.path.exists()


def test_a_full_disk_leaves_no_half_written_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        render_shard(Shard(tmp_path, 0, 4), stand_in, 16, budget=99)
    assert list(tmp_path.iterdir()) == []


def test_a_shard_comes_back_with_words_and_smaller_pictures(tmp_path: Path) -> None:
    shard = Shard(tmp_path, 0, 6)
    render_shard(shard, stand_in, 24, budget=99)
    full, small = load_shard(shard.path), load_shard(shard.path, 16)
    assert full.images.shape == (6, 3, 24, 24)
    assert small.images.shape == (6, 3, 16, 16)
    assert full.words[2] == sample_words(2, WORDS_SEED)
    assert full.prompts[2] == full.words[2].sentence()
    np.testing.assert_allclose(small.landmarks, full.landmarks * 2 / 3)
    # the area average keeps the mean
    np.testing.assert_allclose(small.images.mean((2, 3)), full.images.mean((2, 3)), atol=0.5)


def test_packed_portraits_are_the_renders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, recipe = WorkFolder(tmp_path), Recipe(size_px=16, renders=5)
    work.renders.mkdir()
    shard = Shard(work.renders, 0, 6)
    render_shard(shard, stand_in, 24, budget=99)
    with pytest.raises(SystemExit, match=r"no portraits of 16 px in .*; run"):
        load_portraits(recipe, work)
    pack_renders(recipe, work)
    renders, portraits = load_shard(shard.path, 16), load_portraits(recipe, work)
    assert portraits.words == renders.words[:5]
    for name in ("identity", "scene", "landmarks"):
        np.testing.assert_array_equal(getattr(portraits, name), getattr(renders, name)[:5])
    error = portraits.images.numpy().astype(float) - renders.images[:5]
    assert np.square(error).mean() < 6.5  # 40 dB
    # what is packed is not packed again
    monkeypatch.setattr("recipes.mini.portraits.load_shard", lambda *_: pytest.fail("packed twice"))
    pack_renders(recipe, work)


def test_missing_tools_are_said_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"rendering needs bpy and anny and torch and PIL: pip install -r"):
        renders.make_renders(tmp_path, 10, 1)


# --- with Blender and anny ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def render_portrait():
    pytest.importorskip("bpy", reason="Blender's bpy is a tool of the recipe alone")
    pytest.importorskip("anny", reason="anny is a tool of the recipe alone")
    from recipes.mini.portrait.render import render_portrait

    return render_portrait


def test_a_portrait_is_reproducible_and_follows_its_words(render_portrait: RenderFunction) -> None:
    light = dataclasses.replace(WORDS[1], skin="pale", background="white", glasses="none", facial_hair="none")
    dark = dataclasses.replace(light, skin="dark", background="dark")
    first, again, other = (render_portrait(words, 3, 64) for words in (light, light, dark))
    np.testing.assert_array_equal(first.image, again.image)
    assert first.image.shape == (64, 64, 3)
    cheek, corner = (slice(32, 40), slice(26, 38)), (slice(0, 4), slice(0, 4))
    assert first.image[cheek].mean() > other.image[cheek].mean() + 20
    assert first.image[corner].mean() > other.image[corner].mean() + 60


def test_eyes_land_at_one_place(render_portrait: RenderFunction) -> None:
    for index in range(3):
        eyes = render_portrait(WORDS[index], index, 64).landmarks[36:48]
        assert np.abs(eyes.mean(axis=0) - [32, 0.45 * 64]).max() < 2.5
