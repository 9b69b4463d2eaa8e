"""`init` and `presets`: the plan that is written runs, and the figures that are shown are the code's."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from topcoat.cost.presets import pair_figures, preset_figures
from topcoat.generators.presets import PRESETS, model_pair
from topcoat.training import RUN_NAMES

SMALL = ("STYLE=mini", "COUNT=120", "RUN=debug", "FEATURES=embedded", "OFFLOAD=none")


def planned(folder: Path, *settings: str) -> list[list[str]]:
    """The commands of the Makefile's whole plan, without the program's name."""
    done = subprocess.run(
        ["make", "--dry-run", "--directory", str(folder), "all", *settings], capture_output=True, text=True, check=True
    )
    return [shlex.split(line)[1:] for line in done.stdout.splitlines() if line.startswith("topcoat ")]


@pytest.mark.parametrize("pair", ["pair_file", pytest.param("fast_mini", marks=pytest.mark.slow)])
def test_the_plan_runs(
    run: Any, pair: str, tiny_features: None, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: Any
) -> None:
    file, folder = request.getfixturevalue(pair), tmp_path / "my-pair"
    run("init", folder)
    monkeypatch.chdir(folder)
    (folder / "out").mkdir()
    for words in planned(folder, f"PAIR={file}", *SMALL):
        if words[0] != "doctor":  # whether this machine is well is not what is tested
            run(*words)
    for made in ("try.html", "pairs.html", "head/model.safetensors", "head/gates.json", "report/report.html"):
        assert (folder / "out" / made).is_file(), made


@pytest.mark.parametrize("pair", ["flux2-klein", "sdxl"])
def test_the_spec_is_the_preset_by_another_name(run: Any, run_json: Any, tmp_path: Path, pair: str) -> None:
    record = run_json("init", tmp_path / "mine", "--pair", pair)
    assert record["files"] == ["pair.yaml", "Makefile", "README.md"]
    assert model_pair(str(tmp_path / "mine" / "pair.yaml")) == model_pair(pair).model_copy(update={"name": "mine"})
    readme = (tmp_path / "mine" / "README.md").read_text()
    assert model_pair(pair).baseline.licence.url in readme and model_pair(pair).baseline.licence.note in readme
    assert "{{" not in readme
    makefile = (tmp_path / "mine" / "Makefile").read_text()
    assert "RUN ?= real-unet\n" in makefile and "\t$(TOPCOAT) train" in makefile


def test_nothing_is_written_over(run: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert "not empty; give a new folder" in run("init", tmp_path, code=2).stderr
    assert "another one" in run("init", tmp_path / "mini", code=2).stderr
    assert "no model pair is called" in run("init", tmp_path / "new", "--pair", "flux9", code=2).stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "mine.txt"]


def test_presets_lists_every_pair_and_run(run: Any, run_json: Any) -> None:
    record = run_json("presets", "--gpu", "h100", "--usd-per-hour", 3.6, "--utilisation", 0.5)
    assert [row["name"] for row in record["pairs"]] == list(PRESETS)
    assert {row["name"] for row in record["runs"]} == set(RUN_NAMES)
    flux = next(row for row in record["pairs"] if row["name"] == "flux1")
    tflop = flux["distilled_tflop"] + flux["baseline_tflop"]
    assert flux["pairs_usd"] == pytest.approx(1000 * tflop / (989 * 0.5) * 0.001)
    runs = {row["name"]: row for row in record["runs"]}
    assert (runs["decoder"]["latents"], runs["refiner"]["latents"]) == ("yes", "no")
    assert runs["refiner"]["usd"] is None and runs["unet"]["usd"] > 0
    text = " ".join(run("presets", "--gpu", "rtx4090").stdout.split())
    for word in ("flux2-klein", "real-unet", "FLUX.1 [dev] Non-Commercial License", "RTX 4090 24 GB", "at 40%"):
        assert word in text
    assert "no GPU is called 'x'" in run("presets", "--gpu", "x", code=2).stderr


@pytest.mark.parametrize("name", ["mini", "flux2-klein", "sdxl-turbo"])
def test_the_stored_figures_are_those_of_the_code(name: str) -> None:
    stored, now = preset_figures()[0][name], pair_figures(model_pair(name))
    assert (stored.distilled_tflop, stored.baseline_tflop) == pytest.approx((now.distilled_tflop, now.baseline_tflop))
    assert (stored.weight_bytes, stored.memory_bytes) == (now.weight_bytes, now.memory_bytes)
