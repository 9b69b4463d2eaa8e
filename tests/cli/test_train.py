"""`topcoat train`: its options, beside the chain that test_pairs_train_evaluate runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.conftest import words_after
from topcoat.files import FolderLock
from topcoat.heads import Head
from topcoat.images import write_image
from topcoat.pairs.manifest import read_manifest, write_manifest

TINY = ("--set", "head.channels=[4, 8]", "--set", "crop_px=16", "--set", "batch_size=4", "--set", "warmup_images=4")


@pytest.fixture
def pairs(run: Any, pair_file: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "pairs"
    run("pairs", "build", folder, "--pair", pair_file, "--count", 24, "--batch-size", 12)
    return folder


def test_settings_are_changed_and_a_head_is_gone_on_from(
    run_json: Any, pairs: Path, tmp_path: Path, tiny_features: None
) -> None:
    first = run_json("train", "paper-unet", "--data", pairs, "-o", tmp_path / "first", "--images", 8, *TINY)
    assert first["images"] == 8
    flags = ("--precision", "float32", "--accumulate", 2, "--init-from", tmp_path / "first")
    run_json("train", "paper-unet", "--data", pairs, "-o", tmp_path / "second", "--images", 8, *TINY, *flags)
    facts = Head.from_pretrained(tmp_path / "second").facts
    assert facts["init_from"] == Head.from_pretrained(tmp_path / "first").digest
    assert facts["precision"] == "float32" and facts["run"] == "paper-unet"


def test_stages_share_the_images_and_one_can_be_trained_alone(
    run_json: Any, pairs: Path, tmp_path: Path, tiny_features: None
) -> None:
    small = (*TINY, "--set", "objective.discriminator.base_channels=4", "--set", "warmup_images=0")
    record = run_json("train", "unet", "--data", pairs, "-o", tmp_path / "unet", "--images", 44, *small)
    assert record["images"] == 44 and record["last"]["stage"] == "whole"
    assert (tmp_path / "unet" / "stages" / "crops" / "model.safetensors").is_file()
    more = ("--init-from", tmp_path / "unet", "--images", 4)
    run_json("train", "unet/whole", "--data", pairs, "-o", tmp_path / "more", *more, *small)
    facts = Head.from_pretrained(tmp_path / "more").facts
    assert facts["init_from"] == Head.from_pretrained(tmp_path / "unet").digest
    teacher = ("--teacher", tmp_path / "unet", "--images", 4)
    run_json("train", "paper-unet", "--data", pairs, "-o", tmp_path / "taught", *TINY, *teacher)
    assert Head.from_pretrained(tmp_path / "taught").facts["teacher"] == facts["init_from"]


def test_other_processes_say_nothing(
    run: Any, pairs: Path, tmp_path: Path, tiny_features: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    result = run("train", "paper-unet", "--data", pairs, "-o", tmp_path / "run", "--images", 8, *TINY)
    assert result.output == ""


@pytest.mark.parametrize("name", ["paper-cyclegan", "paper-esa", "decoder", "latent-unet", "refiner", "unet"])
def test_every_named_run_can_be_looked_at(run_json: Any, pairs: Path, tmp_path: Path, name: str) -> None:
    record = run_json("train", name, "--data", pairs, "-o", tmp_path / "run", "--dry-run")
    assert record["config"]["name"] == name and record["dry_run"]
    assert not (tmp_path / "run").exists()


def test_a_dry_run_trains_in_no_process(run: Any, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")  # a further process of accelerate launch
    result = run("train", "unet", "--data", pairs, "-o", tmp_path / "run", "--dry-run")
    assert "Nothing was trained" not in result.output
    assert not (tmp_path / "run").exists()


def test_wrong_settings_are_told(run: Any, pairs: Path, tmp_path: Path) -> None:
    for options, words in (
        (("--set", "head.widht=3"), "widht"),
        (("--precision", "float8"), "precision"),
        (("--set", "batch_size=3", "--accumulate", 2), "multiple of gradient_accumulation_steps, which is 2"),
    ):
        result = run("train", "unet", "--data", pairs, "-o", tmp_path / "run", *options, code=2)
        assert words in result.output


def test_what_a_run_says_to_do_next_works(run: Any, pairs: Path, tmp_path: Path, tiny_features: None) -> None:
    command = ("train", "paper-unet", "--data", pairs, "-o", tmp_path / "a run", "--images", 8, *TINY)
    first = run(*command).stdout
    assert f"Head written to {tmp_path / 'a run'}" in first
    run(*words_after("Next: ", first), "--metrics", "paired")
    again = run(*command).stdout
    assert "Nothing to train" in again and words_after("To train on, from this head: ", again)[5].endswith("a run-2")
    longer = run(*command[: -len(TINY) - 1], 12, *TINY, code=1).stderr
    assert "stages.0.images is 8 there and 12 here" in longer and f"--init-from {tmp_path / 'a run'}" in longer
    run(*words_after("To train on, from this head: ", again))
    facts = Head.from_pretrained(tmp_path / "a run-2").facts
    assert facts["init_from"] == Head.from_pretrained(tmp_path / "a run").digest


def test_a_damaged_shard_is_found_before_anything_is_trained(
    run: Any, pairs: Path, tmp_path: Path, tiny_features: None
) -> None:
    shard = pairs / "data" / "train-00000.parquet"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    result = run("train", "paper-unet", "--data", pairs, "-o", tmp_path / "run", "--images", 8, *TINY, code=1)
    assert "train-00000.parquet was changed since it was built" in result.stderr
    assert not (tmp_path / "run").exists()


def test_an_unfinished_build_is_said(run: Any, pairs: Path, tmp_path: Path, tiny_features: None) -> None:
    manifest = read_manifest(pairs)
    assert manifest.planned == 24 and "unfinished" not in run("pairs", "inspect", pairs).stdout
    write_manifest(pairs, manifest.model_copy(update={"planned": 30}))
    says = "The build is unfinished: 24 of 30 pairs; the same build command goes on."
    assert says in run("pairs", "inspect", pairs).stdout
    command = ("train", "paper-unet", "--data", pairs, "-o", tmp_path / "run", "--images", 8, *TINY)
    assert f"warning: {says}" in run(*command, "--dry-run").stderr


def test_a_folder_in_which_another_process_writes_is_refused(
    run: Any, pairs: Path, pair_file: Path, tmp_path: Path, tiny_features: None
) -> None:
    images = tmp_path / "images"
    for side in ("A", "B"):
        (images / side).mkdir(parents=True)
        write_image(images / side / "1.png", torch.rand(3, 32, 32))
    commands = {
        tmp_path / "run": ("train", "paper-unet", "--data", pairs, "-o", tmp_path / "run", "--images", 8, *TINY),
        tmp_path / "new": ("pairs", "build", tmp_path / "new", "--pair", pair_file, "--count", 2),
        pairs: ("pairs", "dedupe", pairs),
        tmp_path / "better": ("enhance", images / "A", "-o", tmp_path / "better"),
        tmp_path / "made": ("generate", "a", "b", "--pair", pair_file, "--head", "none", "-o", tmp_path / "made"),
    }
    for folder, command in commands.items():
        with FolderLock(folder):
            before = sorted(folder.rglob("*"))
            assert f"another topcoat writes into {folder} (host " in run(*command, code=1).stderr
            assert sorted(folder.rglob("*")) == before
        run(*command)
        assert not list(folder.glob(".topcoat.lock"))
    imported = ("pairs", "import", images, "-o", tmp_path / "imported", "--name", "mine")
    with FolderLock(tmp_path / "imported", beside=True):
        assert "another topcoat writes" in run(*imported, code=1).stderr
    run(*imported)
    assert not list(tmp_path.glob(".*"))


def test_two_folders_of_unrelated_pictures_are_enough(
    run: Any, run_json: Any, tmp_path: Path, tiny_features: None
) -> None:
    for folder, first in (("cheap", 0), ("liked", 50)):
        (tmp_path / folder).mkdir()
        for number in range(first, first + 24):
            noise = torch.rand(3, 24, 24, generator=torch.Generator().manual_seed(number))
            write_image(tmp_path / folder / f"{number}.png", noise)
    small = (*TINY, "--set", "objective.discriminator.base_channels=4", "--set", "warmup_images=0", "--images", 44)
    folders = ("--data", tmp_path / "cheap", "--target", tmp_path / "liked")
    command = ("train", "unpaired", *folders, "-o", tmp_path / "run", *small)
    assert run_json(*command, "--dry-run")["pairs"]["pictures"] >= 20
    assert not (tmp_path / "run").exists()
    record = run_json(*command)
    assert record["images"] == 44
    assert Head.from_pretrained(tmp_path / "run").facts["objective"]["kind"] == "unpaired"
    again = run(*command).stdout
    assert words_after("Next: ", again)[:2] == ["enhance", str(tmp_path / "cheap")]
    assert "--target" in words_after("To train on, from this head: ", again)
    refused = run("train", "paper-unet", *folders, "-o", tmp_path / "other", *TINY, code=2)
    assert "paper-unet needs pairs" in refused.stderr
