"""What a build can add to the two images of the default: step counts, latents, image-to-image, filters."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pydantic
import pytest
import torch
from torch import Tensor

from tests.pairs.building import PROMPTS, all_bytes, build
from topcoat.errors import DataError, ModelError, UsageError
from topcoat.generators.base import ModelPair
from topcoat.images import decode_image
from topcoat.pairs import PairingConfig, drop_pairs
from topcoat.pairs.filters import FilterResult
from topcoat.pairs.schema import default_seed, read_records

TEXTS = [prompt.text for prompt in PROMPTS]
SEEDS = [default_seed(position) for position in range(11)]


def rounded(images: Tensor) -> Tensor:
    return images.mul(255).round().div(255)


@dataclass
class Brighter:
    """Keeps pairs whose baseline is brighter than ``least``; counts what it checked."""

    least: float
    name: str = "brighter"
    checked: int = 0

    def check(self, distilled: Tensor, baseline: Tensor) -> list[FilterResult]:
        self.checked += len(baseline)
        means = baseline.mean(dim=(1, 2, 3)).tolist()
        return [
            FilterResult(mean > self.least, "" if mean > self.least else f"mean {mean:.3f}", mean) for mean in means
        ]


@pytest.fixture
def middle(fake_generators: Any) -> float:
    """A brightness that some baselines have and others have not."""
    means = rounded(fake_generators[1].generate(TEXTS, SEEDS)).mean(dim=(1, 2, 3))
    return float(means.median())


def test_several_step_counts_in_one_pass(tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> None:
    dataset = build(tmp_path, fake_pair, fake_generators, pairing=PairingConfig(distilled_steps=(4, 1, 2)))
    assert dataset.steps == (2, 1, 4)
    for steps in (1, 2, 4):
        view = dataset.with_steps(steps)
        wanted = rounded(fake_generators[0].generate(TEXTS, SEEDS, steps=steps))
        assert torch.equal(torch.stack(list(view.distilled)), wanted)
        assert torch.equal(view[3].distilled, wanted[3]) and torch.equal(view[3].baseline, dataset[3].baseline)
    assert dataset.with_steps(2).digest == dataset.digest != dataset.with_steps(4).digest
    assert dataset.with_steps(4).split("train").records == dataset.split("train").records
    assert torch.equal(
        dataset.split("train").with_steps(4)[0].distilled, dataset.with_steps(4).split("train")[0].distilled
    )
    with pytest.raises(UsageError, match="no distilled images of 3 steps; use one of: 2, 1, 4"):
        dataset.with_steps(3)
    row = pq.read_table(tmp_path / "data" / "train-00000.parquet").to_pylist()[0]
    assert decode_image(row["distilled_steps_4"]["bytes"]).shape == (3, 32, 32)
    assert row["distilled_steps_1"]["path"].endswith("-distilled_steps_1.png")
    assert "`distilled_steps_4`, float16" not in (tmp_path / "README.md").read_text()
    assert "| distilled_steps_4 | the distilled image after 4 steps |" in (tmp_path / "README.md").read_text()


def test_latents_and_image_are_of_one_generation(tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> None:
    pairing = PairingConfig(latents=True, distilled_steps=(1,))
    dataset = build(tmp_path / "a", fake_pair, fake_generators, pairing=pairing)
    plain = build(tmp_path / "b", fake_pair, fake_generators)
    for steps in (2, 1):
        view = dataset.with_steps(steps)
        latents = fake_generators[0].generate_latents(TEXTS, SEEDS, steps=steps)
        kept = view[5].latents
        assert kept is not None and kept.dtype == torch.float32 and torch.equal(kept, latents[5].half().float())
        # the image was decoded before the latents were rounded, so decoding them again is close and no more
        assert torch.allclose(fake_generators[0].decode(kept[None])[0], view[5].distilled, atol=0.01)
    assert torch.equal(torch.stack(list(dataset.distilled)), torch.stack(list(plain.distilled)))
    assert plain[0].latents is None
    table = pq.read_table(tmp_path / "a" / "data" / "train-00001.parquet")
    assert str(table.schema.field("latents").type).count("list") == 3 and "halffloat" in str(table.schema)
    first = torch.tensor(table.to_pylist()[1]["latents"])
    kept = dataset[5].latents
    assert first.shape == (16, 4, 4) and kept is not None and torch.equal(first.float(), kept)
    calls = fake_generators[0].calls
    calls.clear()
    build(tmp_path / "c", fake_pair, fake_generators, pairing=PairingConfig(latents=True))
    assert sum(calls) == 11, "one generation gives both"


def test_baseline_latents_are_those_of_its_image(tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> None:
    pairing = PairingConfig(latents=True, baseline_latents=True)
    dataset = build(tmp_path / "a", fake_pair, fake_generators, pairing=pairing)
    plain = build(tmp_path / "b", fake_pair, fake_generators)
    latents = fake_generators[1].generate_latents(TEXTS, SEEDS)
    ours = fake_generators[0].generate_latents(TEXTS, SEEDS)
    for index in (0, 5, 10):
        pair = dataset[index]
        assert pair.baseline_latents is not None and pair.latents is not None
        assert torch.equal(pair.baseline_latents, latents[index].half().float())
        assert torch.equal(pair.latents, ours[index].half().float())
    assert torch.equal(torch.stack(list(dataset.baseline)), torch.stack(list(plain.baseline)))
    assert plain[0].baseline_latents is None and plain.baseline_latents(0) is None
    assert "| latents_baseline | the latents of `baseline`" in (tmp_path / "a" / "README.md").read_text()
    with pytest.raises(DataError, match=r"pairing\.baseline_latents: true, not false"):
        build(tmp_path / "a", fake_pair, fake_generators, pairing=PairingConfig(latents=True))
    calls = fake_generators[1].calls
    calls.clear()
    build(tmp_path / "c", fake_pair, fake_generators, pairing=PairingConfig(baseline_latents=True))
    assert sum(calls) == 11, "one generation gives both"


def test_baseline_latents_need_a_baseline_that_generates_here(
    tmp_path: Path, fake_pair: ModelPair, fake_generators: Any
) -> None:
    with pytest.raises(pydantic.ValidationError, match="belongs to the pairing same-seed"):
        PairingConfig(method="img2img", strength=0.5, baseline_latents=True)
    build(tmp_path / "a", fake_pair, fake_generators)
    with pytest.raises(UsageError, match="come without latents; leave out one of the two"):
        build(
            tmp_path / "b",
            fake_pair,
            fake_generators,
            pairing=PairingConfig(baseline_latents=True),
            baseline_from=tmp_path / "a",
        )
    assert not (tmp_path / "b").exists()


def test_latents_survive_a_resume(tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> None:
    pairing = PairingConfig(latents=True, baseline_latents=True, distilled_steps=(1,))
    build(tmp_path / "whole", fake_pair, fake_generators, pairing=pairing)
    build(tmp_path / "grown", fake_pair, fake_generators, pairing=pairing, prompts=PROMPTS[:6])
    build(tmp_path / "grown", fake_pair, fake_generators, pairing=pairing)
    assert all_bytes(tmp_path / "whole") == all_bytes(tmp_path / "grown")


def test_img2img_starts_from_the_file_of_the_distilled_image(
    tmp_path: Path, fake_pair: ModelPair, fake_generators: Any
) -> None:
    pairing = PairingConfig(method="img2img", strength=0.5)
    dataset = build(tmp_path, fake_pair, fake_generators, pairing=pairing)
    distilled = torch.stack(list(dataset.distilled))
    wanted = fake_generators[1].img2img(distilled, TEXTS, SEEDS, strength=0.5)
    assert torch.equal(torch.stack(list(dataset.baseline)), rounded(wanted))
    assert dataset.pairing == PairingConfig(method="img2img", strength=0.5)
    assert "started from the fast one's image (image-to-image, strength 0.5)" in (tmp_path / "README.md").read_text()
    with pytest.raises(
        DataError, match=r'other settings \(pairing.method: "img2img", not "same-seed"; pairing.strength: 0.5'
    ):
        build(tmp_path, fake_pair, fake_generators)


def test_a_failed_distilled_image_gets_no_baseline(tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> None:
    fake_generators[0].nan_on = default_seed(4)
    pairing = PairingConfig(method="img2img", strength=0.5)
    dataset = build(tmp_path, fake_pair, fake_generators, pairing=pairing)
    (failure,) = dataset.manifest.failures
    assert failure.seed == default_seed(4) and "NaN" in failure.error and len(dataset) == 10


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "img2img"}, "needs a strength"),
        ({"strength": 0.5}, "belongs to the pairing img2img"),
        ({"method": "img2img", "strength": 1.5}, "less than or equal to 1"),
        ({"method": "guess"}, "same-seed"),
        ({"distilled_steps": (0,)}, r"distilled_steps\.0\s+Input should be greater than or equal to 1"),
    ],
)
def test_impossible_pairings(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=words):
        PairingConfig(**settings)


class OnlyImages:
    """A generator that can do no more than it must."""

    def __init__(self, whole: Any) -> None:
        self.spec = whole.spec
        self.generate = whole.generate


@pytest.mark.parametrize(
    ("pairing", "words"),
    [
        (PairingConfig(latents=True), "plastic gives no latents"),
        (PairingConfig(method="img2img", strength=0.5), "good cannot do image-to-image"),
    ],
)
def test_what_a_model_cannot_do_is_one_sentence(
    tmp_path: Path, fake_pair: ModelPair, fake_generators: Any, pairing: PairingConfig, words: str
) -> None:
    plain: Any = tuple(OnlyImages(generator) for generator in fake_generators)
    with pytest.raises(UsageError, match=words):
        build(tmp_path, fake_pair, plain, pairing=pairing)
    assert len(build(tmp_path, fake_pair, plain)) == 11, "a build that made nothing does not bind the next one"


def test_filters_leave_pairs_out_with_reason_and_score(
    tmp_path: Path, fake_pair: ModelPair, fake_generators: Any, middle: float
) -> None:
    bright_only = Brighter(middle)
    dataset = build(tmp_path, fake_pair, fake_generators, filters=[bright_only])
    plain = build(tmp_path.with_name("plain"), fake_pair, fake_generators)
    means = {record.id: float(image.mean()) for record, image in zip(plain.records, plain.baseline, strict=True)}
    bright = [name for name, mean in means.items() if mean > middle]
    assert [record.id for record in dataset.records] == bright and 0 < len(bright) < 11
    gone = dataset.manifest.dropped
    assert [item.id for item in gone] == [name for name in means if name not in bright]
    assert all(item.filter == "brighter" and item.reason.startswith("mean") for item in gone)
    assert gone[0].score == pytest.approx(means[gone[0].id])
    assert f"Filters left out {len(gone)} ({len(gone)} by brighter)" in (tmp_path / "README.md").read_text()

    before, bright_only.checked = all_bytes(tmp_path), 0
    assert len(build(tmp_path, fake_pair, fake_generators, filters=[bright_only])) == len(bright)
    assert bright_only.checked == 0 and all_bytes(tmp_path) == before, "dropped is done"
    with pytest.raises(DataError, match=r'filters: \["brighter"\], not \[\]'):
        build(tmp_path, fake_pair, fake_generators)


def test_a_filter_may_drop_a_whole_shard(tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> None:
    dataset = build(tmp_path, fake_pair, fake_generators, filters=[Brighter(2.0)])
    assert len(dataset) == 0 and len(dataset.manifest.dropped) == 11
    assert [entry.rows for entry in dataset.manifest.shards] == [0, 0, 0]


def test_a_filter_resumes_to_the_same_bytes(
    tmp_path: Path, fake_pair: ModelPair, fake_generators: Any, middle: float
) -> None:
    build(tmp_path / "whole", fake_pair, fake_generators, filters=[Brighter(middle)])
    build(tmp_path / "cut", fake_pair, fake_generators, filters=[Brighter(middle)], prompts=PROMPTS[:6])
    path = tmp_path / "cut" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["shards"].pop()
    manifest["dropped"] = [item for item in manifest["dropped"] if item["seed"] < default_seed(4)]
    path.write_text(json.dumps(manifest))  # as a kill leaves it between a shard and its entry
    build(tmp_path / "cut", fake_pair, fake_generators, filters=[Brighter(middle)])
    assert all_bytes(tmp_path / "cut") == all_bytes(tmp_path / "whole")


def test_filters_by_name_are_loaded_late_and_checked_early(
    tmp_path: Path, fake_pair: ModelPair, fake_generators: Any
) -> None:
    dataset = build(tmp_path / "a", fake_pair, fake_generators, filters=["blank", Brighter(0.0)])
    assert dataset.manifest.filters == ("blank", "brighter") and len(dataset) == 11
    with pytest.raises(UsageError, match="no filter is called 'pretty'"):
        build(tmp_path / "b", fake_pair, fake_generators, filters=["pretty"])
    with pytest.raises(UsageError, match="given twice"):
        build(tmp_path / "b", fake_pair, fake_generators, filters=[Brighter(0.0), Brighter(0.1)])
    assert not (tmp_path / "b").exists()


class Faulty(Brighter):
    def check(self, distilled: Tensor, baseline: Tensor) -> list[FilterResult]:
        if self.least:
            return super().check(distilled, baseline)[1:]
        raise ZeroDivisionError("no")


@pytest.mark.parametrize(("least", "words"), [(0.0, r"filter brighter failed \(no\)"), (0.1, "gave 2 results for 3")])
def test_a_faulty_filter_stops_the_build(
    tmp_path: Path, fake_pair: ModelPair, fake_generators: Any, least: float, words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        build(tmp_path, fake_pair, fake_generators, filters=[Faulty(least)])
    assert not list(tmp_path.glob("data/*"))


def test_pairs_of_a_finished_dataset_are_dropped(tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> None:
    pairing = PairingConfig(latents=True)
    dataset = build(tmp_path, fake_pair, fake_generators, pairing=pairing)
    wanted = {record.id: dataset[index] for index, record in enumerate(dataset.records)}
    gone = [dataset.records[index].id for index in (1, 2, 9)]
    results = {name: FilterResult(name not in gone, "double" if name in gone else "", float("nan")) for name in wanted}
    smaller = drop_pairs(tmp_path, results, "near-duplicate")
    assert [record.id for record in smaller.records] == [name for name in wanted if name not in gone]
    for pair in smaller:
        assert torch.equal(pair.baseline, wanted[pair.record.id].baseline)
        latents, before = pair.latents, wanted[pair.record.id].latents
        assert latents is not None and before is not None and torch.equal(latents, before)
    assert [(item.id, item.filter, item.score) for item in smaller.manifest.dropped] == [
        (name, "near-duplicate", None) for name in gone
    ]
    smaller.verify()
    before, fake_generators[0].calls[:] = all_bytes(tmp_path), []
    assert len(drop_pairs(tmp_path, results, "near-duplicate")) == 8, "again changes nothing"
    assert len(build(tmp_path, fake_pair, fake_generators, pairing=pairing)) == 8, "nor does building"
    assert fake_generators[0].calls == [] and all_bytes(tmp_path) == before
    with pytest.raises(UsageError, match="has no pair someone-else"):
        drop_pairs(tmp_path, {"someone-else": FilterResult(False, "x", 0.0)}, "near-duplicate")


@pytest.mark.parametrize("continue_by", ["drop", "build"])
@pytest.mark.parametrize("writes", range(1, 6))
def test_a_drop_that_is_killed_continues(
    tmp_path: Path,
    fake_pair: ModelPair,
    fake_generators: Any,
    monkeypatch: pytest.MonkeyPatch,
    continue_by: str,
    writes: int,
) -> None:
    """Killed before the n-th file takes its place: one manifest, then a shard and a manifest for each of two shards."""
    dataset = build(tmp_path / "whole", fake_pair, fake_generators)
    build(tmp_path / "cut", fake_pair, fake_generators)
    results = {dataset.records[index].id: FilterResult(False, "double", 0.5) for index in (1, 9)}
    drop_pairs(tmp_path / "whole", results, "near-duplicate")

    class Kill(BaseException):
        pass

    count, replace = [0], os.replace

    def killed(*arguments: Any) -> None:
        count[0] += 1
        if count[0] == writes:
            raise Kill
        replace(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("topcoat.files.os.replace", killed)
        with pytest.raises(Kill):
            drop_pairs(tmp_path / "cut", results, "near-duplicate")
    if continue_by == "build":
        build(tmp_path / "cut", fake_pair, fake_generators)
        ids = {record.id for path in (tmp_path / "cut").glob("data/*.parquet") for record in read_records(path)}
        assert len(ids) >= 9
    drop_pairs(tmp_path / "cut", results, "near-duplicate")
    assert all_bytes(tmp_path / "cut") == all_bytes(tmp_path / "whole")
