"""A whole study, stopped and resumed, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.reproduction.conftest import HELD_OUT, PAIRS, tiny
from topcoat.cost import pair_cost
from topcoat.errors import DataError, ModelError, UsageError
from topcoat.generators.base import ModelPair
from topcoat.heads import Head, LatentUNetConfig, RefinerConfig
from topcoat.metrics.c2st import TwoSample
from topcoat.metrics.gap import gap_closed
from topcoat.pairs import PairDataset
from topcoat.prompts import held_out_prompts
from topcoat.proof.store import to_bytes, to_floats
from topcoat.reproduction import Reproduction, Study, study_runs
from topcoat.reproduction.table import columns, markdown, rows
from topcoat.training import LatentConfig
from topcoat.training.folder import finished_head

Made = Callable[..., Reproduction]


def run(work: Reproduction) -> tuple[Study, dict[str, str]]:
    """All stages; the study and the sentence that each stage ended in."""
    said = {stage.name: stage.run(lambda done, total, note: None).sentence for stage in work.stages()}
    return work.study, said


def bytes_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def timeless(study: Study) -> dict[str, Any]:
    """All that does not depend on how fast the machine was."""
    record = study.as_dict()
    for name in ("distilled", "baseline", "baseline_at_28_steps"):
        del record[name]["seconds"]
    for head in record["heads"]:
        del head["head_seconds"], head["pipeline_seconds"], head["saving"]["seconds"]
        del head["saving_at_28_steps"]["seconds"]
    return record


def test_a_whole_study(study: Made, flux_pair: ModelPair, net: Any, painted: Any) -> None:
    work = study()
    found, said = run(work)
    names = [head.run for head in found.heads]
    assert names == ["paired", "unpaired", "latents"] and found.n == HELD_OUT
    assert list(said) == ["pairs", *(f"train {n}" for n in names), "paint", *(f"evaluate {n}" for n in names), "report"]
    assert said["pairs"].startswith(f"{PAIRS} pairs") and "16 images seen" in said["train paired"]
    assert json.loads((work.folder / "study.json").read_text()) == json.loads(json.dumps(found.as_dict()))

    # an independent way to the same figures
    prompts, seeds = [subject.text for subject in held_out_prompts(HELD_OUT, 1)], range(9_000_000, 9_000_000 + HELD_OUT)
    x, y = (to_bytes(one.generate(prompts, seeds)) for one in painted)
    floor = to_bytes(painted[1].generate(prompts, [seed + 1_000_000_007 for seed in seeds]))
    latents = painted[0].generate_latents(prompts, seeds).half().float()
    for result in found.heads:
        head = Head.from_pretrained(work.folder / "runs" / result.run)
        z = to_bytes(head(latents if result.takes == "latent" else to_floats(x)))
        features = [net(to_floats(images)).embedding.double() for images in (x, z, y, floor)]
        gap = gap_closed(features[0], features[1], features[2], features[3])
        assert result.judged.gap.enhanced.value == pytest.approx(gap.enhanced.value, rel=1e-3, abs=1e-9)
        assert result.digest == head.digest and result.images_seen == 16
        cost = pair_cost(flux_pair, head)
        assert result.pipeline_tflop == pytest.approx(cost.enhanced.tflop)
        assert result.saving.tflop == pytest.approx(cost.saving())
        assert result.saving.seconds == pytest.approx(1 - result.pipeline_seconds / found.baseline.seconds)
        assert result.judged.perceptual is not None and result.judged.two_sample is None  # too few for that test
    nothing = found.do_nothing
    assert nothing.gap.enhanced == nothing.gap.distilled and nothing.identity.mean == pytest.approx(1)
    table = pair_cost(flux_pair)
    decoder = found.heads[2]
    vae = next(row.tflop for row in table.distilled.rows if row.piece == "VAE decode")
    assert decoder.pipeline_tflop == pytest.approx(table.distilled.tflop - vae + decoder.head_tflop)


def test_a_run_goes_on_from_the_head_of_an_earlier_one(study: Made, runs: list[Any], flux_pair: ModelPair) -> None:
    first = runs[0].config
    losses = first.losses.model_copy(update={"transport": 1.0})
    last = first.model_copy(update={"name": "last", "starts_from": "paired", "losses": losses, "crop_px": None})
    work = study(runs=study_runs([first, last], flux_pair))
    found, _ = run(work)
    about = json.loads((work.folder / "runs" / "last" / "train.json").read_text())
    assert about["init_from"] == Head.from_pretrained(work.folder / "runs" / "paired").digest
    assert [head.starts_from for head in found.heads] == [None, "paired"]
    assert "last went on from the head of paired" in markdown(found)


def test_a_run_learns_from_a_head_of_the_study_or_of_another(
    study: Made, runs: list[Any], flux_pair: ModelPair
) -> None:
    taught = runs[0].config.model_copy(update={"name": "taught", "teacher": "paired"})
    inside = study(runs=study_runs([runs[0].config, taught], flux_pair))
    found, _ = run(inside)
    assert "taught learnt from what the head of paired makes of x" in markdown(found)
    teacher = Head.from_pretrained(inside.folder / "runs" / "paired")
    outside = study("outside", runs=study_runs([taught], flux_pair, known=["paired"]), heads={"paired": teacher})
    again, _ = run(outside)
    assert again.heads[0].digest == found.heads[1].digest and again.heads[0].teacher == "paired"
    assert again.settings["heads"] == {"paired": teacher.digest}


def test_a_head_that_changes_latents_is_fitted_to_the_pair(study: Made, flux_pair: ModelPair) -> None:
    config = tiny("changed", head=LatentUNetConfig(channels=(4,)), latent=LatentConfig(), crop_px=None, flip=False)
    runs = study_runs([config], flux_pair)
    found, _ = run(study(runs=runs))
    (head,) = found.heads
    assert head.kind == "latent-unet" and head.takes == "latent" and not runs[0].changed
    decoding = next(row.tflop for row in pair_cost(flux_pair).distilled.rows if row.piece == "VAE decode")
    assert head.head_tflop > decoding
    assert head.pipeline_tflop == pytest.approx(found.distilled.tflop - decoding + head.head_tflop)
    assert found.best_of(("latent-unet",)) == head and found.best_of(("unet", "decoder")) is None


def test_a_refiner_goes_on_from_a_head_of_images_and_the_baselines_own_latents(
    study: Made, runs: list[Any], flux_pair: ModelPair
) -> None:
    paired = runs[0].config
    head = RefinerConfig(painter=paired.head, latent=LatentUNetConfig(channels=(4,)))
    config = tiny("refined", head=head, latent=LatentConfig(), crop_px=None, flip=False, starts_from="paired")
    work = study(runs=study_runs([paired, config], flux_pair))
    found, _ = run(work)
    before, after = found.heads
    assert after.kind == "refiner" and after.takes == "image" and after.head_tflop > before.head_tflop
    assert after.pipeline_tflop == pytest.approx(found.distilled.tflop + after.head_tflop)
    pair = PairDataset.open(work.folder / "pairs")[0]
    assert pair.latents is not None and pair.baseline_latents is not None
    assert pair.latents.shape == pair.baseline_latents.shape


def test_its_files(study: Made) -> None:
    work = study()
    found, _ = run(work)
    assert {path.name for path in work.folder.iterdir()} == {
        "settings.json", "pairs", "runs", "images", "features", "evaluation",
        "study.json", "study.md", "study.html", "contact-1.png", "contact-2.png",
    }  # fmt: skip
    with Image.open(work.folder / "contact-1.png") as sheet:
        assert sheet.width > 8 * 96 and sheet.height > 5 * 64  # distilled, three heads, baseline
    page = (work.folder / "study.html").read_text()
    assert 'src="http' not in page and all(head.run in page for head in found.heads)
    lines = (work.folder / "study.md").read_text().splitlines()
    cells = [line.count("|") for line in lines if line.startswith("|")]
    assert len(cells) == 2 + len(rows(found)) and len(set(cells)) == 1
    assert (work.folder / "study.md").read_text() == markdown(found)


def test_a_finished_study_does_nothing_again(
    study: Made, painted: Any, judging: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = run(study())

    class Idle:
        def __init__(self, inner: Any) -> None:
            self.spec = inner.spec

        def generate(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("painted again")

        generate_latents = decode = generate

    def again(*_: Any, **__: Any) -> Any:
        raise AssertionError("measured again")

    monkeypatch.setattr(judging, "evaluate", again)
    second, _ = run(study(generators=(Idle(painted[0]), Idle(painted[1]))))
    assert second.as_dict() == first.as_dict()


def test_finished_runs_need_no_pairs(study: Made, runs: list[Any]) -> None:
    found, _ = run(study())
    work = study()
    shutil.rmtree(work.folder / "pairs")
    (work.folder / "study.json").unlink()
    again, said = run(work)
    assert said["pairs"] == "not needed any more, all runs are finished"
    assert again.training_pairs == found.training_pairs and timeless(again) == timeless(found)
    assert not (work.folder / "pairs").exists()
    folder = work.folder / "runs" / "paired"
    assert finished_head(folder, runs[0].config) is not None
    assert finished_head(folder, runs[0].with_images(20).config) is None, "it has not seen all images"
    assert finished_head(folder, runs[0].config.model_copy(update={"seed": 1})) is None
    assert finished_head(work.folder / "runs" / "none", runs[0].config) is None


def test_stopped_in_every_stage_the_same_study_goes_on(study: Made) -> None:
    whole, _ = run(study("whole"))

    class Stopped(Exception):
        pass

    def stop(done: int, total: int, note: str) -> None:
        if done >= 2:
            raise Stopped

    for stop_in in ("pairs", "train unpaired", "train latents", "paint", "evaluate unpaired"):
        with pytest.raises(Stopped):
            for stage in study("parts").stages():
                stage.run(stop if stage.name == stop_in else lambda done, total, note: None)
    resumed, _ = run(study("parts"))
    assert timeless(resumed) == timeless(whole)


def test_a_model_that_fails_ends_the_study_and_the_next_run_goes_on(
    study: Made, flux_pair: ModelPair, painted: Any
) -> None:
    kind = type(painted[0])
    bad = (painted[0], kind(flux_pair.baseline, plastic=False, fails_on=9_000_005))
    with pytest.raises(ModelError, match="9000005"):
        run(study(generators=bad))
    good = (kind(flux_pair.distilled, plastic=True), kind(flux_pair.baseline, plastic=False))
    found, _ = run(study(generators=good))
    assert found.n == HELD_OUT and sum(good[0].calls) < PAIRS  # the pairs were there


def test_other_settings_are_refused_and_nothing_is_changed(study: Made, runs: list[Any], tmp_path: Path) -> None:
    next(iter(study().stages()))
    before = bytes_of(tmp_path / "study")
    fewer = {"prompts": held_out_prompts(9, 1), "seeds": range(9_000_000, 9_000_009)}
    for changes, words in (
        (fewer, "held_out is 10 there and 9 here"),
        ({"batch_size": 5}, "batch_size is 4 there and 5 here"),
        ({"runs": runs[:2]}, "runs.latents"),
    ):
        with pytest.raises(DataError, match=words) as refused:
            study(**changes)
        assert "\n" not in str(refused.value) and len(str(refused.value)) < 400
    assert bytes_of(tmp_path / "study") == before
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "photo.txt").write_text("mine")
    with pytest.raises(DataError, match="no study"):
        study("holiday")
    with pytest.raises(DataError, match="is a file"):
        study("holiday/photo.txt")
    with pytest.raises(UsageError, match="2 or more held-out"):
        study("new", prompts=["a"], seeds=[1])
    with pytest.raises(UsageError, match="batch size 0"):
        study("new", batch_size=0)
    assert not (tmp_path / "new").exists()


def test_a_new_or_damaged_measurement_is_made_again(study: Made) -> None:
    work = study()
    first, _ = run(work)
    kept = work.folder / "evaluation" / "paired.json"
    before = json.loads(kept.read_text())
    for damaged in ("{", json.dumps({**before, "key": {**before["key"], "head": "of before"}})):
        kept.write_text(damaged)
        again, _ = run(study())
        made = json.loads(kept.read_text())
        assert made["key"] == before["key"] and made["result"]["head_seconds"] != before["result"]["head_seconds"]
        gaps = [one.heads[0].judged.gap.enhanced.value for one in (first, again)]
        assert gaps[1] == pytest.approx(gaps[0], rel=1e-4)  # features of a cache are rounded


def test_heads_are_told_from_the_baseline(study: Made, judging: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[torch.Tensor, torch.Tensor]] = []

    def told(a: torch.Tensor, b: torch.Tensor) -> TwoSample:
        asked.append((a, b))
        return TwoSample(len(a), 0.5 + 0.1 * len(asked), 0.5, 0.9, 0.9, 4)

    monkeypatch.setattr(judging, "two_sample", told)
    found, _ = run(study())
    assert len(asked) == 5  # x, the baseline at other seeds, three heads; each against the same y, once
    assert all(a.dtype == torch.uint8 and a.shape == b.shape == (HELD_OUT, 3, 32, 48) for a, b in asked)
    assert all(torch.equal(b, asked[0][1]) for _, b in asked)
    assert found.do_nothing.two_sample is not None and found.do_nothing.two_sample.accuracy == pytest.approx(0.6)
    place = list(columns(found)).index("accuracy")
    assert [row[place] for row in rows(found)][:5] == ["60.0 %", "80.0 %", "90.0 %", "100.0 %", "70.0 %"]
