from __future__ import annotations

import html.parser
import json
import math
import re
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from topcoat.errors import UsageError
from topcoat.features import FeatureNet
from topcoat.generators.base import ModelPair
from topcoat.images import decode_image
from topcoat.metrics.spectrum import radial_spectrum
from topcoat.pairs import PairDataset, build_pairs
from topcoat.pairs import dataset as module
from topcoat.pairs import inspect as inspect_module
from topcoat.pairs.duplicates import near_duplicates
from topcoat.pairs.inspect import SHOWN_PAIRS, SIDES, Inspection, brightness, evenness, inspect_pairs, sharpness
from topcoat.prompts import prompt_from_text, sample_prompts
from topcoat.reports.pairs import findings, render_pairs_page


@pytest.fixture
def dataset(tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> PairDataset:
    """30 pairs; the last two show the subjects of the first two again, with their seeds."""
    prompts: list[Any] = sample_prompts(28)
    again = [type(prompts[0])(id=f"again-{index}", text=prompts[index].text) for index in range(2)]
    seeds = [*range(100, 128), 100, 101]
    return build_pairs(
        tmp_path / "pairs", [*prompts, *again], fake_pair, seeds=seeds, shard_size=8, generators=fake_generators
    )


@pytest.fixture
def found(dataset: PairDataset) -> Inspection:
    return inspect_pairs(dataset, FeatureNet.tiny(0), duplicate_threshold=1.0)


def test_the_figures_are_those_of_all_images(dataset: PairDataset, found: Inspection) -> None:
    assert found.pairs == 30 and found.sizes_px == {(32, 32): 30}
    assert sum(found.splits.values()) == 30
    assert found.seeds == {"lowest": 100, "highest": 127, "doubled": 4}
    for side in SIDES:
        images = torch.stack([dataset.image(index, side) for index in range(30)])
        figures = found.sides[side]
        torch.testing.assert_close(figures.values["brightness"], brightness(images).float())
        torch.testing.assert_close(figures.values["sharpness"], sharpness(images).float())
        torch.testing.assert_close(figures.spectrum, radial_spectrum(images).nanmean(dim=0), equal_nan=True)
    assert found.fine_detail < 0.9  # the plastic generator blurs
    assert found.bytes == sum(path.stat().st_size for path in dataset.folder.glob("data/*"))
    assert float(found.matched.mean()) > float(found.mismatched.mean())


def test_duplicates_are_those_that_dedupe_drops(dataset: PairDataset, found: Inspection) -> None:
    dropped = {
        name: result
        for name, result in near_duplicates(dataset, 1.0, net=FeatureNet.tiny(0)).items()
        if not result.keep
    }
    assert {item.id for item in found.duplicates} == set(dropped) == {"again-0-100", "again-1-101"}
    for item in found.duplicates:
        assert item.of in dropped[item.id].reason
        splits = {record.id: record.split for record in dataset.records}
        assert item.leaks == (splits[item.id] != splits[item.of])


def test_every_image_is_decoded_once(dataset: PairDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def counted(data: bytes, name: str) -> Any:
        calls.append(name)
        return decode_image(data, name)

    monkeypatch.setattr(module, "decode_image", counted)
    inspect_pairs(dataset, FeatureNet.tiny(0))
    assert len(calls) == len(set(calls)) == 60


def test_images_are_let_go(dataset: PairDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect_module, "SHOWN_PAIRS", 3)
    alive: list[weakref.ref[Any]] = []
    most = 0

    def watched(data: bytes, name: str) -> Any:
        nonlocal most
        image = decode_image(data, name)
        alive.append(weakref.ref(image))
        most = max(most, sum(item() is not None for item in alive))
        return image

    monkeypatch.setattr(module, "decode_image", watched)
    found = inspect_pairs(dataset, FeatureNet.tiny(0))
    assert len(found.shown) == 3
    assert most <= 2 * 3 + 4  # the contact sheet, the pair at hand and the one before


def test_the_contact_sheet_is_evenly_spread(dataset: PairDataset, found: Inspection) -> None:
    assert len(found.shown) == SHOWN_PAIRS
    ids = [record.id for record in dataset.records]
    places = [ids.index(item.record.id) for item in found.shown]
    assert places[0] == 0 and places[-1] == 29 and places == sorted(places)
    assert torch.equal(found.shown[5].images["baseline"], dataset.baseline[places[5]])


def test_balance_counts_every_attribute(dataset: PairDataset, found: Inspection) -> None:
    ages = found.attributes["age"]
    assert sum(ages.values()) == 28  # the two that came again say nothing of themselves
    assert evenness(ages) > 0.98
    assert evenness({"a": 5}) == 1
    assert evenness({"a": 3, "b": 1}) == pytest.approx(0.811278, abs=1e-6)


def test_the_record_is_json_without_nan(found: Inspection) -> None:
    record = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert record["pairs"] == 30 and record["size_px"] == {"width": 32, "height": 32}
    assert record["near_duplicates"]["count"] == 2 and record["near_duplicates"]["rate"] == pytest.approx(2 / 30)
    low, middle, high = (record["sides"]["baseline"]["brightness"][name] for name in ("minimum", "median", "maximum"))
    assert low <= middle <= high
    assert len(record["cycles_per_px"]) == len(record["sides"]["distilled"]["power_spectrum"])


def test_thresholds_outside_the_cosines(dataset: PairDataset) -> None:
    with pytest.raises(UsageError, match="more than 0 and at most 1"):
        inspect_pairs(dataset, FeatureNet.tiny(0), duplicate_threshold=2)


class _Checker(html.parser.HTMLParser):
    """Counts tags and keeps a stack, so that an unclosed one is found."""

    VOID = frozenset({"meta", "link", "img", "br", "path", "rect", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.counts: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag


def test_the_page_is_whole_and_self_contained(found: Inspection) -> None:
    page = render_pairs_page(found)
    checker = _Checker()
    checker.feed(page)
    assert checker.stack == []
    assert checker.counts["img"] == 2 * SHOWN_PAIRS and checker.counts["svg"] == 8
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page) and "http" not in page.replace("http-equiv", "")
    assert "30 pairs of 32 x 32 px" in page and "Near-duplicates" in page and "again-1-101" in page


def test_what_stands_out_is_said(found: Inspection) -> None:
    text = " ".join(findings(found))
    assert "4 pairs share their seed" in text and "2 pairs show the subject of an earlier pair again" in text
    assert "could not be made" not in text


def test_texts_of_prompts_are_escaped(tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> None:
    prompts = [prompt_from_text('a <script>alert(1)</script> & "portrait"')]
    pairs = build_pairs(tmp_path / "p", prompts, fake_pair, generators=fake_generators)
    found = inspect_pairs(pairs, FeatureNet.tiny(0))
    page = render_pairs_page(found)
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert not math.isnan(found.fine_detail)


def test_failures_are_told(tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> None:
    fake_generators[1].fails_on = 3
    pairs = build_pairs(tmp_path / "p", sample_prompts(6), fake_pair, seeds=range(6), generators=fake_generators)
    found = inspect_pairs(pairs, FeatureNet.tiny(0))
    assert len(found.failures) == 1 and "seed 3 cannot be painted" in found.failures[0].error
    assert "seed 3 cannot be painted" in render_pairs_page(found)
    assert findings(found)[0] == "1 pair could not be made; the same build command tries again."
