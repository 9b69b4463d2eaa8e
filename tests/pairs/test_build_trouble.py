"""What goes wrong while building, and what happens then."""

from __future__ import annotations

import errno
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from tests.card import Card
from tests.pairs import building
from tests.pairs.building import PROMPTS, all_bytes
from topcoat.errors import DataError, ModelError
from topcoat.generators.base import ModelPair
from topcoat.memory import OutOfMemoryError
from topcoat.pairs import PairDataset, PairingConfig, build_pairs
from topcoat.pairs.schema import default_seed
from topcoat.prompts import sample_prompts

SIDES = ("distilled", "baseline")


build = partial(building.build, batch_size=4, shard_size=8)


def test_memory_that_ends_halves_the_batch(tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> None:
    build(tmp_path / "whole", fake_pair, fake_generators)
    fake_generators[1].calls.clear()
    fake_generators[1].fits = 1
    dataset = build(tmp_path / "tight", fake_pair, fake_generators)
    assert fake_generators[1].calls[:4] == [4, 2, 1, 1], "halved until it fits, and then left there"
    assert fake_generators[1].calls[2:] == [1] * 11
    assert dataset.manifest.failures == ()
    assert all_bytes(tmp_path / "whole") == all_bytes(tmp_path / "tight")


def test_memory_that_ends_with_offload_halves_the_batch(
    tmp_path: Path, flux_pair: ModelPair, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card that holds one denoiser and two images: the network that failed must leave before the next attempt."""
    import diffusers

    original, sizes = diffusers.FluxTransformer2DModel.forward, []

    def forward(network: Any, hidden_states: torch.Tensor, **named: Any) -> Any:
        sizes.append(len(hidden_states))
        card.hold(len(hidden_states))
        return original(network, hidden_states, **named)

    monkeypatch.setattr(diffusers.FluxTransformer2DModel, "forward", forward)
    denoiser, room = 10, 12
    card.size = lambda network: denoiser if isinstance(network, diffusers.FluxTransformer2DModel) else 3
    card.room = room
    offloaded = {side: getattr(flux_pair, side).model_copy(update={"offload": "model"}) for side in SIDES}
    dataset = build_pairs(tmp_path, PROMPTS[:6], flux_pair.model_copy(update=offloaded), batch_size=6)
    assert len(dataset) == 6 and dataset.manifest.failures == ()
    assert sizes[:2] == [6, 3] and set(sizes[2:]) <= {1, 2}
    assert card.most["FluxTransformer2DModel"] == 1


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("tried"),
        MemoryError(),
        RuntimeError("CUDA out of memory"),
        OutOfMemoryError("plastic needs more memory at 32x32"),
    ],
)
def test_every_way_to_say_that_memory_ended(
    tmp_path: Path, fake_pair: ModelPair, fake_generators: Any, error: Exception
) -> None:
    original, sizes = fake_generators[0].generate, []

    def generate(prompts: Any, seeds: Any, **_: Any) -> Any:
        sizes.append(len(seeds))
        if len(seeds) > 2:
            raise error
        return original(prompts, seeds)

    fake_generators[0].generate = generate
    assert len(build(tmp_path, fake_pair, fake_generators)) == 11
    assert sizes[:3] == [4, 2, 2]


def test_an_image_too_large_for_the_memory_is_listed(
    tmp_path: Path, fake_pair: ModelPair, fake_generators: Any
) -> None:
    original = fake_generators[0].generate

    def generate(prompts: Any, seeds: Any, **_: Any) -> Any:
        if default_seed(2) in seeds:
            raise MemoryError("out of memory for this one")
        return original(prompts, seeds)

    fake_generators[0].generate = generate
    dataset = build(tmp_path, fake_pair, fake_generators)
    assert [item.seed for item in dataset.manifest.failures] == [default_seed(2)] and len(dataset) == 10


def test_nan_in_one_image_costs_that_image_alone(tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> None:
    fake_generators[1].nan_on = default_seed(6)
    fake_generators[1].calls.clear()
    dataset = build(tmp_path, fake_pair, fake_generators)
    (failure,) = dataset.manifest.failures
    assert failure.seed == default_seed(6) and "NaN or infinite" in failure.error
    assert fake_generators[1].calls == [4, 4, 1, 1, 1, 1, 3], "each of that batch once more, alone"


def test_any_exception_of_a_model_is_a_reason(tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> None:
    original = fake_generators[0].generate

    def generate(prompts: Any, seeds: Any, **_: Any) -> Any:
        if default_seed(10) in seeds:
            raise KeyError("an unknown token")
        return original(prompts, seeds)

    fake_generators[0].generate = generate
    assert "an unknown token" in build(tmp_path, fake_pair, fake_generators).manifest.failures[0].error


def test_failures_keep_the_order_of_the_plan(tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> None:
    original, bad = fake_generators[0].generate, {default_seed(9), default_seed(3)}

    def generate(prompts: Any, seeds: Any, **_: Any) -> Any:
        if bad & set(seeds):
            raise ModelError("no")
        return original(prompts, seeds)

    fake_generators[0].generate = generate
    build(tmp_path, fake_pair, fake_generators)
    bad.add(default_seed(1))
    (tmp_path / "data" / "train-00000.parquet").unlink()
    dataset = build(tmp_path, fake_pair, fake_generators)
    assert [item.seed for item in dataset.manifest.failures] == [default_seed(place) for place in (1, 3, 9)]


@pytest.mark.parametrize("moment", ["group", "rename"])
def test_a_full_disk_is_one_sentence_and_the_build_continues(
    tmp_path: Path, fake_pair: ModelPair, fake_generators: Any, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    build(tmp_path / "whole", fake_pair, fake_generators)
    count = [0]

    def full(*arguments: Any, **named: Any) -> Any:
        count[0] += 1
        if count[0] == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*arguments, **named)

    with monkeypatch.context() as patch:
        if moment == "group":
            original, count[0] = pq.ParquetWriter.write_table, 1
            patch.setattr(pq.ParquetWriter, "write_table", full)
        else:
            original = os.replace
            patch.setattr("topcoat.files.os.replace", full)
        with pytest.raises(DataError, match="the disk is full; free some space and run the same command again"):
            build(tmp_path / "cut", fake_pair, fake_generators)
    assert not list((tmp_path / "cut").rglob("*.tmp"))
    build(tmp_path / "cut", fake_pair, fake_generators)
    assert all_bytes(tmp_path / "cut") == all_bytes(tmp_path / "whole")


def test_a_read_only_folder_is_one_sentence(
    tmp_path: Path, fake_pair: ModelPair, fake_generators: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    build(tmp_path / "done", fake_pair, fake_generators)
    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(DataError, match="the file system is read-only; choose another folder"):
        build(tmp_path / "pairs", fake_pair, fake_generators)
    assert len(build(tmp_path / "done", fake_pair, fake_generators)) == 11, "what is complete needs no writing"


@pytest.mark.parametrize("damage", ["size", "bytes"])
def test_a_changed_shard_is_refused_and_nothing_is_overwritten(
    tmp_path: Path, fake_pair: ModelPair, fake_generators: Any, damage: str
) -> None:
    build(tmp_path, fake_pair, fake_generators)
    shard = tmp_path / "data" / "train-00000.parquet"
    whole, data = all_bytes(tmp_path), bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(bytes(data) + (b"!" if damage == "size" else b""))
    later = (tmp_path / "manifest.json").stat().st_mtime + 10
    os.utime(shard, (later, later))
    before = all_bytes(tmp_path)
    with pytest.raises(DataError, match=r"train-00000\.parquet was changed since it was built; delete it and run"):
        build(tmp_path, fake_pair, fake_generators)
    assert all_bytes(tmp_path) == before
    shard.unlink()
    build(tmp_path, fake_pair, fake_generators)
    assert all_bytes(tmp_path) == whole


def test_damage_is_not_carried_into_a_shard_that_grows(
    tmp_path: Path, fake_pair: ModelPair, fake_generators: Any
) -> None:
    build(tmp_path, fake_pair, fake_generators, prompts=PROMPTS[:5])
    shard = tmp_path / "data" / "train-00000.parquet"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    earlier = (tmp_path / "manifest.json").stat().st_mtime - 10
    os.utime(shard, (earlier, earlier))
    with pytest.raises(DataError, match="was changed since it was built"):
        build(tmp_path, fake_pair, fake_generators)


def test_a_copied_dataset_is_compared_once(
    tmp_path: Path, fake_pair: ModelPair, fake_generators: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from topcoat.pairs import build as module

    build(tmp_path, fake_pair, fake_generators)
    later = (tmp_path / "manifest.json").stat().st_mtime + 1
    for shard in (tmp_path / "data").iterdir():
        os.utime(shard, (later, later))
    read: list[Path] = []
    original = module.sha256_of
    monkeypatch.setattr(module, "sha256_of", lambda path: read.append(path) or original(path))
    build(tmp_path, fake_pair, fake_generators)
    os.utime(tmp_path / "manifest.json", (later + 1, later + 1))  # what the build set is the clock of now
    build(tmp_path, fake_pair, fake_generators)
    assert len(read) == 2


def test_another_batch_size_is_refused(tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> None:
    build(tmp_path, fake_pair, fake_generators, prompts=PROMPTS[:6])
    with pytest.raises(DataError, match="has batch_size 4, not 5; use 4"):
        build(tmp_path, fake_pair, fake_generators, batch_size=5)
    fake_generators[0].calls.clear()
    build(tmp_path, fake_pair, fake_generators, batch_size=None)
    assert max(fake_generators[0].calls) == 4, "without a word it is the folder's own"


def test_a_folder_of_an_earlier_version_is_refused(tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> None:
    build(tmp_path, fake_pair, fake_generators, prompts=PROMPTS[:8])
    path = tmp_path / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({"format": 1} | {key: manifest[key] for key in manifest if key != "format_version"}))
    before = all_bytes(tmp_path)
    with pytest.raises(
        DataError, match="has format version 1, this topcoat reads 2; build the pairs again into another"
    ):
        build(tmp_path, fake_pair, fake_generators)
    assert all_bytes(tmp_path) == before


def test_settings_at_their_defaults_are_not_in_the_manifest(
    tmp_path: Path, fake_pair: ModelPair, fake_generators: Any
) -> None:
    """So a setting that a later version adds changes nothing for the folders of before."""
    build(tmp_path, fake_pair, fake_generators, pairing=PairingConfig(latents=True))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["pairing"] == {"latents": True}
    assert not {"filters", "imported"} & set(manifest)
    assert not {"revision", "quantisation", "device"} & set(manifest["baseline"])


def test_settings_of_a_build_that_made_nothing_can_be_changed(
    tmp_path: Path, fake_pair: ModelPair, fake_generators: Any
) -> None:
    original = fake_generators[0].generate

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("kernel image is invalid")

    fake_generators[0].generate = broken
    with pytest.raises(ModelError, match="none of 8 pairs"):
        build(tmp_path, fake_pair, fake_generators)
    fake_generators[0].generate = original
    assert len(build(tmp_path, fake_pair, fake_generators, shard_size=5, batch_size=2)) == 11


def test_the_commits_of_hub_models_are_recorded_and_a_moved_branch_is_refused(
    tmp_path: Path, fake_pair: ModelPair, fake_generators: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``main`` is a moving name: the manifest has the commit that the cache's snapshot is of."""
    repository = tmp_path / "cache" / "models--me--fast"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))

    def move_to(commit: str) -> None:
        (repository / "snapshots" / commit).mkdir(parents=True, exist_ok=True)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / "main").write_text(commit)

    def load(pair: ModelPair) -> Any:
        return fake_generators

    monkeypatch.setattr("topcoat.generators.callables.open_pair", load)
    pair = fake_pair.model_copy(
        update={
            "distilled": fake_pair.distilled.model_copy(update={"model": "me/fast"}),
            "baseline": fake_pair.baseline.model_copy(update={"model": "me/slow", "revision": "c" * 40}),
        }
    )
    move_to("a" * 40)
    (tmp_path / "cache" / "models--me--slow" / "snapshots" / ("c" * 40)).mkdir(parents=True)
    dataset = build_pairs(tmp_path / "pairs", sample_prompts(2), pair, shard_size=2)
    commits = {"me/fast": "a" * 40, f"me/slow@{'c' * 40}": "c" * 40}
    assert dataset.manifest.commits == commits
    build_pairs(tmp_path / "pairs", sample_prompts(4), pair, shard_size=2)
    move_to("b" * 40)
    before = sorted((tmp_path / "pairs" / "data").iterdir())
    with pytest.raises(DataError, match=rf"me/fast at commit {'a' * 40}, and it is at {'b' * 40} by now; set revision"):
        build_pairs(tmp_path / "pairs", sample_prompts(6), pair, shard_size=2)
    assert len(build_pairs(tmp_path / "pairs", sample_prompts(4), pair, shard_size=2)) == 4  # nothing to make

    def load_and_move(pair: ModelPair) -> Any:
        move_to("b" * 40)
        return fake_generators

    move_to("a" * 40)
    monkeypatch.setattr("topcoat.generators.callables.open_pair", load_and_move)
    with pytest.raises(DataError, match="or build into another folder"):
        build_pairs(tmp_path / "pairs", sample_prompts(6), pair, shard_size=2)
    assert sorted((tmp_path / "pairs" / "data").iterdir()) == before
    assert PairDataset.open(tmp_path / "pairs").manifest.commits == commits
