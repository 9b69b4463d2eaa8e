"""The files of a report: that they agree, stand alone and stay small, and who is shown."""

from __future__ import annotations

import json
import re
import weakref
from html import unescape
from pathlib import Path

import pytest
import torch
from torch import Tensor

from topcoat.features import FeatureNet
from topcoat.images import gaussian_blur
from topcoat.metrics.evaluate import evaluate
from topcoat.metrics.evaluation import Evaluation, choose_examples
from topcoat.metrics.spectrum import radial_spectrum
from topcoat.reports.evaluation import LARGEST_BYTES, SubjectImages, groups_drawn, page, write_report


@pytest.fixture(scope="module")
def sets(images: Tensor, other_images: Tensor) -> dict[str, Tensor]:
    soft, half = gaussian_blur(images, 1.2), gaussian_blur(images, 0.6)
    return {"distilled": soft, "enhanced": half, "baseline": images, "floor": other_images}


@pytest.fixture(scope="module")
def found(sets: dict[str, Tensor], net: FeatureNet) -> Evaluation:
    groups = [{"age": "old" if index % 2 else "young"} for index in range(24)]
    gated = torch.cat([sets["enhanced"][:20], sets["distilled"][20:]])
    return evaluate(
        sets["enhanced"],
        reference=sets["baseline"],
        distilled=sets["distilled"],
        gated=gated,
        floor=sets["floor"],
        features=net,
        groups=groups,
    )


def test_the_places_are_those_of_the_figures() -> None:
    values = torch.tensor([0.3, 0.9, 0.1, float("nan"), 0.5, 0.7, 0.2])
    chosen = choose_examples("identity", values, best_is_high=True, each=1)
    assert [(one.place, one.index) for one in chosen] == [("best", 1), ("median", 4), ("worst", 2)]
    low = choose_examples("distance", values, best_is_high=False, each=2)
    assert [(one.place, one.index) for one in low if one.place != "median"] == [
        ("best", 2), ("best", 6), ("worst", 1), ("worst", 5),
    ]  # fmt: skip
    assert [one.place for one in choose_examples("d", values[:1], best_is_high=True)] == ["best"]
    assert choose_examples("d", values[3:4], best_is_high=True) == ()


def test_the_files_agree_and_stand_alone(
    found: Evaluation, sets: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[weakref.ref[Tensor]] = []
    asked: list[int] = []

    def look_up(index: int) -> SubjectImages:
        asked.append(index)
        images = {name: sets[name][index].clone() for name in ("distilled", "enhanced", "baseline")}
        alive.extend(weakref.ref(image) for image in images.values())
        return images, f"subject {index} <b>"

    write_report(tmp_path, found, look_up, about="a & b", inputs={"head": "abc"}, left_out=["05.png is damaged"])
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "report.json", "report.md", "contact.png"}
    record = json.loads((tmp_path / "report.json").read_text())
    assert record["inputs"] == {"head": "abc"} and record["left_out"] == ["05.png is damaged"]
    assert asked == list(dict.fromkeys(one["index"] for one in record["examples"]))  # no other, and none twice
    assert not any(image() is not None for image in alive)
    html = (tmp_path / "report.html").read_text()
    links = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert links and all(link.startswith("data:") for link in links)
    assert "url(" not in html and "@import" not in html and "<b>best by identity" in html
    text = unescape(html).replace("\xa0", " ")
    assert f"{(found.value('gap_closed') or 0) * 100:.0f} % of the gap" in text
    for word in (
        "a & b",
        "subject",
        "What gates did",
        "enhanced, with gates",
        "age = old",
        "Left out: 05.png is damaged",
        '"seed": 0',
    ):
        assert word in text, word
    for title in ("Distance to the baseline", "Share of the gap closed", "Power spectra", "Identity by group"):
        assert f'aria-label="{title}' in html or f"<h3>{title}" in html or title.lower() in html.lower(), title
    shares = [found.value(f"{name}_share", "gated") for name in ("enhanced", "distilled", "weakened")]
    assert shares == pytest.approx([20 / 24, 4 / 24, 0])


def test_large_images_do_not_make_a_large_page(found: Evaluation) -> None:
    noise = torch.rand(3, 3, 1400, 1000, generator=torch.Generator().manual_seed(0))
    subject: SubjectImages = dict(zip(("distilled", "enhanced", "baseline"), noise, strict=True)), "noise"
    text = page(found, [("worst", subject)] * 12)
    assert 1_000_000 < len(text) < LARGEST_BYTES


def test_sets_of_other_subjects_have_no_slider(images: Tensor, net: FeatureNet, tmp_path: Path) -> None:
    found = evaluate(images[:12], reference=images, features=net)

    def never(index: int) -> SubjectImages:
        raise AssertionError(index)

    write_report(tmp_path, found, never)
    html = (tmp_path / "report.html").read_text()
    assert found.examples == () and "<script" not in html and "slider" not in html.partition("</style>")[2]
    assert not (tmp_path / "contact.png").exists()


def test_spectra_are_those_of_the_sets(found: Evaluation, sets: dict[str, Tensor]) -> None:
    power = {curve.arm: curve.y for curve in found.curves if curve.metric == "power_spectrum"}
    for name, images in (("distilled", sets["distilled"]), ("reference", sets["baseline"])):
        expected = radial_spectrum(images).nan_to_num(0.0).mean(dim=0)
        torch.testing.assert_close(torch.tensor(power[name], dtype=torch.float64), expected)
    assert power["distilled"][-4] < power["reference"][-4] / 10


def test_a_group_that_exceeds_noise_has_another_colour(net: FeatureNet, images: Tensor, other_images: Tensor) -> None:
    soft, sharp = gaussian_blur(images, 1.0).repeat(2, 1, 1, 1), images.repeat(2, 1, 1, 1)
    spoiled = torch.cat([soft[:24], other_images])
    groups = [{"half": "first" if index < 24 else "second"} for index in range(48)]
    found = evaluate(spoiled, reference=sharp, distilled=soft, features=net, groups=groups, metrics=["groups"])
    assert found.groups is not None and found.groups.differences
    assert "var(--warn)" in "".join(chart.drawing for chart in groups_drawn(found.groups))
