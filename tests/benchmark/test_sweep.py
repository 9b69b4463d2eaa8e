"""The frontier: arms, Pareto sets and choices, and a sweep of fakes whose order of quality is known."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import torch

from topcoat.benchmark.arms import Arm, grid
from topcoat.benchmark.compare import sweep
from topcoat.benchmark.frontier import PipelineConfig, Point, Target, pareto_front, points_of, save_choice
from topcoat.benchmark.record import BenchmarkResult
from topcoat.config import load_config
from topcoat.errors import UsageError
from topcoat.features import FeatureNet
from topcoat.generators.base import Generator, ModelPair
from topcoat.reports.benchmark import write_benchmark
from topcoat.reports.benchmark_tables import headline, table

PROMPTS = [f"studio portrait of a {age} {who}" for age in ("young", "old") for who in ("woman", "man")] * 6
SEEDS = range(100, 124)


def priced(tflop: float, distance: float, gap_closed: float | None = None) -> Point:
    return Point("", tflop, distance, gap_closed)


def test_a_grid_is_every_combination_once() -> None:
    arms = grid([1, 4], ["a"], [0.5, 1.0], [28], ["d"])
    labels = {one.label for one in arms}
    assert labels == {
        "baseline, 28 steps", "1 step", "1 step + a at 0.5", "1 step + a", "1 step + d",
        "4 steps", "4 steps + a at 0.5", "4 steps + a", "4 steps + d",
    }  # fmt: skip
    assert len(arms) == len(labels)


@pytest.mark.parametrize(("steps", "strength", "words"), [(0, 1.0, "0 steps"), (4, 0.0, "strength 0"), (4, 3.0, "3")])
def test_impossible_arms_are_refused(steps: int, strength: float, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        grid([steps], ["a"], [strength], [])


@pytest.mark.parametrize("seed", range(5))
def test_the_pareto_front_is_what_comparing_all_pairs_gives(seed: int) -> None:
    values = torch.randint(0, 12, (40, 2), generator=torch.Generator().manual_seed(seed)).tolist()
    points = [priced(float(cost), float(distance)) for cost, distance in values]

    def beaten(one: Point) -> bool:
        return any(
            other.tflop <= one.tflop and other.distance <= one.distance
            and (other.tflop < one.tflop or other.distance < one.distance)
            for other in points
        )  # fmt: skip

    expected = {(one.tflop, one.distance) for one in points if not beaten(one)}
    front = pareto_front(points)
    assert {(one.tflop, one.distance) for one in front} == expected
    assert len(front) == len(expected)
    assert [one.tflop for one in front] == sorted(one.tflop for one in front)


def test_choosing() -> None:
    points = [priced(1, 5, 0.2), priced(2, 3, 0.6), priced(3, 1, 0.95), priced(4, 0.9, 0.96), priced(5, 2, None)]
    assert Target(0.9).choose(points) == points[2]
    assert Target(max_tflop=2.5).choose(points) == points[1]
    assert Target(0.5, 2.5).choose(points) == points[1]
    assert Target(0.9, 2.5).choose(points) is None
    assert Target().choose(points) is None and not Target()
    assert str(Target(0.9, 2.5)) == "90% of the gap closed with at most 2.5 TFLOP per image"
    for wrong in ((90.0, None), (None, 0.0)):
        with pytest.raises(UsageError):
            Target(*wrong)


@pytest.fixture
def swept(
    flux_pair: ModelPair, head: Any, net: FeatureNet, generated: tuple[Generator, Generator], tmp_path: Path
) -> BenchmarkResult:
    return sweep(
        flux_pair, {"sharpen": head}, grid([1, 2], ["sharpen"], [0.5, 1.0], [2]), PROMPTS, SEEDS,
        cache=tmp_path / "cache", batch_size=8, generators=generated, features=net,
    )  # fmt: skip


def test_a_sweep_measures_every_arm_both_models_and_the_controls(swept: BenchmarkResult) -> None:
    assert {"1 step", "2 steps", "1 step + sharpen at 0.5", "baseline, 2 steps", "unsharp", "floor"} < set(swept.arms)
    value = swept.value
    assert value("gap_closed", swept.distilled) in (None, pytest.approx(0))
    assert value("identity_mean", swept.distilled) == pytest.approx(1)
    assert value("frechet", swept.baseline) == pytest.approx(0, abs=1e-6)
    plain, enhanced, slow = (value("tflop", name) for name in ("1 step", "1 step + sharpen", "2 steps"))
    assert plain is not None and enhanced is not None and slow is not None and plain < enhanced and plain < slow
    seconds = [swept.score("seconds", name) for name in swept.arms if value("tflop", name) is not None]
    assert all(score is not None and score.n == 3 for score in seconds)


def test_strength_is_given_to_the_head(swept: BenchmarkResult) -> None:
    half, whole = (swept.value("gradient_energy", f"1 step + sharpen{at}") for at in (" at 0.5", ""))
    plain = swept.value("gradient_energy", "1 step")
    assert plain is not None and half is not None and whole is not None and plain < half < whole


def test_the_baseline_is_never_chosen(swept: BenchmarkResult) -> None:
    names = {point.name for point in points_of(swept, to_choose=True)}
    assert "1 step + sharpen" in names and not any(name.startswith("baseline") for name in names)
    assert {"unsharp", "floor"}.isdisjoint({point.name for point in points_of(swept)})  # they have no cost


def test_a_second_sweep_generates_nothing(
    swept: BenchmarkResult, flux_pair: ModelPair, head: Any, net: FeatureNet, generated: Any, tmp_path: Path
) -> None:
    class Broken:
        def __init__(self, spec: Any) -> None:
            self.spec = spec

        def generate(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("generated again")

    again = sweep(
        flux_pair, {"sharpen": head}, grid([1, 2], ["sharpen"], [0.5, 1.0], [2]), PROMPTS, SEEDS,
        cache=tmp_path / "cache", batch_size=8, features=net,
        generators=(Broken(generated[0].spec), Broken(generated[1].spec)),
    )  # fmt: skip
    for name in swept.arms:
        assert again.score("frechet", name) == swept.score("frechet", name)


def test_an_unknown_head_is_refused_before_anything_is_loaded(flux_pair: ModelPair) -> None:
    with pytest.raises(UsageError, match="was not given: ghost"):
        sweep(flux_pair, {}, [Arm("distilled", 1, "ghost")], PROMPTS, SEEDS)


def test_files_hold_the_sweep_and_the_choice(swept: BenchmarkResult, tmp_path: Path) -> None:
    chosen = "1 step + sharpen at 0.5"
    write_benchmark(tmp_path / "out", swept, chosen=chosen, target=Target(max_tflop=3))
    record = json.loads((tmp_path / "out" / "frontier.json").read_text())
    assert (record["chosen"], record["target"], record["n"]) == (chosen, "at most 3 TFLOP per image", len(PROMPTS))
    assert set(record["pareto"]) <= set(record["arms"])
    drawn = ET.fromstring((tmp_path / "out" / "frontier.svg").read_text())
    texts = [text.text or "" for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    numbers = {number for text in texts for number in text.split(", ")}
    assert {str(number) for number in range(1, len(points_of(swept)) + 1)} <= numbers
    page = (tmp_path / "out" / "frontier.html").read_text()
    assert chosen in page and "<svg" in page and 'src="http' not in page
    rows = table(swept, chosen=chosen)
    assert [mark.split()[-1:] == ["chosen"] for mark in rows.classes].count(True) == 1
    assert headline(swept, None, Target(0.9)) == "No arm meets 90% of the gap closed"
    save_choice(tmp_path / "pipeline.yaml", swept, chosen, "mini", {"sharpen": "runs/sharpen"})
    config = load_config(tmp_path / "pipeline.yaml", PipelineConfig)
    assert (config.pair, config.head) == ("mini", "runs/sharpen")
    assert (config.steps, config.strength) == (1, 0.5)
