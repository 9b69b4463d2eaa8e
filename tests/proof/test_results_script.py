from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from topcoat import proof as proof_package
from topcoat.features import FeatureNet
from topcoat.generators.base import Generator, ModelPair
from topcoat.proof import Proof, prove

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "results.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("results_script", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_held_out_prompts_are_of_the_test_split_and_stable(script: ModuleType) -> None:
    found = script.held_out(30)
    assert len(found) == 30 and {prompt.split for prompt in found} == {"test"}
    assert script.held_out(10) == found[:10]


def test_a_section_is_replaced_and_the_rest_is_kept(script: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "results.md"
    path.write_text("# Results\n\nWords before.\n")
    script.write_section(path, "mini", "first")
    script.write_section(path, "other", "beside")
    script.write_section(path, "mini", "second")
    text = path.read_text()
    assert "first" not in text and text.count("second") == 1 and "Words before." in text and "beside" in text
    assert text.index("second") < text.index("beside")


def test_the_whole_script(
    script: ModuleType,
    flux_pair: ModelPair,
    head: Any,
    net: FeatureNet,
    painted: tuple[Generator, Generator],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def with_fakes(*given: Any, **named: Any) -> Proof:
        return prove(*given, **named, generators=painted, features=net)

    monkeypatch.setattr(script, "prove", with_fakes)
    monkeypatch.setattr(script, "model_pair", lambda name: flux_pair)
    monkeypatch.setattr(script.Head, "default", lambda: head)
    arguments = ["--count", "6", "--batch-size", "3", "--output", str(tmp_path / "out")]
    arguments += ["--docs", str(tmp_path / "results.md"), "--json", str(tmp_path / "results.json")]
    assert script.main(arguments) == 0
    text = (tmp_path / "results.md").read_text()
    assert "N = 6 held-out subjects" in text and "1 step + head against 28 steps, whole pipeline" in text
    assert json.loads((tmp_path / "results.json").read_text())["tiny"]["n"] == 6
    assert "Share of the gap closed" in capsys.readouterr().out
    assert script.main(["--count", "1", *arguments[2:]]) == 2
    assert "error: a proof needs 2 or more" in capsys.readouterr().err
    assert "results_script" not in sys.modules and proof_package.prove is prove
