"""What a run does when something goes wrong: bad steps, bad pairs, too little memory, a stop in the middle."""

from __future__ import annotations

import json
import math
import signal
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.fake_pairs import FakeDataset, fake_pair
from tests.training.conftest import assert_same_state, make_pair, state, without_validation
from topcoat.errors import DataError, ModelError, UsageError
from topcoat.features import FeatureNet
from topcoat.heads import Head
from topcoat.training import TrainConfig, train
from topcoat.training.objectives.images import ImageTrainer
from topcoat.training.stage import held_back
from topcoat.training.validation import _batch_size


class Sick(FeatureNet):
    """A feature net that gives NaN at chosen calls."""

    def __init__(self, healthy: FeatureNet, bad_calls: range) -> None:
        super().__init__(healthy.config)
        self.load_state_dict(healthy.state_dict())
        self.bad_calls = bad_calls
        self.calls = 0

    def forward(self, images: Tensor):
        found = super().forward(images)
        self.calls += 1
        if self.calls not in self.bad_calls:
            return found
        return replace(found, stages=tuple(stage * float("nan") for stage in found.stages))


def test_bad_step_is_skipped_and_counted(
    config: TrainConfig, dataset: FakeDataset, features: FeatureNet, tmp_path: Path
):
    sick = Sick(features, range(6, 8))  # both calls of step 3; the first one measures for the discriminator
    run = train(config, without_validation(dataset), tmp_path / "run", images=30, features=sick)
    records = list(run)
    assert [record.skipped_steps for record in records] == [0, 0] + [1] * 8
    assert math.isnan(records[2].loss) and records[2].parts == {}
    assert all(math.isfinite(record.loss) for record in records[3:])
    assert records[-1].validation is None
    assert all(torch.isfinite(value).all() for value in state(tmp_path / "run").values())
    line = json.loads((tmp_path / "run" / "stats.jsonl").read_text().splitlines()[0])
    assert line["images_seen"] == 9 and line["loss"] is None


def test_bad_step_changes_nothing(config: TrainConfig, dataset: FakeDataset, features: FeatureNet, tmp_path: Path):
    sick = Sick(features, range(6, 10**6))
    run = train(config, without_validation(dataset), tmp_path / "run", features=sick)
    list(islice(run, 2))
    run.close()
    before = state(tmp_path / "run")
    run = train(config, without_validation(dataset), tmp_path / "run", features=sick)
    assert math.isnan(next(run).loss)
    run.close()
    after = state(tmp_path / "run")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_many_bad_steps_end_the_run(config: TrainConfig, dataset: FakeDataset, features: FeatureNet, tmp_path: Path):
    settings = config.model_copy(update={"max_bad_steps": 4})
    run = train(settings, without_validation(dataset), tmp_path / "run", features=Sick(features, range(6, 10**6)))
    with pytest.raises(ModelError, match=r"4 steps in a row .* learning_rate below 0\.01"):
        list(run)
    good = Head.from_pretrained(tmp_path / "run")  # as after the two steps that were good
    assert good.facts["images_seen"] == 18
    reference = train(settings, without_validation(dataset), tmp_path / "two", features=features)
    list(islice(reference, 2))
    reference.close()
    assert Head.from_pretrained(tmp_path / "two").digest == good.digest


def test_bad_arguments_are_refused_at_the_call(
    config: TrainConfig, dataset: FakeDataset, features: FeatureNet, tmp_path: Path
):
    with pytest.raises(UsageError, match="use one of"):
        train("nothing", dataset, tmp_path / "run", features=features)
    with pytest.raises(UsageError, match="images"):
        train(config, dataset, tmp_path / "run", images=0, features=features)
    with pytest.raises(DataError, match="2 training pairs, fewer than a batch of 3"):
        train(config, FakeDataset([make_pair(0), make_pair(1)]), tmp_path / "run", features=features)
    with pytest.raises(DataError, match="0 training pairs"):
        train(config, FakeDataset([]), tmp_path / "run", features=features)
    assert not (tmp_path / "run").exists()
    elsewhere = config.model_copy(update={"device": "mps"})
    with pytest.raises(UsageError, match="use auto"):
        next(train(elsewhere, dataset, tmp_path / "run", features=features))


def test_damaged_pair_ends_the_run_with_its_name(
    config: TrainConfig, dataset: FakeDataset, features: FeatureNet, tmp_path: Path
):
    pairs = FakeDataset([make_pair(0), fake_pair(make_pair(0).distilled, make_pair(1, 20, 24).baseline), make_pair(2)])
    with pytest.raises(DataError, match="pair 1"):
        list(train(config, pairs, tmp_path / "run", features=features))


def test_memory_that_runs_out_names_what_to_lower(
    config: TrainConfig, dataset: FakeDataset, features: FeatureNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr(ImageTrainer, "step", full)
    with pytest.raises(
        ModelError,
        match=r"raise gradient_accumulation_steps \(--accumulate, now 1\).*batch_size \(now 3\) or crop_px \(now 16\)",
    ):
        next(train(config, dataset, tmp_path / "run", features=features))
    alone = config.model_copy(update={"batch_size": 1, "crop_px": None})
    with pytest.raises(ModelError, match=r"lower crop_px \(now whole images\), or take a smaller head"):
        next(train(alone, dataset, tmp_path / "other", features=features))


def test_other_errors_are_not_taken_for_memory(
    config: TrainConfig, dataset: FakeDataset, features: FeatureNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def broken(*_: object) -> None:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(ImageTrainer, "step", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        next(train(config, dataset, tmp_path / "run", features=features))


def test_validation_that_needs_too_much_memory_is_told(
    config: TrainConfig, dataset: FakeDataset, features: FeatureNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("topcoat.training.validation.Validator.__call__", full)
    with pytest.raises(ModelError, match="validation needs more memory"):
        list(train(config, dataset, tmp_path / "run", images=45, features=features))


def test_large_images_are_validated_few_at_a_time():
    sides = {16: 16, 128: 16, 512: 4, 1024: 1, 2048: 1}
    assert {side: _batch_size(torch.Size((3, side, side))) for side in sides} == sides


def test_a_run_without_a_checkpoint_may_be_begun_anew(
    config: TrainConfig, dataset: FakeDataset, features: FeatureNet, tmp_path: Path
):
    odd = fake_pair(make_pair(0).distilled, make_pair(0, 20, 20).baseline)
    with pytest.raises(DataError, match=r"pair \d has images of 24x24 and 20x20"):
        list(train(config, FakeDataset([odd] * 3, digest="odd"), tmp_path / "run", features=features))
    mended = list(train(config, dataset, tmp_path / "run", images=6, features=features))  # the same folder
    assert mended[-1].images_seen == 6
    assert json.loads((tmp_path / "run" / "train.json").read_text())["dataset_digest"] == dataset.digest


def test_a_stop_in_the_middle_of_a_step_saves_after_it(
    config: TrainConfig, dataset: FakeDataset, features: FeatureNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    list(train(config, dataset, tmp_path / "whole", images=30, features=features))
    whole = ImageTrainer.step

    def interrupted(self: ImageTrainer, batch: Any, images_seen: int) -> Any:
        if images_seen == 15:
            signal.raise_signal(signal.SIGINT)
        return whole(self, batch, images_seen)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(ImageTrainer, "step", interrupted)
        list(train(config, dataset, tmp_path / "run", images=30, features=features))
    assert Head.from_pretrained(tmp_path / "run").facts["images_seen"] == 15
    rest = list(train(config, dataset, tmp_path / "run", images=30, features=features))
    assert rest[0].images_seen == 18
    assert_same_state(tmp_path / "whole", tmp_path / "run")


def test_a_second_stop_does_not_wait():
    reached = []
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), held_back():
        signal.raise_signal(signal.SIGINT)
        reached.append("after the first")
        signal.raise_signal(signal.SIGINT)
        reached.append("after the second")
    assert reached == ["after the first"] and signal.getsignal(signal.SIGINT) is before
