"""A run of stages: one folder, one log, exact resume from any point of any stage."""

from __future__ import annotations

import json
import shutil
from itertools import islice
from pathlib import Path

import pytest

from tests.fake_pairs import FakeDataset
from tests.training.conftest import assert_same_state, make_pair, tiny_vae, with_latents
from topcoat.errors import DataError
from topcoat.features import FeatureNet
from topcoat.heads import Head, LatentUNetConfig
from topcoat.training import LatentObjective, PairedObjective, RunConfig, TrainConfig, train


@pytest.fixture(scope="module")
def run(config: TrainConfig) -> RunConfig:
    """30 images of crops, then 24 of whole images with the set loss."""
    first = config.model_copy(
        update={"name": "crops", "images": 30, "adversarial_after_images": 6, "validate_every_images": 15}
    )
    objective = PairedObjective(charbonnier=1.0, perceptual=0.5, frechet=0.05)
    second = first.model_copy(
        update={"name": "whole", "previous": "start", "objective": objective, "images": 24, "crop_px": None}
    )
    return RunConfig(name="staged", stages=(first, second))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, run: RunConfig, dataset: FakeDataset, features: FeatureNet) -> Path:
    """The folder of a run that nobody interrupted."""
    folder = tmp_path_factory.mktemp("staged") / "whole"
    records = list(train(run, dataset, folder, features=features))
    assert [record.images_seen for record in records] == list(range(3, 55, 3))
    assert [record.stage for record in records] == ["crops"] * 10 + ["whole"] * 8
    return folder


def test_a_stage_is_a_run_from_the_head_of_the_one_before(
    whole: Path, run: RunConfig, dataset: FakeDataset, features: FeatureNet, tmp_path: Path
):
    first, second = run.stages
    list(train(first, dataset, tmp_path / "first", features=features))
    start = Head.from_pretrained(tmp_path / "first")
    assert start.digest == Head.from_pretrained(whole / "stages" / "crops").digest
    list(train(second, dataset, tmp_path / "second", features=features, init_from=start))
    assert Head.from_pretrained(tmp_path / "second").digest == Head.from_pretrained(whole).digest
    assert_same_state(tmp_path / "second", whole)
    facts = Head.from_pretrained(whole).facts
    assert (facts["run"], facts["stage"], facts["images_seen"]) == ("staged", "whole", 54)


@pytest.mark.parametrize("steps", [4, 9, 10, 11, 15])
def test_stopped_in_any_stage_it_goes_on_to_the_same_head(
    whole: Path, run: RunConfig, dataset: FakeDataset, features: FeatureNet, tmp_path: Path, steps: int
):
    stopped = train(run, dataset, tmp_path / "run", features=features)
    list(islice(stopped, steps))
    stopped.close()
    assert Head.from_pretrained(tmp_path / "run").facts["images_seen"] == 3 * steps  # usable at any stop
    rest = list(train(run, dataset, tmp_path / "run", features=features))
    assert len(rest) == 18 - steps
    for name in ("model.safetensors", "README.md", "config.json", "train.json"):
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes(), name
    logs = [(folder / "stats.jsonl").read_text().splitlines() for folder in (tmp_path / "run", whole)]
    lines = [[json.loads(line) for line in log] for log in logs]
    for one, other in zip(*lines, strict=True):
        assert {**one, "images_per_second": 0} == {**other, "images_per_second": 0}
    assert list(train(run, dataset, tmp_path / "run", features=features)) == []


def test_killed_between_the_files_of_a_checkpoint_it_goes_on_to_the_same_head(
    whole: Path, run: RunConfig, dataset: FakeDataset, features: FeatureNet, tmp_path: Path
):
    folder = tmp_path / "run"
    stopped = train(run, dataset, folder, features=features)
    list(islice(stopped, 10))  # the first stage has ended
    last = (folder / "checkpoints" / "last.safetensors").read_bytes()
    list(islice(stopped, 2))
    stopped.close()
    (folder / "checkpoints" / "last.safetensors").write_bytes(last)  # only the head of the second stage was written
    list(train(run, dataset, folder, features=features))
    assert (folder / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    shutil.rmtree(folder / "stages")
    (folder / "checkpoints" / "last.safetensors").write_bytes(last)
    with pytest.raises(DataError, match="stages/crops"):
        train(run, dataset, folder, features=features)


def test_a_teacher_and_a_start_come_from_the_stages_before(config: TrainConfig, features: FeatureNet, tmp_path: Path):
    pairs = FakeDataset([with_latents(make_pair(seed)) for seed in range(10)], [with_latents(make_pair(100))])
    vae = tiny_vae(latent_channels=6)
    short = {"images": 6, "crop_px": None, "flip": False, "objective": PairedObjective(charbonnier=1.0)}
    first = config.model_copy(update={"name": "images", **short})
    objective = LatentObjective(discriminator_channels=4)
    head = LatentUNetConfig(channels=(8, 8))
    taught = first.model_copy(update={"name": "taught", "previous": "teacher", "head": head, "objective": objective})
    last = taught.model_copy(update={"name": "latents", "previous": "start"})
    run = RunConfig(name="chain", stages=(first, taught, last))
    records = list(train(run, pairs, tmp_path / "run", features=features, vae=vae))
    assert [record.stage for record in records] == ["images"] * 2 + ["taught"] * 2 + ["latents"] * 2
    teacher, start = (Head.from_pretrained(tmp_path / "run" / "stages" / name) for name in ("images", "taught"))
    assert (teacher.kind, start.kind) == ("unet", "latent-unet")
    alone = list(train(taught, pairs, tmp_path / "taught", features=features, vae=vae, init_from=teacher))
    assert Head.from_pretrained(tmp_path / "taught").digest == start.digest
    assert alone[-1].loss == records[3].loss
    shorter = list(train(run, pairs, tmp_path / "on", features=features, vae=vae, init_from=teacher))
    assert [record.stage for record in shorter] == ["taught"] * 2 + ["latents"] * 2
    assert Head.from_pretrained(tmp_path / "on").digest == Head.from_pretrained(tmp_path / "run").digest
