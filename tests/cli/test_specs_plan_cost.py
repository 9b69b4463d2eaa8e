"""`pairs specs`, `pairs plan` and `cost` beyond the plain table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from topcoat.generators.presets import PRESETS

PRICES = """
[gpus.toy]
name = "Toy GPU"
bf16_tflops = 0.001
bf16_source = "a datasheet"
usd_per_hour = 3.6
usd_source = "a price list"
date = 2026-01-02
"""


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    path = tmp_path / "prices.toml"
    path.write_text(PRICES)
    return path


def test_specs_lists_every_pair(run: Any, run_json: Any) -> None:
    text = run("pairs", "specs").stdout
    for word in ("flux1", "flux2-klein", "sdxl", "z-image", "ByteDance/SDXL-Lightning", "Apache-2.0"):
        assert word in text
    assert [pair["name"] for pair in run_json("pairs", "specs")["pairs"]] == list(PRESETS)


def test_a_printed_spec_is_a_pair(run: Any, run_json: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(run("pairs", "specs", "sdxl").stdout)
    assert run_json("pairs", "specs", path) == run_json("pairs", "specs", "sdxl")
    path.write_text(path.read_text().replace("guidance_scale: 0.0", "guidance: 0.0"))
    assert "distilled.guidance: unknown key" in run("pairs", "specs", path, code=2).stderr
    assert "no model pair is called 'flux9'" in run("pairs", "specs", "flux9", code=2).stderr


def test_plan_is_arithmetic_on_the_count(run: Any, run_json: Any, pair_file: Path, prices: Path) -> None:
    arguments = ("pairs", "plan", "--pair", pair_file, "--count", 1000, "--gpu", "toy:4", "--prices", prices)
    record = run_json(*arguments, "--utilisation", 0.5)
    seconds = record["per_pair"]["tflop"] / (0.001 * 0.5)
    assert record["images"]["value"] == 2000
    assert record["tflop"]["value"] == pytest.approx(1000 * record["per_pair"]["tflop"])
    assert record["gpu_hours"]["value"] == pytest.approx(1000 * seconds / 3600)
    assert record["wall_hours"]["value"] == pytest.approx(record["gpu_hours"]["value"] / 4)
    assert record["usd"]["value"] == pytest.approx(1000 * seconds / 3600 * 3.6)
    assert record["disk_bytes"] == {
        "label": "disk",
        "value": pytest.approx(1000 * 2 * 48 * 32 * 1.8),
        "text": "5.53 MB",
        "unit": "bytes",
        "kind": "computed",
        "source": "1.8 bytes a pixel (assumed), two lossless images a pair",
    }
    assert run_json(*arguments)["gpu_hours"]["value"] == pytest.approx(record["gpu_hours"]["value"] * 0.5 / 0.4)
    assert "7.2 USD per GPU-hour, given" in run_json(*arguments, "--usd-per-hour", 7.2)["usd"]["source"]
    text = run(*arguments).stdout
    for word in ("computed", "cited: a price list, 2026-01-02", "(assumed)", "licence Apache-2.0"):
        assert word in " ".join(text.split())


def test_plan_measures_here(run: Any, run_json: Any, pair_file: Path) -> None:
    record = run_json("pairs", "plan", "--pair", pair_file, "--measure", 3, "--usd-per-hour", 1.0, "--count", 10)
    assert record["gpu_hours"]["kind"] == record["disk_bytes"]["kind"] == "measured"
    assert record["gpu_hours"]["source"].startswith("3 pairs generated here")
    assert record["gpu_hours"]["value"] > 0
    assert 10 * 2 * 100 < record["disk_bytes"]["value"] < 10 * 2 * 48 * 32 * 4
    assert record["usd"]["value"] == pytest.approx(record["gpu_hours"]["value"])


def test_plan_without_a_price_or_a_speed_says_what_it_knows(run: Any, run_json: Any, pair_file: Path) -> None:
    record = run_json("pairs", "plan", "--pair", pair_file, "--count", 10)
    assert record["tflop"]["value"] > 0 and record["disk_bytes"]["value"] > 0
    assert record["memory_none_bytes"]["value"] > record["memory_model_bytes"]["value"] > 1 << 30
    assert not {"gpu_hours", "usd"} & set(record)
    assert "name a GPU (--gpu rtx4090" in run("pairs", "plan", "--pair", pair_file, "--usd-per-hour", 2).stdout
    measured = run_json("pairs", "plan", "--pair", pair_file, "--count", 10, "--measure", 2)
    assert measured["gpu_hours"]["value"] > 0 and "usd" not in measured


@pytest.mark.parametrize("name", ["rtx4090", "rtx5090", "rtx3090", "l40s", "a10", "l4", "t4"])
def test_plan_knows_cards_of_a_workstation(run_json: Any, pair_file: Path, name: str) -> None:
    record = run_json("pairs", "plan", "--pair", pair_file, "--count", 10, "--gpu", name)
    assert "https://" in record["gpu_hours"]["source"]
    assert record["usd"]["value"] > 0 and "2026-" in record["usd"]["source"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--gpu", "h9000:8"), "no GPU is called 'h9000'"),
        (("--gpu", "h100:x"), "write a name and a number such as h100:8"),
        (("--gpu", "h100", "--utilisation", 1.5), "utilisation 1.5 is not possible"),
        (("--gpu", "h100", "--count", 0), "'--count' / '-n': input should be greater than or equal to 1"),
        (("--gpu", "h100", "--usd-per-hour", 0), "0 USD per hour is not a price"),
        (("--measure", 2, "--utilisation", 0.5), "leave one of them out"),
    ],
)
def test_impossible_plans(run: Any, pair_file: Path, arguments: tuple[Any, ...], words: str) -> None:
    assert words in run("pairs", "plan", "--pair", pair_file, *arguments, code=2).stderr


def test_cost_in_money(run: Any, run_json: Any, pair_file: Path, head_folder: Path, prices: Path) -> None:
    arguments = ("cost", "--pair", pair_file, "--head", head_folder, "--prices", prices, "--price", "toy")
    record = run_json(*arguments, "--utilisation", 1.0)
    table, money = record["tables"][0], record["money"]
    assert money["source"] == "cited: a price list, 2026-01-02"
    last = money["rows"][-1]
    tflop = table["baseline"][-1]["tflop"]
    assert last["seconds"] == pytest.approx(tflop / 0.001) and last["seconds_kind"] == "computed"
    assert last["usd"] == pytest.approx(tflop / 0.001 / 3600 * 3.6)
    assert last["usd_per_million"] == pytest.approx(1e6 * last["usd"])
    text = " ".join(run(*arguments).stdout.split())
    assert "Seconds computed at 40% of 0.001 TFLOP/s" in text and "cited: a datasheet" in text
    assert text.count("transformer only") == len(table["baseline"])


def test_total_cost_of_ownership(run: Any, run_json: Any, pair_file: Path, head_folder: Path, prices: Path) -> None:
    arguments = ("cost", "--pair", pair_file, "--head", head_folder, "--prices", prices, "--price", "toy", "--tco")
    record = run_json(*arguments, "--images-per-month", 1000, "--pairs", 100, "--training-images", 0)["tco"]
    assert record["training_usd"]["value"] == 0 and record["pairs_usd"]["value"] > 0
    assert record["baseline_year_usd"]["value"] == pytest.approx(12e-3 * record["baseline_million_usd"]["value"])
    assert "until it has paid off" in run(*arguments).stdout
    assert "1 or more" in run(*arguments, "--images-per-month", 0, code=2).stderr


def test_cost_measured(run: Any, run_json: Any, pair_file: Path, head_folder: Path) -> None:
    arguments = ("cost", "--pair", pair_file, "--head", head_folder, "--measure", "--repeats", 2)
    record = run_json(*arguments, "--usd-per-hour", 1)
    rows = [(row["name"], row["steps"]) for row in record["measured"]]
    assert rows == [("tiny-distilled", 1), ("tiny-distilled + head", 1), ("tiny-baseline", 28), ("tiny-baseline", 3)]
    assert all(row["kind"] == "measured" and row["seconds"]["runs"] == 2 for row in record["measured"])
    seconds = [row["seconds"]["median_seconds"] for row in record["measured"]]
    assert seconds[2] > seconds[3]
    assert record["money"]["rows"][0]["usd"] == pytest.approx(seconds[0] / 3600)
    text = run(*arguments).stdout
    assert record["savings"][0]["share"] == 1 - seconds[0] / seconds[2]
    assert "saves" in text and "of the time against 28 steps of tiny-baseline" in text
    assert "Measured on" in text and "joules unavailable: cpu has no energy counter" in text


def test_cost_of_random_weights(run: Any, run_json: Any, pair_file: Path) -> None:
    arguments = ("cost", "--pair", pair_file, "--head", "none", "--measure", "--random-weights", "--repeats", 1)
    record = run_json(*arguments, "--size", 64)
    assert [row["steps"] for row in record["measured"]] == [1, 28, 3]
    assert "needs 1.0 GiB in float32 (computed)" in run(*arguments).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--price", "h9000"), "no GPU is called 'h9000'"),
        (("--tco",), "--tco needs a GPU"),
        (("--random-weights",), "add --measure"),
        (("--usd-per-hour", 2), "add --price with a GPU of the table, or --measure"),
        (("--size", 40), "use a multiple of 16"),
        (("--measure", "--size", 64), "leave --size out"),
        (("--measure", "--random-weights", "--batch-size", 2), "one image at a time"),
    ],
)
def test_impossible_costs(run: Any, pair_file: Path, arguments: tuple[Any, ...], words: str) -> None:
    assert words in run("cost", "--pair", pair_file, "--head", "none", *arguments, code=2).stderr
