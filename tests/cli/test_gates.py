"""`topcoat calibrate`, and the gates of `topcoat generate`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import topcoat.gates as gates_module
from topcoat.generators.base import Generator, ModelPair
from topcoat.images import read_image
from topcoat.pairs import build_pairs


@pytest.fixture
def own_head(head_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(head_folder, tmp_path / "own"))


@pytest.fixture
def calibrated(
    run: Any, own_head: Path, flux_pair: ModelPair, fake_generators: tuple[Generator, Generator], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:  # fmt: skip
    monkeypatch.setattr(gates_module, "FEWEST_PAIRS", 20)
    prompts = [f"portrait {number}" for number in range(60)]
    build_pairs(tmp_path / "pairs", prompts, flux_pair, generators=fake_generators)
    result = run("calibrate", "--data", tmp_path / "pairs", "--head", own_head)
    assert "identity floor" in result.stdout and (own_head / "gates.json").exists()
    return own_head


def test_a_calibrated_head_is_gated(calibrated: Path, run_json: Any, pair_file: Path, tmp_path: Path) -> None:
    request = ("generate", "portrait", "--pair", pair_file, "--head", calibrated, "-o", tmp_path / "a.png")
    record = run_json(*request, "--identity-floor", "calibrated", "--never-worse")["images"][0]
    decision = record["decision"]
    assert decision["kept"] in ("enhanced", "weakened", "distilled")
    assert float(record["strength"]) == decision["strength"] and decision["gain"] is not None


def test_a_floor_that_nothing_meets_leaves_the_distilled_image(
    run: Any, run_json: Any, own_head: Path, pair_file: Path, tmp_path: Path
) -> None:
    request = ("generate", "portrait", "--pair", pair_file)
    run(*request, "--head", "none", "-o", tmp_path / "x.png")
    record = run_json(*request, "--head", own_head, "--identity-floor", "1", "-o", tmp_path / "z.png")["images"][0]
    assert record["decision"]["kept"] == "distilled" and record["decision"]["identity"] == 1
    assert torch.equal(read_image(tmp_path / "x.png"), read_image(tmp_path / "z.png"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--never-worse",), "topcoat calibrate"),
        (("--identity-floor", "calibrated"), "no calibrated identity floor"),
        (("--identity-floor", "high"), "is no cosine"),
        (("--identity-floor", "3"), "is no cosine"),
        (("--never-worse", "--head", "none"), "head is none"),
    ],
)
def test_gates_that_cannot_work_are_one_sentence(
    run: Any, own_head: Path, pair_file: Path, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    heads = () if "--head" in options else ("--head", own_head)
    request = ("generate", "portrait", "--pair", pair_file, "-o", tmp_path / "z.png")
    result = run(*request, *heads, *options, code=2)
    assert words in " ".join(result.stderr.split())


def test_too_few_pairs_are_refused(
    run: Any, own_head: Path, flux_pair: ModelPair, fake_generators: tuple[Generator, Generator], tmp_path: Path
) -> None:
    build_pairs(tmp_path / "pairs", ["a", "b", "c"], flux_pair, generators=fake_generators)
    result = run("calibrate", "--data", tmp_path / "pairs", "--head", own_head, code=2)
    assert "use 100 or more" in result.stderr and not (own_head / "gates.json").exists()
