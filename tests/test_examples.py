"""The examples run as they are, at tiny counts, one after the other as a reader would run them."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def _main(name: str) -> Callable[[list[str]], None]:
    return runpy.run_path(str(EXAMPLES / name))["main"]


def test_the_examples_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs, head = str(tmp_path / "pairs"), str(tmp_path / "head")
    _main("01_make_pairs.py")(["--count", "6", "--output", pairs])
    _main("02_train_head.py")(["--data", pairs, "--output", head, "--run", "debug", "--images", "8"])
    _main("03_run_pipeline.py")(["--head", head, "--count", "2", "--output", str(tmp_path / "portraits")])
    _main("04_evaluate.py")(["--data", pairs, "--head", head])
    printed = capsys.readouterr().out
    assert "6 pairs" in printed
    assert "parameters" in printed
    assert "identity baseline" in printed
    assert len(list((tmp_path / "portraits").glob("*.png"))) == 2


def test_a_function_of_ones_own_is_one_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(EXAMPLES)  # the function is looked for in the working folder
    _main("own_model.py")(["--count", "3", "--output", str(tmp_path / "pairs")])
    assert "3 pairs" in capsys.readouterr().out


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 60
