from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from topcoat.errors import DataError, UsageError
from topcoat.features import FeatureNet
from topcoat.generators.base import ModelPair
from topcoat.pairs import PairDataset, build_pairs
from topcoat.pairs.filters import SameSubjectFilter
from topcoat.pairs.similarity import (
    Calibration,
    calibrate,
    pair_similarity,
    read_calibration,
    spread,
    write_calibration,
)
from topcoat.prompts import sample_prompts


@pytest.fixture
def dataset(tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> PairDataset:
    return build_pairs(tmp_path / "pairs", sample_prompts(30), fake_pair, generators=fake_generators)


@pytest.fixture
def net() -> FeatureNet:
    return FeatureNet.tiny(0)


def test_thresholds_hold_the_false_accept_rate(dataset: PairDataset, net: FeatureNet) -> None:
    found = calibrate(dataset, net, false_accept_rate=0.05)
    assert (found.pairs, found.shuffled) == (30, 120)
    assert found.false_accept_rate <= 0.05
    assert found.structure.same.minimum > found.structure.different.p95
    for measure in (found.features, found.structure):
        assert measure.threshold == pytest.approx(measure.different.p95, abs=0.02)
    assert found.dataset_digest == dataset.digest and found.net_digest == net.digest
    x, y = torch.stack(list(dataset.distilled)), torch.stack(list(dataset.baseline))
    features, structure = pair_similarity(net, x, y)
    dropped = (features < found.features.threshold) | (structure < found.structure.threshold)
    assert found.false_reject_rate == pytest.approx(float(dropped.double().mean()))
    assert found.features.same.median == pytest.approx(float(features.double().quantile(0.5)), abs=1e-6)
    results = SameSubjectFilter(found, net).check(x, y)
    assert [result.keep for result in results] == (~dropped).tolist()


def test_a_lower_rate_gives_higher_thresholds(dataset: PairDataset, net: FeatureNet) -> None:
    rates = (0.3, 0.1, 0.02)
    found = [calibrate(dataset, net, false_accept_rate=rate) for rate in rates]
    for kind in ("features", "structure"):
        thresholds = [getattr(item, kind).threshold for item in found]
        assert thresholds == sorted(thresholds)
    assert calibrate(dataset, net, false_accept_rate=0.1) == found[1]


def test_subjects_with_one_prompt_are_not_mismatched(
    tmp_path: Path, fake_pair: ModelPair, fake_generators: Any, net: FeatureNet
) -> None:
    prompt = sample_prompts(1)[0]
    same = build_pairs(tmp_path / "p", [prompt] * 10, fake_pair, seeds=range(10), generators=fake_generators)
    with pytest.raises(UsageError, match="10 pairs give 0 comparisons of different subjects"):
        calibrate(same, net, false_accept_rate=0.5)


def test_a_rate_that_so_few_pairs_cannot_show(dataset: PairDataset, net: FeatureNet) -> None:
    with pytest.raises(UsageError, match=r"30 pairs give 120 comparisons.* use more pairs or a rate above 0.0083"):
        calibrate(dataset, net, false_accept_rate=0.001)
    for rate in (0.0, 1.0, -1.0):
        with pytest.raises(UsageError, match="more than 0 and less than 1"):
            calibrate(dataset, net, false_accept_rate=rate)


def test_a_calibration_survives_its_file(dataset: PairDataset, net: FeatureNet, tmp_path: Path) -> None:
    found = calibrate(dataset, net, false_accept_rate=0.1)
    path = tmp_path / "c.json"
    write_calibration(path, found)
    assert read_calibration(path) == found
    data = json.loads(path.read_text())
    for change, message in (
        ({"format_version": 9}, "is not a calibration of format version 2"),
        ({"extra": 1}, "extra: unknown key"),
    ):
        path.write_text(json.dumps(data | change))
        with pytest.raises(DataError, match=message):
            read_calibration(path)
    path.write_text("[]")
    with pytest.raises(DataError, match="is not a calibration"):
        read_calibration(path)
    assert Calibration.model_validate(data) == found


@pytest.mark.parametrize(("count", "most"), [(0, 5), (3, 5), (5, 5), (100, 7), (9, 1)])
def test_rows_are_spread_evenly_from_the_first_to_the_last(count: int, most: int) -> None:
    rows = spread(count, most)
    assert len(rows) == len(set(rows)) == min(count, most)
    assert rows == sorted(rows) and (not rows or rows[0] == 0)
    if len(rows) > 1:
        assert rows[-1] == count - 1
        steps = [b - a for a, b in itertools.pairwise(rows)]
        assert max(steps) - min(steps) <= 1
