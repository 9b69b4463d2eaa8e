"""`topcoat reproduce` on the tiny Flux folder."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from topcoat.features import FeatureNet
from topcoat.files import FolderLock

COMMON = '"images": 8, "batch_size": 4, "crop_px": 16, "warmup_images": 4, "validation_images": 2, "wandb": "off"'


@pytest.fixture
def runs(tmp_path: Path) -> str:
    """Two settings files: a U-Net and a decoder of latents."""
    for name, more in (
        ("small", '"head": {"kind": "unet", "channels": [4, 8]}'),
        ("latent", '"head": {"kind": "decoder", "channels": [8, 6, 4], "blocks": [1, 0, 0]}, "flip": false'),
    ):
        (tmp_path / f"{name}.json").write_text(
            f'{{"name": "{name}", "objective": {{"kind": "paired", "charbonnier": 1}}, {COMMON}, {more}}}'
        )
    return f"{tmp_path / 'small.json'},{tmp_path / 'latent.json'}"


@pytest.fixture(autouse=True)
def tiny_nets(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("topcoat.features", "topcoat.features.pretrained"):
        monkeypatch.setattr(importlib.import_module(module), "load_feature_net", lambda name: FeatureNet.tiny(0))


def test_the_whole_study(run: Any, run_json: Any, pair_file: Path, runs: str, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    options = ("reproduce", "--pair", pair_file, "-o", folder, "--runs", runs, "--pairs", 30, "--held-out", 8)
    output = run(*options, "--batch-size", 4)
    for words in (
        "pairs: 30 pairs",
        "train latent: 8 images seen",
        "generate: 8 subjects",
        "evaluate small: gap closed",
    ):
        assert words in output.stdout
    record = run_json(*options, "--batch-size", 4)  # the same command: all of it is there
    assert list(record["heads"]) == ["small", "latent"]
    assert record == json.loads((folder / "study.json").read_text())
    before = (folder / "study.json").read_bytes()
    refused = run(*options, "--batch-size", 5, code=1).stderr
    assert "batch_size is 4 there and 5 here" in refused and refused.count("\n") == 1
    assert (folder / "study.json").read_bytes() == before


def test_a_dry_run_says_what_it_would_take_and_what_is_narrower(
    run: Any, run_json: Any, pair_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    few = ("--runs", "paper-esa,decoder", "--pairs", 40, "--held-out", 5)
    options = ("reproduce", "--pair", pair_file, "-o", tmp_path / "study", *few, "--dry-run")
    output = run(*options)
    assert "paper-esa: head.base_channels 16, not 64" in output.stderr and "no GPU" in output.stderr
    assert "train decoder" in output.stdout and "Nothing was made" in output.stdout
    record = run_json(*options)
    assert record["tflop"] == pytest.approx(sum(stage["tflop"] for stage in record["stages"]))
    full = run_json(*options, "--full-size")
    assert (
        full["runs"]["paper-esa"]["config"]["stages"][0]["head"]["base_channels"] == 64
        and full["tflop"] > record["tflop"]
    )
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--runs", "unet,worst"), "no run named 'worst'"),
        (("--runs", ","), "1 or more runs"),
        (("--pair", "flux9"), "flux9"),
    ],
)
def test_wrong_use_is_one_sentence(
    run: Any, pair_file: Path, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    given = ("--pair", pair_file) if "--pair" not in options else ()
    refused = run("reproduce", *given, "-o", tmp_path / "study", *options, code=2)
    assert words in " ".join(refused.stderr.split()) and not (tmp_path / "study").exists()


def test_one_study_at_a_time_in_a_folder(run: Any, pair_file: Path, runs: str, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    options = ("reproduce", "--pair", pair_file, "-o", folder, "--runs", runs, "--pairs", 30, "--held-out", 8)
    with FolderLock(folder):
        refused = run(*options, code=1).stderr
    assert f"another topcoat writes into {folder}" in refused and f"pid {os.getpid()}" in refused
    assert not folder.exists()  # nothing was begun
