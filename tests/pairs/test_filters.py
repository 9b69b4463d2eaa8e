from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from topcoat.embedded import MINI
from topcoat.errors import DataError, UsageError
from topcoat.features import FeatureNet, load_feature_net
from topcoat.pairs.filters import (
    BlankFilter,
    FilterResult,
    PairFilter,
    SameSubjectFilter,
    UserFilter,
    filter_labels,
    open_filters,
)
from topcoat.pairs.similarity import Calibration, Distribution, Threshold, write_calibration

PHOTO = 0.2 + 0.6 * torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))


def calibration(net: FeatureNet, features: float, structure: float) -> Calibration:
    spread = Distribution(minimum=0, p01=0, p05=0, median=0, p95=0, p99=0, maximum=0)
    return Calibration(
        pair="t",
        dataset_digest="d",
        net_digest=net.digest,
        pairs=1,
        shuffled=1,
        wanted_false_accept_rate=0.01,
        false_accept_rate=0,
        false_reject_rate=0,
        features=Threshold(threshold=features, false_reject_rate=0, same=spread, different=spread),
        structure=Threshold(threshold=structure, false_reject_rate=0, same=spread, different=spread),
    )


def bad_images() -> dict[str, torch.Tensor]:
    holes = PHOTO.clone()
    holes[1, 3, 4] = float("nan")
    burnt = PHOTO.clone()
    burnt[:, 2:] = 1.0
    return {
        "baseline is blank (standard deviation 0.0000)": torch.full((3, 32, 32), 0.5),
        "baseline holds NaN or infinite values": holes,
        "baseline is saturated (94% of its values are 0 or 1)": burnt,
    }


@pytest.mark.parametrize("reason", bad_images())
def test_blank_images_are_dropped_with_their_reason(reason: str) -> None:
    bad = bad_images()[reason]
    kept, dropped = BlankFilter().check(torch.stack([PHOTO, PHOTO]), torch.stack([PHOTO, bad]))
    assert kept.keep and kept.reason == "" and kept.score == pytest.approx(float(PHOTO.std()), rel=1e-3)
    assert not dropped.keep and dropped.reason == reason
    (other,) = BlankFilter().check(bad[None], PHOTO[None])
    assert other.reason == reason.replace("baseline", "distilled")


def test_a_dark_portrait_on_white_is_not_blank() -> None:
    image = torch.ones(3, 32, 32)
    image[:, 8:28, 8:24] = PHOTO[:, :20, :16]
    assert BlankFilter().check(image[None], image[None])[0].keep


def test_another_subject_is_dropped_by_structure_or_by_features() -> None:
    net = FeatureNet.tiny(0)
    other = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(5))
    distilled, baseline = torch.stack([PHOTO, PHOTO]), torch.stack([PHOTO, other])
    same, different = SameSubjectFilter(calibration(net, -1, 0.5), net).check(distilled, baseline)
    assert same.keep and same.score == pytest.approx(0.5, abs=1e-5)
    assert not different.keep and different.score < 0
    assert different.reason.startswith("not the same subject: structural similarity ")
    assert different.reason.endswith(" is under 0.500")
    (by_features,) = SameSubjectFilter(calibration(net, 1.5, -1), net).check(PHOTO[None], PHOTO[None])
    assert by_features.reason == "not the same subject: feature similarity 1.000 is under 1.500"


def test_a_manifest_tells_thresholds_apart() -> None:
    net = FeatureNet.tiny(0)
    filters = ["blank", SameSubjectFilter(calibration(net, 0.25, 0.5), net)]
    assert filter_labels(filters) == ("blank", "same-subject (features 0.25, structure 0.5)")
    with pytest.raises(UsageError, match="the filter blank is given twice"):
        filter_labels(["blank", "blank"])


def test_a_result_does_not_depend_on_the_batch() -> None:
    net = FeatureNet.tiny(0)
    filter = SameSubjectFilter(calibration(net, 0.9, 0.2), net)
    generator = torch.Generator().manual_seed(3)
    distilled, baseline = (torch.rand(5, 3, 32, 32, generator=generator) for _ in range(2))
    together = filter.check(distilled, baseline)
    assert together == [filter.check(distilled[i : i + 1], baseline[i : i + 1])[0] for i in range(5)]


def test_thresholds_of_another_net_are_refused() -> None:
    net = FeatureNet.tiny(0)
    alien = calibration(net, 0, 0).model_copy(update={"net_digest": "other"})
    with pytest.raises(DataError, match=r"feature net other.*measure them again with: topcoat pairs inspect"):
        SameSubjectFilter(alien, net)


def test_the_embedded_thresholds_tell_portraits_from_noise() -> None:
    (filter,) = open_filters(["same-subject"])
    assert isinstance(filter, SameSubjectFilter)
    assert filter.calibration.pair == "mini" and filter.calibration.pairs >= 100
    assert filter.calibration.false_accept_rate <= filter.calibration.wanted_false_accept_rate
    assert (MINI / "same-subject.json").stat().st_size < 5000
    noise = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(4))
    same, other = filter.check(torch.cat([noise, noise]), torch.cat([noise, 1 - noise]))
    assert same.keep and not other.keep


def test_filters_come_by_name_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.json"
    write_calibration(path, calibration(load_feature_net("loss"), 0.3, 0.4))
    filters = open_filters(["same-subject", "blank", "operator:is_"], calibration=path)
    assert [filter.name for filter in filters] == ["same-subject", "blank", "operator:is_"]
    assert all(isinstance(filter, PairFilter) for filter in filters)
    assert isinstance(filters[0], SameSubjectFilter) and filters[0].calibration.features.threshold == 0.3
    assert open_filters([]) == []


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["sharp"], "no filter is called 'sharp'; use blank, same-subject or your own module:function"),
        (["near-duplicates"], "use: topcoat pairs dedupe"),
        (["blank", "blank"], "given twice"),
        ([":f"], "is incomplete; write module:function"),
        (["no_such_module_here:f"], r"cannot be imported \(ModuleNotFoundError.*check the name"),
        (["math:no_such"], "math has no callable no_such"),
        (["math:pi"], "names no function: math has no callable pi"),
    ],
)
def test_filters_that_cannot_be_had(names: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_filters(names)


def test_a_calibration_without_its_filter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is for the filter same-subject; add it"):
        open_filters(["blank"], calibration=tmp_path / "x.json")
    with pytest.raises(DataError, match="is missing"):
        open_filters(["same-subject"], calibration=tmp_path / "x.json")


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the working folder, as a user has one."""
    (tmp_path / "my_quality.py").write_text(
        "class Rules:\n"
        "    @staticmethod\n"
        "    def bright(distilled, baseline):\n"
        "        assert distilled.shape == baseline.shape == (3, 32, 32) and str(distilled.dtype) == 'float32'\n"
        "        return baseline.mean() > 0.4\n"
        "def detailed(distilled, baseline):\n"
        "    return False, 'too plain', baseline.std()\n"
        "def quiet(distilled, baseline):\n"
        "    return (False, '', 0)\n"
        "def broken(distilled, baseline):\n"
        "    return distilled[9]\n"
        "def nonsense(distilled, baseline):\n"
        "    return 'yes'\n"
        "def endless(distilled, baseline):\n"
        "    return True, '', float('nan')\n"
    )
    monkeypatch.chdir(tmp_path)
    return "my_quality"


def test_a_users_own_function_checks(mine: str) -> None:
    dark = PHOTO[None] * 0.5
    bright = UserFilter(f"{mine}:Rules.bright")
    assert bright.check(PHOTO[None], PHOTO[None]) == [FilterResult(True, "", 1.0)]
    assert bright.check(dark, dark) == [FilterResult(False, f"{mine}:Rules.bright returned False", 0.0)]
    (result,) = UserFilter(f"{mine}:detailed").check(dark, PHOTO[None])
    assert (result.keep, result.reason) == (False, "too plain")
    assert result.score == pytest.approx(float(PHOTO.std(correction=0)), rel=1e-4)
    assert UserFilter(f"{mine}:quiet").check(dark, dark) == [FilterResult(False, f"{mine}:quiet returned False", 0.0)]
    assert pickle.loads(pickle.dumps(bright)).check(PHOTO[None], PHOTO[None])[0].keep


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", "my_quality:broken raised IndexError: .*; correct it"),
        ("nonsense", r"returned 'yes'; return True to keep a pair, False to drop it, or \(keep, reason, score\)"),
        ("endless", "returned the score nan; return a finite number"),
    ],
)
def test_a_users_mistakes_are_said(mine: str, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        UserFilter(f"{mine}:{name}").check(PHOTO[None], PHOTO[None])
