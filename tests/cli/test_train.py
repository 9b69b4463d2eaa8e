"""`topcoat train`: its options, beside the chain that test_pairs_train_evaluate runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from topcoat.heads import Head

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
