"""The commands from pairs to figures, one after the other as a user gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import scores_of
from topcoat.heads import Head
from topcoat.pairs.dataset import PairDataset


@pytest.fixture
def pairs(run: Any, pair_file: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "pairs"
    run("pairs", "build", folder, "--pair", pair_file, "--count", 60, "--batch-size", 16)
    return folder


def test_the_chain(run_json: Any, pairs: Path, tmp_path: Path, tiny_features: None) -> None:
    facts = run_json("pairs", "inspect", pairs)
    assert facts["pairs"] == 60
    assert sum(facts["splits"].values()) == 60
    assert facts["size_px"] == {"width": 48, "height": 32}
    assert facts["digest"] == PairDataset.open(pairs).digest

    settings = tmp_path / "run.json"
    settings.write_text(
        '{"name": "t", "head": {"kind": "unet", "channels": [4, 8]}, "images": 16, '
        '"objective": {"kind": "paired", "charbonnier": 1}, '
        '"batch_size": 4, "crop_px": 16, "warmup_images": 4, "validation_images": 2}'
    )
    trained = run_json("train", settings, "--data", pairs, "-o", tmp_path / "head", "--images", 16)
    assert trained["images"] == 16
    assert Head.from_pretrained(tmp_path / "head").kind == "unet"

    report = tmp_path / "report"
    options = ("--data", pairs, "--head", tmp_path / "head", "--split", "train", "-o", report)
    record = run_json("evaluate", *options)
    assert sorted(path.name for path in report.iterdir()) == ["contact.png", "report.html", "report.json", "report.md"]
    assert record["n"] == facts["splits"]["train"]
    assert ("gap_closed", "enhanced") not in scores_of(record)


def test_inspecting_finds_changed_bytes(run: Any, pairs: Path) -> None:
    shard = pairs / "data" / "train-00000.parquet"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    result = run("pairs", "inspect", pairs, code=1)
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert f"{shard} was changed since it was built" in result.stderr


def test_building_says_both_licences(run: Any, run_json: Any, pair_file: Path, tmp_path: Path) -> None:
    arguments = ("pairs", "build", tmp_path / "pairs", "--pair", pair_file, "--count", 3, "--dry-run")
    text = run(*arguments).stdout
    assert text.count("https://example.org/licence") == 2
    assert run_json(*arguments)["tflop"] > 0
    assert not (tmp_path / "pairs").exists()


def test_a_dry_run_of_flux_needs_no_weights(run_json: Any, tmp_path: Path) -> None:
    record = run_json("pairs", "build", tmp_path / "pairs", "--pair", "flux1", "--count", 10, "--dry-run")
    assert record["tflop"] > 10_000
    assert any("non-commercial" in line for line in record["licences"])


def test_a_folder_of_other_pairs_is_left_alone(run: Any, pairs: Path, pair_file: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in pairs.rglob("*") if path.is_file()}
    other = tmp_path / "other.json"
    other.write_text(pair_file.read_text().replace('"steps":3', '"steps":2'))
    result = run("pairs", "build", pairs, "--pair", other, "--count", 2, code=1)
    assert str(pairs) in result.stderr
    assert {path: path.read_bytes() for path in pairs.rglob("*") if path.is_file()} == before


def test_a_dry_training_writes_nothing(run_json: Any, pairs: Path, tmp_path: Path) -> None:
    record = run_json("train", "unet", "--data", pairs, "-o", tmp_path / "run", "--dry-run")
    assert [stage["objective"]["perceptual"] for stage in record["config"]["stages"]] == [1.0, 1.0]
    assert not (tmp_path / "run").exists()


def test_folders_of_images_are_evaluated(run_json: Any, pictures: Path, tiny_features: None) -> None:
    record = run_json(
        "evaluate", "--enhanced", pictures, "--baseline", pictures, "--distilled", pictures, "--floor", pictures
    )
    assert record["n"] == 6
    assert scores_of(record)["frechet", "enhanced"] == pytest.approx(0, abs=1e-4)
    assert scores_of(record)["identity_mean", "enhanced"] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("train", "nothing", "--data", "PAIRS", "-o", "run"), 2, "nothing"),
        (("train", "unet", "--data", "empty", "-o", "run"), 1, "empty"),
        (("pairs", "inspect", "empty"), 1, "empty"),
        (("pairs", "build", "empty", "--pair", "flux9"), 2, "flux9"),
        (("pairs", "build", "new", "--count", "0", "--pair", "flux1"), 2, "'--count' / '-n'"),
        (("evaluate",), 2, "nothing to compare"),
        (("evaluate", "--data", "PAIRS", "--enhanced", "empty"), 2, "one or the other"),
        (("evaluate", "--enhanced", "empty", "--baseline", "empty"), 1, "no pictures"),
    ],
)
def test_wrong_use(
    run: Any,
    arguments: tuple[str, ...],
    code: int,
    says: str,
    pair_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    if "PAIRS" in arguments:
        run("pairs", "build", "PAIRS", "--pair", pair_file, "--count", 2)
    result = run(*arguments, code=code)
    assert says in result.stderr
    assert "Traceback" not in result.output
