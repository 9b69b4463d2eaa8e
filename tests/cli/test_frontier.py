"""`topcoat frontier` and the setting it hands to `topcoat generate --config`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from topcoat.benchmark.frontier import PipelineConfig
from topcoat.config import load_config
from topcoat.features import FeatureNet

SMALL = ("--count", 4, "--distilled-steps", "1", "--strengths", "1", "--baseline-steps", "2", "--batch-size", 4)


@pytest.fixture(autouse=True)
def tiny_net(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("topcoat.features.pretrained")
    monkeypatch.setattr(module, "load_feature_net", lambda name: FeatureNet.tiny(0))


def test_the_chosen_setting_is_what_generate_runs(
    run: Any, run_json: Any, pair_file: Path, head_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "frontier"
    options = ("--pair", pair_file, "--heads", head_folder, *SMALL, "-o", out)
    record = run_json("frontier", *options, "--max-cost", 1)
    assert set(record["arms"]) >= {"1 step", f"1 step + {head_folder.name}"}
    assert {path.name for path in out.iterdir()} >= {"frontier.html", "frontier.json", "frontier.svg", "pipeline.yaml"}
    assert load_config(out / "pipeline.yaml", PipelineConfig).steps == 1
    picture = tmp_path / "portrait.png"
    run("generate", "studio portrait of an old man", "--config", out / "pipeline.yaml", "-o", picture)
    assert picture.exists()
    refused = run(
        "generate", "portrait", "--config", out / "pipeline.yaml", "--steps", 2, "-o", picture, code=2
    )  # fmt: skip
    assert "leave these options out" in refused.stderr


def test_a_target_that_nothing_meets_is_a_failure(run: Any, pair_file: Path, head_folder: Path, tmp_path: Path) -> None:
    options = ("--pair", pair_file, "--heads", head_folder, *SMALL, "-o", tmp_path / "out")
    result = run("frontier", *options, "--max-cost", 1e-12, code=1)
    assert "No arm meets" in result.stdout
    assert not (tmp_path / "out" / "pipeline.yaml").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--strengths", "0"), "strength 0"),
        (("--target-gap", "90"), "0.9 means 90 %"),
        (("--max-cost", "0"), "more than 0"),
        (("--seed", "-1"), "greater than or equal to 0"),
    ],
)
def test_wrong_use_is_one_sentence(
    run: Any, pair_file: Path, head_folder: Path, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    given = ("--pair", pair_file, "--heads", head_folder, "-o", tmp_path / "out")
    assert words in run("frontier", *given, *options, code=2).stderr
    assert not (tmp_path / "out").exists()


def test_a_dry_run_lists_the_settings(run_json: Any, pair_file: Path, head_folder: Path, tmp_path: Path) -> None:
    record = run_json("frontier", "--pair", pair_file, "--heads", head_folder, *SMALL, "-o", tmp_path, "--dry-run")
    assert record["arms"] == ["baseline, 2 steps", "1 step", f"1 step + {head_folder.name}"]
