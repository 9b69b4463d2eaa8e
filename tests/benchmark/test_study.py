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

from tests.benchmark.conftest import HELD_OUT, PAIRS, tiny
from topcoat.benchmark import study_scores
from topcoat.benchmark.record import BenchmarkResult
from topcoat.benchmark.store import to_bytes, to_floats
from topcoat.benchmark.study import Study
from topcoat.benchmark.study_plan import study_runs
from topcoat.cost.flops import pair_cost
from topcoat.errors import DataError, ModelError, UsageError
from topcoat.generators.base import ModelPair
from topcoat.heads import Head, LatentUNetConfig, RefinerConfig
from topcoat.metrics import c2st
from topcoat.metrics.base import Interval
from topcoat.metrics.gap import gap_closed
from topcoat.pairs import PairDataset
from topcoat.prompts import held_out_prompts
from topcoat.reports.benchmark import write_benchmark
from topcoat.reports.benchmark_tables import markdown, table
from topcoat.training import LatentObjective, with_settings
from topcoat.training.run_folder import finished_head

Made = Callable[..., Study]


def run(work: Study) -> tuple[BenchmarkResult, dict[str, str]]:
    """All stages; the result and the sentence that each stage ended in."""
    sentences = {stage.name: stage.run(lambda done, total, note: None) for stage in work.stages()}
    return work.result, sentences


def score(result: BenchmarkResult, metric: str, arm: str) -> float:
    value = result.value(metric, arm)
    assert value is not None
    return value


def bytes_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def timeless(result: BenchmarkResult) -> dict[str, Any]:
    """All that does not depend on how fast the machine was."""
    record = result.as_dict()
    record["scores"] = [row for row in record["scores"] if row["family"] != "time"]
    return record


def test_a_whole_study(study: Made, flux_pair: ModelPair, net: Any, generated: Any) -> None:
    work = study()
    result, sentences = run(work)
    names = list(result.heads)
    assert names == ["paired", "unpaired", "latents"] and result.n == HELD_OUT
    assert list(sentences) == [
        "pairs", *(f"train {n}" for n in names), "generate", *(f"evaluate {n}" for n in names), "report",
    ]  # fmt: skip
    assert sentences["pairs"].startswith(f"{PAIRS} pairs") and "16 images seen" in sentences["train paired"]
    assert json.loads((work.folder / "study.json").read_text()) == json.loads(json.dumps(result.as_dict()))
    assert BenchmarkResult.load(work.folder / "study.json").scores == result.scores

    # an independent way to the same figures
    prompts, seeds = [subject.text for subject in held_out_prompts(HELD_OUT, 1)], range(9_000_000, 9_000_000 + HELD_OUT)
    x, y = (to_bytes(one.generate(prompts, seeds)) for one in generated)
    floor = to_bytes(generated[1].generate(prompts, [seed + 1_000_000_007 for seed in seeds]))
    latents = generated[0].generate_latents(prompts, seeds).half().float()
    for name, facts in result.heads.items():
        head = Head.from_pretrained(work.folder / "runs" / name)
        z = to_bytes(head(latents if facts["input"] == "latent" else to_floats(x)))
        features = [net(to_floats(images)).embedding.double() for images in (x, z, y, floor)]
        gap = gap_closed(features[0], features[1], features[2], features[3])
        assert score(result, "frechet", name) == pytest.approx(gap.enhanced.value, rel=1e-3, abs=1e-9)
        assert facts["digest"] == head.digest and facts["images_seen"] == 16
        cost = pair_cost(flux_pair, head)
        assert score(result, "tflop", name) == pytest.approx(cost.enhanced.tflop)
        assert score(result, "tflop_saving", name) == pytest.approx(cost.saving().share)
        seconds = score(result, "seconds", name)
        assert score(result, "seconds_saving", name) == pytest.approx(
            1 - seconds / score(result, "seconds", "baseline")
        )
        assert score(result, "perceptual", name) > 0
        assert result.value("c2st_accuracy", name) is None  # too few for that test
    assert score(result, "identity_mean", "distilled") == pytest.approx(1)
    gap = gap_closed(*(net(to_floats(images)).embedding.double() for images in (x, x, y, floor)))
    assert score(result, "frechet", "distilled") == pytest.approx(gap.distilled.value, rel=1e-3)
    assert score(result, "frechet", "floor") == pytest.approx(gap.floor.value, rel=1e-3)
    table = pair_cost(flux_pair)
    vae = next(row.tflop for row in table.distilled.rows if row.piece == "VAE decode")
    decoded = table.distilled.tflop - vae + score(result, "head_tflop", "latents")
    assert score(result, "tflop", "latents") == pytest.approx(decoded)


def test_a_run_goes_on_from_the_head_of_an_earlier_one(study: Made, runs: list[Any], flux_pair: ModelPair) -> None:
    first = runs[0].config.last
    objective = first.objective.model_copy(update={"frechet": 1.0})
    last = first.model_copy(update={"name": "last", "previous": "start", "objective": objective, "crop_px": None})
    work = study(runs=study_runs([first, last], flux_pair))
    result, _ = run(work)
    about = json.loads((work.folder / "runs" / "last" / "train.json").read_text())
    assert about["init_from"] == Head.from_pretrained(work.folder / "runs" / "paired").digest
    assert [facts["base"] for facts in result.heads.values()] == [None, "paired"]
    assert "last went on from the head of paired" in markdown(result)


def test_a_run_learns_from_a_head_of_the_study_or_of_another(
    study: Made, runs: list[Any], flux_pair: ModelPair
) -> None:
    taught = runs[0].config.last.model_copy(update={"name": "taught", "previous": "teacher"})
    inside = study(runs=study_runs([runs[0].config, taught], flux_pair))
    result, _ = run(inside)
    assert "taught went on from the head of paired" in markdown(result)
    teacher = Head.from_pretrained(inside.folder / "runs" / "paired")
    outside = study("outside", runs=study_runs([taught], flux_pair, known=["paired"]), heads={"paired": teacher})
    again, _ = run(outside)
    facts = again.heads["taught"]
    assert facts["digest"] == result.heads["taught"]["digest"] and facts["base"] == "paired"
    assert again.settings["heads"] == {"paired": teacher.digest}


def test_a_head_that_changes_latents_is_fitted_to_the_pair(study: Made, flux_pair: ModelPair) -> None:
    config = tiny(
        "changed", head=LatentUNetConfig(channels=(4,)), objective=LatentObjective(), crop_px=None, flip=False
    )
    runs = study_runs([config], flux_pair)
    result, _ = run(study(runs=runs))
    facts = result.heads["changed"]
    assert facts["kind"] == "latent-unet" and facts["input"] == "latent" and not runs[0].changed
    decoding = next(row.tflop for row in pair_cost(flux_pair).distilled.rows if row.piece == "VAE decode")
    of_head = score(result, "head_tflop", "changed")
    assert of_head > decoding
    alone = score(result, "tflop", "distilled")
    assert score(result, "tflop", "changed") == pytest.approx(alone - decoding + of_head)
    assert result.best_head(("latent-unet",)) == "changed" and result.best_head(("unet", "decoder")) is None


def test_a_refiner_goes_on_from_a_head_of_images_and_the_baselines_own_latents(
    study: Made, runs: list[Any], flux_pair: ModelPair
) -> None:
    paired = runs[0].config.last
    head = RefinerConfig(painter=paired.head, latent=LatentUNetConfig(channels=(4,)))
    config = tiny("refined", head=head, objective=LatentObjective(), crop_px=None, flip=False, previous="start")
    work = study(runs=study_runs([paired, config], flux_pair))
    result, _ = run(work)
    facts, of_head = result.heads["refined"], score(result, "head_tflop", "refined")
    assert facts["kind"] == "refiner" and facts["input"] == "image" and of_head > score(result, "head_tflop", "paired")
    assert score(result, "tflop", "refined") == pytest.approx(score(result, "tflop", "distilled") + of_head)
    pair = PairDataset.open(work.folder / "pairs")[0]
    assert pair.latents is not None and pair.baseline_latents is not None
    assert pair.latents.shape == pair.baseline_latents.shape


def test_its_files(study: Made) -> None:
    work = study()
    result, _ = run(work)
    write_benchmark(work.folder, result)
    assert {path.name for path in work.folder.iterdir()} == {
        "settings.json", "pairs", "runs", "cache", "subjects.json",
        "study.json", "study.md", "study.html", "contact-1.png", "contact-2.png",
    }  # fmt: skip
    with Image.open(work.folder / "contact-1.png") as sheet:
        assert sheet.width > 8 * 96 and sheet.height > 5 * 64  # distilled, three heads, baseline
    page = (work.folder / "study.html").read_text()
    assert 'src="http' not in page and all(name in page for name in result.heads)
    lines = (work.folder / "study.md").read_text().splitlines()
    cells = [line.count("|") for line in lines if line.startswith("|")]
    assert len(cells) == 2 + len(result.arms) and len(set(cells)) == 1
    assert (work.folder / "study.md").read_text() == markdown(result)


def test_a_finished_study_does_nothing_again(study: Made, generated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = run(study())

    class Idle:
        def __init__(self, inner: Any) -> None:
            self.spec = inner.spec

        def generate(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("generated again")

        generate_latents = decode = generate

    def again(*_: Any, **__: Any) -> Any:
        raise AssertionError("measured again")

    monkeypatch.setattr(study_scores, "evaluate", again)
    second, _ = run(study(generators=(Idle(generated[0]), Idle(generated[1]))))
    assert second.as_dict() == first.as_dict()


def test_finished_runs_need_no_pairs(study: Made, runs: list[Any]) -> None:
    result, _ = run(study())
    work = study()
    shutil.rmtree(work.folder / "pairs")
    (work.folder / "study.json").unlink()
    again, sentences = run(work)
    assert sentences["pairs"] == "not needed any more, all runs are finished"
    assert timeless(again) == timeless(result)
    assert not (work.folder / "pairs").exists()
    folder = work.folder / "runs" / "paired"
    assert finished_head(folder, runs[0].config) is not None
    assert finished_head(folder, runs[0].config.with_images(20)) is None, "it has not seen all images"
    assert finished_head(folder, with_settings(runs[0].config, ["seed=1"])) is None
    assert finished_head(work.folder / "runs" / "none", runs[0].config) is None


def test_stopped_in_every_stage_the_same_study_goes_on(study: Made) -> None:
    whole, _ = run(study("whole"))

    class Stopped(Exception):
        pass

    def stop(done: int, total: int, note: str) -> None:
        if done >= 2:
            raise Stopped

    for stop_in in ("pairs", "train unpaired", "train latents", "generate", "evaluate unpaired"):
        with pytest.raises(Stopped):
            for stage in study("parts").stages():
                stage.run(stop if stage.name == stop_in else lambda done, total, note: None)
    resumed, _ = run(study("parts"))
    assert timeless(resumed) == timeless(whole)


def test_a_model_that_fails_ends_the_study_and_the_next_run_goes_on(
    study: Made, flux_pair: ModelPair, generated: Any
) -> None:
    kind = type(generated[0])
    bad = (generated[0], kind(flux_pair.baseline, plastic=False, fails_on=9_000_005))
    with pytest.raises(ModelError, match="9000005"):
        run(study(generators=bad))
    good = (kind(flux_pair.distilled, plastic=True), kind(flux_pair.baseline, plastic=False))
    result, _ = run(study(generators=good))
    assert result.n == HELD_OUT and sum(good[0].calls) < PAIRS  # the pairs were there


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
    with pytest.raises(UsageError, match="2 or more subjects"):
        study("new", prompts=["a"], seeds=[1])
    with pytest.raises(UsageError, match="batch size 0"):
        study("new", batch_size=0)
    assert not (tmp_path / "new").exists()


def test_a_new_or_damaged_measurement_is_made_again(study: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    work = study()
    first, _ = run(work)
    before = bytes_of(work.folder / "cache")
    (kept,) = (path for path, text in before.items() if path.suffix == ".json" and b'"arm": "paired"' in text)
    kept.write_text("{")
    again, _ = run(study())
    after = bytes_of(work.folder / "cache")
    assert after.keys() == before.keys()
    assert [path for path in before if after[path] != before[path]] == [kept]
    assert json.loads(after[kept])["seconds"] != json.loads(before[kept])["seconds"]
    distances = [score(one, "frechet", "paired") for one in (first, again)]
    assert distances[1] == pytest.approx(distances[0], rel=1e-4)  # features of a cache are rounded
    monkeypatch.setattr(study_scores, "__version__", "another")
    run(study())
    added = bytes_of(work.folder / "cache").keys() - before.keys()
    assert {path.suffix for path in added} == {".json"} and len(added) == 1 + len(first.heads)


def test_a_study_of_format_version_1_is_refused_in_one_sentence(study: Made) -> None:
    work = study()
    next(iter(work.stages()))
    about = work.folder / "settings.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "format_version": 1}))
    with pytest.raises(DataError, match="format version 1; use another folder") as refused:
        study()
    assert "\n" not in str(refused.value)


def test_heads_are_told_from_the_baseline_by_a_classifier(study: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[torch.Tensor, torch.Tensor]] = []

    def classify(a: torch.Tensor, b: torch.Tensor, *, seed: int) -> tuple[Interval, float]:
        asked.append((a, b))
        return Interval(0.5 + 0.1 * len(asked), 0.5, 0.9), 0.9

    monkeypatch.setattr(c2st, "two_sample", classify)
    result, _ = run(study())
    assert len(asked) == 5  # distilled, the baseline at other seeds, three heads; each against the same images, once
    assert all(a.dtype == torch.uint8 and a.shape == b.shape == (HELD_OUT, 3, 32, 48) for a, b in asked)
    assert all(torch.equal(b, asked[0][1]) for _, b in asked)
    assert score(result, "c2st_accuracy", "distilled") == pytest.approx(0.6)
    rows = table(result)
    place = list(rows.columns).index("two-sample accuracy")
    assert [row[place] for row in rows.rows][:5] == ["60.0 %", "80.0 %", "90.0 %", "100.0 %", "70.0 %"]
