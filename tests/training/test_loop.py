from __future__ import annotations

import json
import math
from itertools import islice
from pathlib import Path

import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from tests.fake_pairs import FakeDataset, fake_pair
from tests.training.conftest import assert_same_state, make_pair, state, timeless, with_latents, without_validation
from topcoat.errors import DataError, UsageError
from topcoat.features import FeatureNet
from topcoat.heads import Decoder, DecoderConfig, Head, UNet, UNetConfig
from topcoat.metrics.frechet import GaussianStatistics, frechet_distance
from topcoat.training import PairedObjective, TrainConfig, TrainRecord, train
from topcoat.training.decoded import taught_by

STEPS = 40


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, config: TrainConfig, dataset: FakeDataset, features: FeatureNet
) -> tuple[Path, list[TrainRecord]]:
    """A run that nobody interrupted."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    return folder, list(train(config, dataset, folder, features=features))


def test_records_tell_the_whole_run(finished: tuple[Path, list[TrainRecord]], config: TrainConfig):
    _, records = finished
    assert [record.images_seen for record in records] == list(range(3, 121, 3))
    assert [record.step for record in records] == list(range(1, STEPS + 1))
    assert all(math.isfinite(record.loss) and record.skipped_steps == 0 for record in records)
    assert all(record.images_per_second > 0 for record in records)
    assert records[-1].learning_rate == pytest.approx(0, abs=1e-12)
    assert max(record.learning_rate for record in records) == pytest.approx(config.learning_rate)
    later = {"adversarial", "feature_matching", "frechet"}  # after 40 images, and 64
    plain = {name for name, weight in config.objective.weights().items() if weight} - later
    assert set(records[0].parts) == plain
    assert set(records[-1].parts) == plain | later | {"discriminator"}
    validated = [record.images_seen for record in records if record.validation]
    assert validated == [45, 90, 120]


def test_training_beats_doing_nothing(finished: tuple[Path, list[TrainRecord]]):
    validation = finished[1][-1].validation
    assert validation is not None and validation.images == 3
    figures = validation.figures()
    assert (figures["psnr_db"] or 0) > (figures["psnr_db_without_head"] or 0) + 1
    assert validation.perceptual is not None and validation.no_head_perceptual is not None
    assert validation.perceptual < validation.no_head_perceptual


def test_output_is_a_head_with_the_averaged_weights(
    finished: tuple[Path, list[TrainRecord]], config: TrainConfig, dataset: FakeDataset
):
    folder, _ = finished
    head = Head.from_pretrained(folder)
    assert head.config == config.head
    assert head.facts["images_seen"] == 120 and head.facts["run"] == "test"
    ema = {name[4:]: value for name, value in state(folder).items() if name.startswith("ema.")}
    raw = {name[5:]: value for name, value in state(folder).items() if name.startswith("head.")}
    for name, value in head.network.state_dict().items():
        assert torch.equal(value, ema[name])
    assert any(not torch.equal(ema[name], raw[name]) for name in ema)
    best = Head.from_pretrained(folder / "checkpoints" / "best")
    assert best.facts["images_seen"] in (45, 90, 120)
    pair = dataset.split("val")[0]
    enhanced = head(pair.distilled[None])[0]
    assert (enhanced - pair.baseline).square().mean() < (pair.distilled - pair.baseline).square().mean()


def test_stopped_and_resumed_is_the_uninterrupted_run(
    finished: tuple[Path, list[TrainRecord]],
    config: TrainConfig,
    dataset: FakeDataset,
    features: FeatureNet,
    tmp_path: Path,
):
    """Bit for bit: networks, discriminator, average, optimisers, data order, records, best and final head."""
    reference, records = finished
    folder = tmp_path / "resumed"
    run = train(config, dataset, folder, features=features)
    first = list(islice(run, 20))
    run.close()
    assert Head.from_pretrained(folder).facts["images_seen"] == 60  # usable at any stop
    torch.manual_seed(999)  # what other code does in between must not matter
    second = list(train(config, dataset, folder, features=features))
    assert timeless(first + second) == timeless(records)
    names = {name.split(".")[0] for name in assert_same_state(reference, folder)}
    assert names == {"discriminator", "ema", "guard", "head", "moments", "optimizer"}
    for name in ("model.safetensors", "README.md", "config.json", "train.json", "validation.png"):
        assert (reference / name).read_bytes() == (folder / name).read_bytes(), name
    best = "checkpoints/best/model.safetensors"
    assert (reference / best).read_bytes() == (folder / best).read_bytes()


@pytest.mark.parametrize("changes", [{"crops_per_decode": 4}, {"cached_crops": 2}], ids=str)
def test_crops_of_a_decoded_pair_resume_exactly(
    changes: dict[str, int], config: TrainConfig, dataset: FakeDataset, features: FeatureNet, tmp_path: Path
):
    config = config.model_copy(update={"images": 60, **changes})
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    alone, together = (config.model_copy(update={"workers": count, "cache_mebibytes": 0}) for count in (0, 3))
    records = list(train(alone, dataset, whole, features=features))
    assert len(records) == 20
    stopped = train(together, dataset, parts, features=features)
    first = list(islice(stopped, 7))
    stopped.close()
    assert bool(list(parts.glob("checkpoints/crops-*.u8"))) == ("cached_crops" in changes)
    rest = list(train(config.model_copy(update={"workers": 1}), dataset, parts, features=features))
    assert timeless([*first, *rest]) == timeless(records)
    one, other = state(whole), state(parts)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert not list(tmp_path.glob("*/checkpoints/crops-*.u8"))


def test_settings_of_crops_that_exclude_each_other(config: TrainConfig):
    for changes, sentence in (
        ({"crops_per_decode": 2, "crop_px": None}, "set crop_px"),
        ({"crops_per_decode": 2, "cached_crops": 2}, "exclude each other"),
    ):
        with pytest.raises(ValidationError, match=sentence):
            TrainConfig.model_validate({**config.model_dump(), **changes})
    assert config.model_copy(update={"workers": 7}).identity() == config.identity()
    assert config.model_copy(update={"crops_per_decode": 2}).identity() != config.identity()


def test_resume_after_a_crash_repeats_what_was_lost(
    finished: tuple[Path, list[TrainRecord]],
    config: TrainConfig,
    dataset: FakeDataset,
    features: FeatureNet,
    tmp_path: Path,
):
    reference, _ = finished
    folder = tmp_path / "crashed"
    every_step = config.model_copy(update={"checkpoint_every_seconds": 0.0})
    run = train(every_step, dataset, folder, features=features)
    checkpoint = folder / "checkpoints" / "last.safetensors"
    list(islice(run, 10))
    kept = checkpoint.read_bytes()
    list(islice(run, 9))  # past a validation, which stats.jsonl then holds
    run.close()
    checkpoint.write_bytes(kept)  # as if the machine had gone down before the later ones
    with open(folder / "stats.jsonl", "a") as file:
        file.write('{"images_se')
    list(train(config, dataset, folder, features=features))
    assert (folder / "model.safetensors").read_bytes() == (reference / "model.safetensors").read_bytes()
    lines = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
    assert [line["images_seen"] for line in lines] == [45, 90, 120]
    assert [path.name for path in folder.rglob("*.tmp")] == []


def test_finished_run_yields_nothing_more(
    finished: tuple[Path, list[TrainRecord]], config: TrainConfig, dataset: FakeDataset, features: FeatureNet
):
    folder, _ = finished
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert list(train(config, dataset, folder, features=features)) == []
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_training_leaves_the_random_generator_alone(
    config: TrainConfig, dataset: FakeDataset, features: FeatureNet, tmp_path: Path
):
    before = torch.get_rng_state()
    list(train(config, dataset, tmp_path / "run", images=6, features=features))
    assert torch.equal(torch.get_rng_state(), before)


def test_folder_of_another_run_is_left_alone(
    finished: tuple[Path, list[TrainRecord]],
    config: TrainConfig,
    dataset: FakeDataset,
    features: FeatureNet,
    tmp_path: Path,
):
    folder, _ = finished
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    others: list[tuple[TrainConfig, FakeDataset, FeatureNet, str]] = [
        (config.model_copy(update={"learning_rate": 0.1}), dataset, features, "stages.0.learning_rate is 0.01 there"),
        (config.model_copy(update={"images": 130}), dataset, features, "stages.0.images"),
        (config, FakeDataset([make_pair(0)] * 3, digest="other"), features, "dataset_digest"),
    ]
    for settings, pairs, net, words in others:
        with pytest.raises(DataError, match=words):
            train(settings, pairs, folder, features=net)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before

    foreign = tmp_path / "holiday"
    foreign.mkdir()
    (foreign / "photo.txt").write_text("mine")
    with pytest.raises(DataError, match="no training run"):
        train(config, dataset, foreign, features=features)
    with pytest.raises(DataError, match="is a file"):
        train(config, dataset, foreign / "photo.txt", features=features)
    assert [path.name for path in foreign.iterdir()] == ["photo.txt"]


def test_damaged_checkpoint_is_named(config: TrainConfig, dataset: FakeDataset, features: FeatureNet, tmp_path: Path):
    folder = tmp_path / "run"
    run = train(config, dataset, folder, features=features)
    next(run)
    run.close()
    (folder / "checkpoints" / "last.safetensors").write_bytes(b"half a file")
    with pytest.raises(DataError, match="damaged"):
        next(train(config, dataset, folder, features=features))


def test_bfloat16_learns_too(config: TrainConfig, dataset: FakeDataset, features: FeatureNet, tmp_path: Path):
    settings = config.model_copy(update={"precision": "bfloat16"})
    last = list(train(settings, dataset, tmp_path / "run", features=features))[-1]
    assert last.validation is not None
    assert (last.validation.psnr_db or 0) > (last.validation.no_head_psnr_db or 0) + 1
    tensors = state(tmp_path / "run")
    kept = ("guard", "moments")  # in double precision
    assert all(value.dtype == torch.float32 for name, value in tensors.items() if not name.startswith(kept))


def test_one_loss_is_enough(config: TrainConfig, dataset: FakeDataset, features: FeatureNet, tmp_path: Path):
    for name in ("perceptual", "gradient_input", "colour_input", "adversarial"):
        settings = config.model_copy(update={"objective": PairedObjective.model_validate({name: 1.0})})
        records = list(train(settings, dataset, tmp_path / name, images=48, features=features))
        assert records[-1].skipped_steps == 0


def test_named_debug_run(dataset: FakeDataset, features: FeatureNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pairs = FakeDataset([make_pair(seed, 40, 36) for seed in range(6)], [make_pair(9, 40, 36), make_pair(8, 24, 24)])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("topcoat.features.load_feature_net", lambda name: features if name == "loss" else None)
    records = list(train("debug", pairs))
    assert records[-1].images_seen == 128
    assert Head.from_pretrained("runs/debug").facts["run"] == "debug"


def test_licences_reach_the_card(config: TrainConfig, dataset: FakeDataset, features: FeatureNet, tmp_path: Path):
    class About:
        pair = "toy"
        sides = {"distilled": {"licence": {"name": "apache-2.0"}}}  # noqa: RUF012
        unrelated = False

    dataset = without_validation(dataset)
    dataset.manifest = About()  # type: ignore[attr-defined]
    list(train(config, dataset, tmp_path / "run", images=3, features=features))
    facts = Head.from_pretrained(tmp_path / "run").facts
    assert facts["pair"] == "toy" and facts["licences"] == {"distilled": {"name": "apache-2.0"}}


def test_a_picture_shows_fixed_pairs(finished: tuple[Path, list[TrainRecord]]):
    folder, _ = finished
    with Image.open(folder / "validation.png") as picture:
        assert picture.width > 3 * 24 and picture.height > 3 * 24  # three rows of three pairs


def test_set_distances_and_gap_are_recorded(
    finished: tuple[Path, list[TrainRecord]], dataset: FakeDataset, features: FeatureNet
):
    validation = finished[1][-1].validation
    assert validation is not None and validation.set_distance is not None
    assert validation.no_head_set_distance is not None
    pairs = [dataset.split("val")[index] for index in range(3)]
    x, y = (torch.stack([getattr(pair, side) for pair in pairs]) for side in ("distilled", "baseline"))
    of_x, of_z, of_y = (
        GaussianStatistics.of(features(images).embedding) for images in (x, Head.from_pretrained(finished[0])(x), y)
    )
    assert validation.frechet == pytest.approx(frechet_distance(of_z, of_y), rel=1e-3)
    assert validation.no_head_frechet == pytest.approx(frechet_distance(of_x, of_y), rel=1e-3)
    figures = Head.from_pretrained(finished[0]).facts["figures"]
    assert figures["psnr_db"] == validation.psnr_db and figures["validation_images"] == 3
    assert "## Figures" in (finished[0] / "README.md").read_text()


def test_micro_batches_give_the_same_step(
    config: TrainConfig, dataset: FakeDataset, features: FeatureNet, tmp_path: Path
):
    plain = config.model_copy(update={"objective": PairedObjective(charbonnier=1.0, perceptual=0.5)})
    parts = []
    for count in (1, 3):
        settings = plain.model_copy(update={"gradient_accumulation_steps": count})
        records = list(train(settings, dataset, tmp_path / str(count), images=30, features=features))
        parts.append((records[-1].loss, state(tmp_path / str(count))))
    assert parts[0][0] == pytest.approx(parts[1][0], rel=1e-3)
    torch.testing.assert_close(parts[0][1]["head.out.weight"], parts[1][1]["head.out.weight"], atol=1e-4, rtol=1e-2)
    with pytest.raises(ValidationError, match="multiple of gradient_accumulation_steps"):
        TrainConfig.model_validate({**config.model_dump(), "gradient_accumulation_steps": 2})


def test_a_head_learns_what_another_makes_of_the_distilled_image(
    finished: tuple[Path, list[TrainRecord]],
    config: TrainConfig,
    dataset: FakeDataset,
    features: FeatureNet,
    tmp_path: Path,
):
    teacher = Head.from_pretrained(finished[0])
    training = dataset.split("train")
    taught = [taught_by(teacher)(pair, index) for index, pair in enumerate(training)]
    own = training[1]
    assert torch.equal(taught[1].distilled, own.distilled)
    assert torch.equal(taught[1].baseline, teacher(own.distilled[None])[0])
    whole = {"crop_px": None, "flip": False, "warmup_images": 0, "objective": PairedObjective(charbonnier=1.0)}
    plain = config.model_copy(update=whole)
    exact = plain.model_copy(update={"previous": "teacher"})
    first = next(train(exact, dataset, tmp_path / "a", features=features, init_from=teacher))
    pairs = [fake_pair(pair.distilled, pair.baseline) for pair in taught]
    same = next(train(plain, FakeDataset(pairs), tmp_path / "b", features=features))
    assert first.loss == pytest.approx(same.loss, rel=1e-2)  # the images of a file have 8 bits
    # A head with the teacher's own weights has nothing to learn from it, but much from the baseline.
    nothing = next(train(plain, FakeDataset(pairs), tmp_path / "c", features=features, init_from=teacher))
    other = next(train(plain, dataset, tmp_path / "d", features=features, init_from=teacher))
    assert nothing.loss < other.loss / 5
    assert Head.from_pretrained(tmp_path / "a").facts["init_from"] == teacher.digest
    given = next(train(plain, dataset, tmp_path / "f", features=features, init_from=teacher, teacher=teacher))
    assert given.loss == pytest.approx(nothing.loss, abs=1e-3)
    assert Head.from_pretrained(tmp_path / "f").facts["teacher"] == teacher.digest
    with pytest.raises(DataError, match="teacher"):
        train(plain, dataset, tmp_path / "f", features=features, init_from=teacher)
    with pytest.raises(UsageError, match="goes on from the head of the stage before"):
        train(exact, dataset, tmp_path / "e", features=features)


def test_a_teacher_of_latents_needs_pairs_with_latents(dataset: FakeDataset) -> None:
    settings = DecoderConfig(latent_channels=6, channels=(12, 8), blocks=(1, 1))
    teacher = Head(Decoder(settings), settings)
    pair = with_latents(make_pair(0))
    assert pair.latents is not None
    changed = taught_by(teacher)(pair, 0)
    assert changed.latents is not None
    assert torch.equal(changed.baseline, teacher(pair.latents[None])[0])
    with pytest.raises(DataError, match="no latents"):
        taught_by(teacher)(dataset[0], 0)


def test_training_goes_on_from_a_head(
    finished: tuple[Path, list[TrainRecord]],
    config: TrainConfig,
    dataset: FakeDataset,
    features: FeatureNet,
    tmp_path: Path,
):
    start = Head.from_pretrained(finished[0])
    folder = tmp_path / "tuned"
    run = train(config, dataset, folder, features=features, init_from=start)
    next(run)
    run.close()
    weights = state(folder)
    for name, value in start.network.state_dict().items():
        torch.testing.assert_close(weights[f"head.{name}"], value, atol=5e-3, rtol=0)  # one step away
    assert Head.from_pretrained(folder).facts["init_from"] == start.digest
    with pytest.raises(DataError, match="init_from"):
        train(config, dataset, folder, features=features)
    other = UNetConfig(channels=(4, 6))
    with pytest.raises(UsageError, match="other settings"):
        train(config, dataset, tmp_path / "x", features=features, init_from=Head(UNet(other), other))
