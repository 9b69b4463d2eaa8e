"""A head that decodes latents, in every command that takes a head."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.conftest import scores_of
from topcoat.benchmark.record import BenchmarkResult
from topcoat.features import FeatureNet
from topcoat.heads import Head
from topcoat.images import read_image
from topcoat.pairs.dataset import PairDataset


@pytest.fixture
def build(run: Any, pair_file: Path, tmp_path: Path) -> Any:
    def made(*options: object) -> Path:
        folder = tmp_path / f"pairs{len(options)}"
        run("pairs", "build", folder, "--pair", pair_file, "--count", 24, "--batch-size", 12, *options)
        return folder

    return made


def test_generate_decodes_with_the_head(run: Any, pair_file: Path, decoder_folder: Path, tmp_path: Path) -> None:
    options = ("generate", "studio portrait", "--pair", pair_file, "--head", decoder_folder, "-o", tmp_path / "a.png")
    run(*options, "--compare")
    assert read_image(tmp_path / "a.png").shape == (3, 32, 48)
    assert (tmp_path / "a-compare.png").is_file()
    again = (*options, "--overwrite")
    assert "leave strength at 1" in run(*again, "--strength", 0.5, code=2).stderr
    assert "decodes latents by itself" in run(*again, "--never-worse", code=2).stderr


def test_evaluate_gives_the_head_the_latents_of_the_pairs(
    run: Any, run_json: Any, build: Any, decoder_folder: Path, tmp_path: Path, tiny_features: None
) -> None:
    pairs = build("--latents")
    options = ("--head", decoder_folder, "--split", "train", "--metrics", "paired")
    record = run_json("evaluate", "--data", pairs, *options)
    dataset, head = PairDataset.open(pairs).split("train"), Head.from_pretrained(decoder_folder)
    errors = []
    for pair in dataset:
        assert pair.latents is not None
        errors.append((head(pair.latents[None])[0] - pair.baseline).double().square().mean())
    expected = float((-10 * torch.log10(torch.stack(errors))).mean())
    assert record["n"] == len(dataset) and scores_of(record)["psnr", "enhanced"] == pytest.approx(expected, rel=1e-4)
    refused = run("evaluate", "--data", build(), *options, code=2).stderr
    assert "hold none; build them with --latents" in refused and refused.count("\n") == 1


def test_enhance_and_calibrate_say_that_there_are_no_latents(
    run: Any, pictures: Path, build: Any, decoder_folder: Path, tmp_path: Path
) -> None:
    refused = run("enhance", pictures, "-o", tmp_path / "out", "--head", decoder_folder, code=2).stderr
    assert "which a picture does not have" in refused and refused.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert "decodes latents" in run("calibrate", "--data", build(), "--head", decoder_folder, code=2).stderr


def test_cost_leaves_the_vae_out(run_json: Any, pair_file: Path, decoder_folder: Path) -> None:
    (table,) = run_json("cost", "--pair", pair_file, "--head", decoder_folder)["tables"]
    pieces = [row["piece"] for row in table["enhanced"]["rows"]]
    assert "head" in pieces and "VAE decode" not in pieces
    measured = run_json("cost", "--pair", pair_file, "--head", decoder_folder, "--measure", "--repeats", 1)["measured"]
    assert any(row["name"].endswith("+ head") for row in measured)


def test_demo_measures_it(
    run_json: Any, pair_file: Path, decoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        importlib.import_module("topcoat.features.pretrained"), "load_feature_net", lambda _: FeatureNet.tiny(0)
    )
    options = ("--pair", pair_file, "--head", decoder_folder, "--count", 8, "-o", tmp_path / "demo")
    result = BenchmarkResult.from_dict(run_json("demo", *options))
    tflop, of_head = result.value("tflop", "enhanced"), result.value("head_tflop", "enhanced")
    alone = result.value("tflop", "distilled")
    assert tflop is not None and of_head is not None and alone is not None
    assert tflop < alone + of_head  # the VAE is not in it
    ours, theirs = result.value("seconds", "enhanced"), result.value("seconds", "baseline")
    assert ours is not None and theirs is not None
    assert result.value("seconds_saving", "enhanced") == pytest.approx(1 - ours / theirs)
    assert "in place of the VAE decode" in (tmp_path / "demo" / "report.html").read_text()


def test_the_frontier_sweeps_it(
    run_json: Any, pair_file: Path, decoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("topcoat.features.pretrained")
    monkeypatch.setattr(module, "load_feature_net", lambda _: FeatureNet.tiny(0))
    record = run_json(
        "frontier", "--pair", pair_file, "--heads", decoder_folder, "--count", 4, "--batch-size", 4,
        "--distilled-steps", "1", "--strengths", "0.5,1", "--baseline-steps", "2", "-o", tmp_path / "out",
    )  # fmt: skip
    labels = list(record["arms"])
    assert labels.count(f"1 step + {decoder_folder.name}") == 1
    assert not any("at 0.5" in label for label in labels)


def test_a_head_that_changes_latents_from_training_to_pictures(
    run: Any, run_json: Any, build: Any, pair_file: Path, head_folder: Path, tmp_path: Path
) -> None:
    pairs, head = build("--latents"), tmp_path / "latent"
    train = (
        "train", "latent-unet", "--data", pairs, "-o", head, "--images", 32, "--set", "head.channels=[8, 8]",
        "--set", "batch_size=8", "--set", "warmup_images=8", "--init-from", head_folder,
    )  # fmt: skip
    assert "no model pair is called 'tiny'" in run(*train, code=2).stderr.splitlines()[-1]
    run(*train, "--pair", pair_file)
    run("calibrate", "--data", _hundred(run, pair_file, tmp_path), "--head", head)
    generate = ("generate", "studio portrait", "--pair", pair_file, "--head", head)
    run(*generate, "-o", tmp_path / "a.png", "--strength", 0)
    run("generate", "studio portrait", "--pair", pair_file, "--head", "none", "-o", tmp_path / "b.png")
    assert torch.equal(read_image(tmp_path / "a.png"), read_image(tmp_path / "b.png"))
    run(*generate, "-o", tmp_path / "c.png", "--identity-floor", "calibrated", "--never-worse")
    (table,) = run_json("cost", "--pair", pair_file, "--head", head)["tables"]
    plain, enhanced = (sum(row["tflop"] for row in table[side]["rows"]) for side in ("distilled", "enhanced"))
    assert enhanced > plain  # the VAE's decoding is in the head, and so is a little more
    refused = run("enhance", tmp_path / "a.png", "-o", tmp_path / "d.png", "--head", head, code=2).stderr
    assert "which a picture does not have" in refused


def _hundred(run: Any, pair_file: Path, tmp_path: Path) -> Path:
    """As many pairs as gates are calibrated on."""
    run("pairs", "build", tmp_path / "many", "--pair", pair_file, "--count", 160, "--batch-size", 32)
    return tmp_path / "many"
