"""The runbooks are true: their commands run in order on a small pair, and their figures are those of the code."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from topcoat.cost.presets import preset_figures
from topcoat.cost.pricing import pair_tflop
from topcoat.generators.presets import model_pair

ROOT = Path(__file__).parents[2]
PAGES = {"flux": "flux1", "sdxl": "sdxl"}
SMALLER = {
    "5000": "120",
    "32": "4",
    "64": "4",
    "real-unet": "debug",
    "dinov2": "embedded",
    "face": "embedded",
    "8,20,28": "1",
}
"""Words of a page -> what a test says in their place: fewer images, a head and nets that need no download."""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("runbooks")


def commands(page: str) -> list[list[str]]:
    """The words of each `topcoat` command of a runbook, in order."""
    text = (ROOT / "docs" / f"runbook-{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("topcoat ")]


@pytest.mark.parametrize(
    ("page", "pair"),
    [
        ("flux", "pair_file"),
        pytest.param("flux", "fast_mini", marks=pytest.mark.slow),
        pytest.param("sdxl", "fast_mini", marks=pytest.mark.slow),
    ],
)
def test_the_commands_run(
    run: Any,
    page: str,
    pair: str,
    tiny_features: None,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: Any,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    file, name = str(request.getfixturevalue(pair)), PAGES[page]
    for words in commands(page):
        if words == ["doctor"]:  # whether this machine is well is not what is tested
            continue
        small = [file if word == name else SMALLER.get(word, word) for word in words]
        run(*small, *(["--style", "mini"] if words[0] == "prompts" else []))
    for made in (
        "try.html",
        "pairs.html",
        "report/report.html",
        "frontier/frontier.html",
        "portrait.png",
        "better.png",
    ):
        assert (tmp_path / made).is_file(), made
    assert (tmp_path / "runs" / page / "head.onnx").is_file()
    if page == "flux":
        assert len(list((tmp_path / "portraits").glob("*.png"))) == 4


@pytest.mark.parametrize("page", PAGES)
def test_every_step_says_what_to_look_at_and_how_it_fails(page: str) -> None:
    text = (ROOT / "docs" / f"runbook-{page}.md").read_text(encoding="utf-8")
    steps = re.split(r"^## \d\. .*$", text, flags=re.MULTILINE)[1:]
    assert len(steps) == 7
    for step in steps:
        assert "```bash" in step and "**Look at**" in step and "**It failed if**" in step


@pytest.mark.parametrize("page", PAGES)
def test_the_figures_are_those_of_the_script(script: ModuleType, page: str) -> None:
    text = (ROOT / "docs" / f"runbook-{page}.md").read_text(encoding="utf-8")
    assert f"{script.BEGIN}\n{script.section(script.RUNBOOKS[page])}\n{script.END}" in text


def test_the_plan_command_says_the_same(script: ModuleType, run_json: Any) -> None:
    record = run_json("pairs", "plan", "--pair", "sdxl", "--count", 28_000, "--gpu", "a100")
    row = next(line for line in script.section(("sdxl",)).splitlines() if line.startswith("| 28,000 "))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == record["disk_bytes"]["text"]
    assert cells[4:6] == [f"{record['gpu_hours']['value']:,.0f}", f"{record['usd']['value']:,.0f}"]
    figures = preset_figures()[0]["sdxl"]
    assert pair_tflop(model_pair("sdxl")) == pytest.approx(figures.distilled_tflop + figures.baseline_tflop)
