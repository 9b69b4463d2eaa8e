"""The frontier: settings, Pareto sets and choices, and a sweep of fakes whose order of quality is known."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from topcoat.config import load_config
from topcoat.errors import UsageError
from topcoat.features import FeatureNet
from topcoat.frontier import PipelineConfig, Setting, choose, pareto_front, save_choice, settings_of, sweep
from topcoat.frontier.report import write_frontier
from topcoat.generators.base import Generator, ModelPair

PROMPTS = [f"studio portrait of a {age} {who}" for age in ("young", "old") for who in ("woman", "man")] * 6
SEEDS = range(100, 124)


@dataclass(frozen=True)
class Priced:
    tflop: float
    distance: float
    share: float | None = None


def test_settings_are_every_combination_once() -> None:
    found = settings_of([1, 4], ["a"], [0.5, 1.0], [28], ["d"])
    labels = {one.label for one in found}
    assert labels == {
        "baseline, 28 steps", "1 step", "1 step + a at 0.5", "1 step + a", "1 step + d",
        "4 steps", "4 steps + a at 0.5", "4 steps + a", "4 steps + d",
    }  # fmt: skip
    assert len(found) == len(labels)


@pytest.mark.parametrize(("steps", "strength", "words"), [(0, 1.0, "0 steps"), (4, 0.0, "strength 0"), (4, 3.0, "3")])
def test_impossible_settings_are_refused(steps: int, strength: float, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        settings_of([steps], ["a"], [strength], [])


@pytest.mark.parametrize("seed", range(5))
def test_the_pareto_front_is_what_comparing_all_pairs_gives(seed: int) -> None:
    values = torch.randint(0, 12, (40, 2), generator=torch.Generator().manual_seed(seed)).tolist()
    points = [Priced(float(cost), float(distance)) for cost, distance in values]

    def beaten(one: Priced) -> bool:
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
    points = [Priced(1, 5, 0.2), Priced(2, 3, 0.6), Priced(3, 1, 0.95), Priced(4, 0.9, 0.96), Priced(5, 2, None)]
    assert choose(points, target_gap=0.9) == points[2]
    assert choose(points, max_tflop=2.5) == points[1]
    assert choose(points, target_gap=0.5, max_tflop=2.5) == points[1]
    assert choose(points, target_gap=0.9, max_tflop=2.5) is None
    for wrong in ({}, {"target_gap": 90.0}, {"max_tflop": 0.0}):
        with pytest.raises(UsageError):
            choose(points, **wrong)


@pytest.fixture
def swept(
    flux_pair: ModelPair, head: Any, net: FeatureNet, painted: tuple[Generator, Generator], tmp_path: Path
) -> Any:
    settings = settings_of([1, 2], ["sharpen"], [0.5, 1.0], [2])
    return sweep(
        flux_pair, {"sharpen": head}, settings, PROMPTS, SEEDS,
        cache=tmp_path / "cache", batch_size=8, generators=painted, features=net,
    )  # fmt: skip


def test_a_sweep_measures_every_setting_and_both_models(swept: Any, flux_pair: ModelPair) -> None:
    labels = [point.setting.label for point in swept.points]
    assert {"1 step", "2 steps", "1 step + sharpen at 0.5", "baseline, 2 steps"} < set(labels)
    assert len(labels) == len(set(labels))
    own = {point.setting: point for point in swept.points}
    distilled = own[Setting("distilled", flux_pair.distilled.steps)]
    assert distilled.share == pytest.approx(0) and distilled.identity.mean == pytest.approx(1)
    assert swept.baseline.distance == pytest.approx(0, abs=1e-6)
    assert swept.saving(swept.baseline) == (0, 0)
    plain, enhanced = own[Setting("distilled", 1)], own[Setting("distilled", 1, "sharpen")]
    assert enhanced.tflop > plain.tflop and own[Setting("distilled", 2)].tflop > plain.tflop


def test_a_second_sweep_paints_nothing(
    swept: Any, flux_pair: ModelPair, head: Any, net: FeatureNet, painted: tuple[Generator, Generator], tmp_path: Path
) -> None:
    class Broken:
        def __init__(self, spec: Any) -> None:
            self.spec = spec

        def generate(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("painted again")

    again = sweep(
        flux_pair, {"sharpen": head}, [point.setting for point in swept.points], PROMPTS, SEEDS,
        cache=tmp_path / "cache", batch_size=8, features=net,
        generators=(Broken(painted[0].spec), Broken(painted[1].spec)),
    )  # fmt: skip
    distances = {point.setting: point.distance for point in again.points}
    assert distances == {point.setting: point.distance for point in swept.points}


def test_an_unknown_head_is_refused_before_anything_is_loaded(flux_pair: ModelPair) -> None:
    with pytest.raises(UsageError, match="was not given: ghost"):
        sweep(flux_pair, {}, [Setting("distilled", 1, "ghost")], PROMPTS, SEEDS)


def test_files_hold_the_sweep_and_the_choice(swept: Any, tmp_path: Path) -> None:
    chosen = next(point for point in swept.points if point.setting.head is not None)
    write_frontier(tmp_path / "out", swept, chosen, "a wish <b>")
    record = json.loads((tmp_path / "out" / "frontier.json").read_text())
    assert record["chosen"] == chosen.setting.label and record["n"] == len(PROMPTS)
    assert {row["label"] for row in record["points"]} == {point.setting.label for point in swept.points}
    assert (tmp_path / "out" / "frontier.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "out" / "frontier.html").read_text()
    assert chosen.setting.label in page and "<svg" in page and 'src="http' not in page
    save_choice(tmp_path / "pipeline.yaml", swept, chosen, "mini", {"sharpen": "runs/sharpen"})
    config = load_config(tmp_path / "pipeline.yaml", PipelineConfig)
    assert (config.pair, config.head) == ("mini", "runs/sharpen")
    assert (config.steps, config.strength) == (chosen.setting.steps, chosen.setting.strength)
