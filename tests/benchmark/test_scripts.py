from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import topcoat
from topcoat.benchmark.compare import run_benchmark, sweep
from topcoat.benchmark.record import BenchmarkResult
from topcoat.features import FeatureNet
from topcoat.generators.base import Generator, ModelPair
from topcoat.reports.benchmark_tables import table

ROOT = Path(__file__).parents[2]


def load(name: str) -> ModuleType:
    return importlib.import_module(name)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return load("results")


def test_held_out_prompts_are_of_the_test_split_and_stable(script: ModuleType) -> None:
    prompts = script.held_out(30)
    assert len(prompts) == 30 and {prompt.split for prompt in prompts} == {"test"}
    assert script.held_out(10) == prompts[:10]


def test_a_section_is_replaced_and_the_rest_is_kept(script: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "results.md"
    path.write_text("# Results\n\nWords before.\n")
    picture = tmp_path / "sheet.png"
    picture.write_bytes(b"sheet")
    script.publish(path, "mini", "results.py", "first", picture, "a.png")
    script.publish(path, "other", "results.py", "others", picture, "b.png")
    script.publish(path, "mini", "results.py", "second", picture, "c.png")
    text = path.read_text()
    assert "first" not in text and text.count("second") == 1 and "Words before." in text and "others" in text
    assert text.index("second") < text.index("others")
    assert (tmp_path / "images" / "c.png").read_bytes() == b"sheet"


@pytest.fixture
def with_fakes(
    flux_pair: ModelPair, head: Any, net: FeatureNet, generated: tuple[Generator, Generator],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def run_with_fakes(*given: Any, **named: Any) -> BenchmarkResult:
        return run_benchmark(*given, **named, generators=generated, features=net)

    def sweep_with_fakes(*given: Any, **named: Any) -> BenchmarkResult:
        return sweep(*given, **named, generators=generated, features=net)

    monkeypatch.setattr(topcoat, "run_benchmark", run_with_fakes)
    monkeypatch.setattr(topcoat, "model_pair", lambda name: flux_pair)
    monkeypatch.setattr(topcoat.Head, "default", lambda: head)
    monkeypatch.setattr(topcoat.Head, "from_pretrained", lambda folder: head)
    monkeypatch.setattr(load("frontier"), "sweep", sweep_with_fakes)


def test_the_whole_script(
    script: ModuleType, with_fakes: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--count", "6", "--batch-size", "3", "--output", str(tmp_path / "out")]
    arguments += ["--docs", str(tmp_path / "results.md"), "--json", str(tmp_path / "results.json")]
    assert script.main(arguments) == 0
    text = (tmp_path / "results.md").read_text()
    assert "6 held-out subjects" in text and "less TFLOP than 28 steps" in text
    result = BenchmarkResult.from_dict(json.loads((tmp_path / "results.json").read_text())["tiny"])
    assert result.n == 6
    assert "| distilled + head " in capsys.readouterr().out
    assert script.main(["--count", "1", *arguments[2:]]) == 2
    assert "error: a benchmark needs 2 or more" in capsys.readouterr().err


def test_the_frontier_script(script: ModuleType, with_fakes: None, tmp_path: Path) -> None:
    arguments = ["--count", "6", "--heads", "sharpen", "--distilled-steps", "1", "--baseline-steps", "2"]
    arguments += ["--output", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    assert load("frontier").main([*arguments, "--docs", str(tmp_path / "results.md")]) == 0
    text = (tmp_path / "results.md").read_text()
    assert "Quality against cost, pair tiny" in text and "1 step + sharpen at 0.5" in text
    assert (tmp_path / "images" / "frontier.svg").read_text().startswith("<svg")


def test_the_study_script_needs_a_finished_study(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load("study").main([str(tmp_path), "--docs", str(tmp_path / "results.md")]) == 1
    assert "holds no finished study" in capsys.readouterr().err


def test_the_readme_holds_the_figures_of_the_results(script: ModuleType) -> None:
    figures = load("write_figures")
    result = BenchmarkResult.from_dict(json.loads((ROOT / "benchmarks" / "results.json").read_text())["mini"])
    assert figures.render(result) in (ROOT / "README.md").read_text()
    row = next(line for line in table(result).markdown().splitlines() if line.startswith("| distilled + head"))
    seconds = result.value("seconds", "enhanced")
    assert seconds is not None and f"{seconds * 1e3:.4g}" in row  # of the record, not a sum of its parts
