from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.benchmark.conftest import SharpenHead
from topcoat.benchmark.compare import run_benchmark
from topcoat.benchmark.record import BenchmarkResult
from topcoat.benchmark.store import to_bytes, to_floats
from topcoat.cost.flops import pair_cost
from topcoat.errors import DataError, ModelError, UsageError
from topcoat.features import FeatureNet
from topcoat.generators.base import Generator, ModelPair
from topcoat.heads import Head
from topcoat.metrics.gap import gap_closed
from topcoat.metrics.identity import cosine, different_subjects
from topcoat.reports.benchmark import write_benchmark
from topcoat.reports.benchmark_tables import summary

PROMPTS = [f"studio portrait of a {age} {who}" for age in ("young", "old") for who in ("woman", "man")] * 4
SEEDS = range(100, 116)
ARMS = ["distilled", "enhanced", "baseline", "unsharp", "colour", "floor", "baseline_28_steps"]


@pytest.fixture
def result(flux_pair: ModelPair, head: Any, net: FeatureNet, generated: tuple[Generator, Generator]) -> BenchmarkResult:
    return run_benchmark(flux_pair, head, PROMPTS, SEEDS, batch_size=6, generators=generated, features=net)


@pytest.fixture
def output(result: BenchmarkResult, tmp_path: Path) -> Path:
    write_benchmark(tmp_path / "out", result)
    return tmp_path / "out"


def test_scores_agree_with_an_independent_way_to_them(
    result: BenchmarkResult, flux_pair: ModelPair, head: Any, net: FeatureNet, generated: tuple[Any, Any]
) -> None:
    seeds = list(SEEDS)
    x, y = (to_bytes(one.generate(PROMPTS, seeds)) for one in generated)
    floor = to_bytes(generated[1].generate(PROMPTS, [seed + 1_000_000_007 for seed in seeds]))
    z = to_bytes(head(to_floats(x)))
    features = [net(to_floats(images)) for images in (x, z, y, floor)]
    gap = gap_closed(*(one.embedding.double() for one in features))
    for arm, interval in (("distilled", gap.distilled), ("enhanced", gap.enhanced), ("floor", gap.floor)):
        score = result.score("frechet", arm)
        assert score is not None and (score.n, score.digest) == (16, net.digest)
        assert (score.value, score.low, score.high) == pytest.approx((interval.value, interval.low, interval.high))
    assert result.value("gap_closed", "enhanced") == (None if gap.share is None else pytest.approx(gap.share.value))
    distilled, enhanced, baseline = (one.identity for one in features[:3])
    kept, same = cosine(distilled, enhanced), cosine(distilled, baseline)
    different = different_subjects(distilled, baseline)
    assert result.value("identity_mean", "enhanced") == pytest.approx(float(kept.mean()))
    assert result.value("identity_p05", "enhanced") == pytest.approx(float(kept.quantile(0.05)))
    assert result.value("identity_mean", "baseline") == pytest.approx(float(same.mean()))
    assert result.value("identity_mismatched_p95", "baseline") == pytest.approx(float(different.quantile(0.95)))
    assert same.mean() > different.mean()
    assert gap.enhanced.value < gap.distilled.value
    assert result.value("frechet_extrapolated", "enhanced") is None  # 16 subjects are fewer than twice the dimensions


def test_costs_and_savings_add_up(result: BenchmarkResult, flux_pair: ModelPair, head: Any) -> None:
    table, value = pair_cost(flux_pair, head), result.value
    assert value("tflop", "baseline") == pytest.approx(table.baseline.tflop)
    assert value("tflop", "enhanced") == pytest.approx(table.enhanced.tflop)
    assert value("head_tflop", "enhanced") == pytest.approx(table.head_tflop)
    assert value("tflop_saving", "enhanced") == pytest.approx(table.saving(3).share)
    assert value("tflop_saving_at_28_steps", "enhanced") == pytest.approx(table.saving(28).share)
    ours, theirs = value("seconds", "enhanced"), value("seconds", "baseline")
    generator, of_head = value("generator_seconds", "enhanced"), value("head_seconds", "enhanced")
    assert ours is not None and theirs is not None and generator is not None and of_head is not None
    assert value("seconds_saving", "enhanced") == pytest.approx(1 - ours / theirs)
    assert ours >= generator and ours >= of_head
    timing = result.score("seconds", "enhanced")
    assert timing is not None and timing.n == 2 and timing.low is not None  # full batches alone
    assert timing.low <= timing.value


def test_the_record_is_read_as_it_was_written(result: BenchmarkResult, output: Path) -> None:
    data = json.loads((output / "report.json").read_text())
    assert (data["format_version"], data["pair"], data["n"]) == (2, "tiny", 16)
    assert list(data["arms"]) == ARMS == list(result.arms)
    assert data == json.loads(json.dumps(result.as_dict()))
    loaded = BenchmarkResult.load(output / "report.json")
    assert loaded.scores == result.scores and loaded.arms == result.arms
    assert (loaded.distilled, loaded.baseline) == ("distilled", "baseline")
    assert "/" not in data["settings"]["models"]["distilled"]["model"]  # no path of this machine
    (output / "report.json").write_text('{"pair": "tiny"}')
    with pytest.raises(DataError, match="format version 2"):
        BenchmarkResult.load(output / "report.json")
    with pytest.raises(DataError, match="damaged"):
        BenchmarkResult.from_dict({"format": "topcoat-benchmark", "format_version": 2})


def test_its_files(output: Path) -> None:
    assert sorted(path.name for path in output.iterdir()) == [
        "contact-1.png", "contact-2.png", "report.html", "report.json", "report.md", "subjects.json",
    ]  # fmt: skip
    subjects = json.loads((output / "subjects.json").read_text())
    assert subjects[1] == {"prompt": PROMPTS[1], "seed": 101}
    with Image.open(output / "contact-1.png") as sheet:
        assert sheet.width > 8 * 96 and sheet.height > 3 * 64


def test_the_summary_says_what_a_saving_is(result: BenchmarkResult) -> None:
    text = summary(result)
    for words in (
        "1 step + head against 3 steps", "against 28 steps", "48x32", "(computed)", "(measured)", "16 subjects",
    ):  # fmt: skip
        assert words in text


def test_progress_counts_every_image_once(
    flux_pair: ModelPair, head: Any, net: FeatureNet, generated: tuple[Generator, Generator]
) -> None:
    seen: list[tuple[int, int, str]] = []
    run_benchmark(
        flux_pair,
        head,
        PROMPTS[:5],
        SEEDS[:5],
        batch_size=2,
        generators=generated,
        features=net,
        on_progress=lambda done, total, stage: seen.append((done, total, stage)),
    )
    assert seen[-1][:2] == (25, 25)
    assert {stage for _, _, stage in seen} == {
        "1 step", "1 step + head", "baseline, 3 steps", "baseline, 28 steps", "baseline, 3 steps, other seeds",
    }  # fmt: skip
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)


def test_a_stopped_benchmark_goes_on_from_its_cache(
    flux_pair: ModelPair, head: Any, net: FeatureNet, fake_generators: tuple[Any, Any], tmp_path: Path
) -> None:
    kind = type(fake_generators[0])

    def run(cache: Path | None, fails_on: int | None = None) -> tuple[BenchmarkResult, list[Any]]:
        pair = [
            kind(flux_pair.distilled, plastic=True, fails_on=fails_on),
            kind(flux_pair.baseline, plastic=False),
        ]
        result = run_benchmark(
            flux_pair,
            head,
            PROMPTS[:6],
            SEEDS[:6],
            batch_size=2,
            cache=cache,
            generators=(pair[0], pair[1]),
            features=net,
        )
        return result, pair

    def quality(result: BenchmarkResult) -> list[Any]:
        return [score for score in result.scores if score.family != "time"]

    cache = tmp_path / "cache"
    with pytest.raises(ModelError, match="seed 104"):
        run(cache, fails_on=104)
    resumed, pair = run(cache)
    assert sum(pair[0].calls) == 4  # the last batch and its warm-up
    fresh, _ = run(None)
    assert quality(resumed) == quality(fresh)
    again, pair = run(cache)
    assert pair[0].calls == pair[1].calls == []
    assert again.score("seconds", "baseline") == resumed.score("seconds", "baseline")
    for batch in cache.iterdir():
        batch.write_bytes(b"damaged")
    assert quality(run(cache)[0]) == quality(fresh)


def test_the_head_runs_where_the_distilled_model_does(
    flux_pair: ModelPair, net: FeatureNet, generated: tuple[Any, Any]
) -> None:
    events: list[str] = []

    class Watched(SharpenHead):
        def to(self, device: str | torch.device | torch.dtype | None = None, dtype: torch.dtype | None = None) -> Head:
            events.append(str(device))
            return super().to(device, dtype)

        def __call__(self, inputs: Tensor, strength: float = 1.0) -> Tensor:
            events.append("enhance")
            assert inputs.device.type == "cpu"  # so its seconds hold the way to the device and back
            return super().__call__(inputs, strength)

    generated[0].device = torch.device("meta")
    run_benchmark(flux_pair, Watched(), PROMPTS[:2], SEEDS[:2], generators=generated, features=net)
    assert events == ["meta", "enhance", "enhance", "enhance"]  # once to warm up, and once more for the pictures


def test_the_real_pipeline_end_to_end(flux_pair: ModelPair, head: Any, net: FeatureNet, tmp_path: Path) -> None:
    result = run_benchmark(flux_pair, head, PROMPTS[:4], SEEDS[:4], batch_size=4, features=net)
    write_benchmark(tmp_path, result)
    assert result.n == 4
    assert (tmp_path / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": ["a"], "seeds": [1]}, "2 or more"),
        ({"prompts": ["a", "b"], "seeds": [1]}, "one seed for each"),
        ({"batch_size": 0}, "batch size 0"),
        ({"prompts": ["a", ""]}, "empty"),
    ],
)
def test_refusals(
    flux_pair: ModelPair,
    head: Any,
    net: FeatureNet,
    generated: tuple[Generator, Generator],
    change: dict[str, Any],
    message: str,
) -> None:
    request: dict[str, Any] = {"prompts": ["a", "b"], "seeds": [1, 2], "generators": generated, "features": net}
    with pytest.raises(UsageError, match=message):
        run_benchmark(flux_pair, head, **(request | change))


def test_what_cannot_be_counted_fails_before_anything_is_generated(
    fake_pair: ModelPair, fake_generators: tuple[Any, Any], head: Any, net: FeatureNet
) -> None:
    with pytest.raises(ModelError, match="not known here"):
        run_benchmark(fake_pair, head, ["a", "b"], [1, 2], generators=fake_generators, features=net)
    assert fake_generators[0].calls == []
