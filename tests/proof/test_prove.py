from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.proof.conftest import SharpenHead
from topcoat.cost import pair_cost
from topcoat.errors import ModelError, UsageError
from topcoat.features import FeatureNet
from topcoat.generators.base import Generator, ModelPair
from topcoat.proof import Proof, prove

PROMPTS = [f"studio portrait of a {age} {who}" for age in ("young", "old") for who in ("woman", "man")] * 4
SEEDS = range(100, 116)

KEYS = {
    "pair": None,
    "n": None,
    "steps": {"distilled", "baseline"},
    "frechet": {"distilled", "enhanced", "unsharp", "colour", "baseline_floor"},
    "gap_closed": {"value", "low", "high"},
    "gap_extrapolated": None,
    "identity": {"mean", "p05"},
    "identity_pairs": {"same_mean", "same_p05", "different_mean", "different_p95"},
    "seconds_per_image": {"distilled", "head", "baseline", "enhanced"},
    "tflop_per_image": {"distilled", "head", "baseline", "enhanced"},
    "saving": {"tflop", "seconds"},
    "saving_at_28_steps": {"tflop", "seconds"},
    "hardware": None,
    "features": {"net", "digest", "dimensions"},
    "versions": None,
    "settings": None,
}


@pytest.fixture
def proof(
    flux_pair: ModelPair, head: Any, net: FeatureNet, painted: tuple[Generator, Generator], tmp_path: Path
) -> tuple[Proof, Path]:
    output = tmp_path / "out"
    found = prove(flux_pair, head, PROMPTS, SEEDS, output=output, batch_size=6, generators=painted, features=net)
    return found, output


def test_report_json_has_the_keys_and_agrees_with_its_parts(
    proof: tuple[Proof, Path], flux_pair: ModelPair, head: Any
) -> None:
    found, output = proof
    data = json.loads((output / "report.json").read_text())
    assert set(data) == set(KEYS)
    for key, inner in KEYS.items():
        if inner is not None:
            assert set(data[key]) == inner
    assert data == json.loads(json.dumps(found.as_dict()))
    assert (data["pair"], data["n"], data["steps"]) == ("tiny", 16, {"distilled": 1, "baseline": 3})
    assert data["gap_extrapolated"] is None  # 16 subjects are fewer than twice the dimensions
    table = pair_cost(flux_pair, head)
    assert data["tflop_per_image"]["baseline"] == pytest.approx(table.baseline.tflop)
    assert data["saving"]["tflop"] == pytest.approx(table.saving(3))
    assert data["saving_at_28_steps"]["tflop"] == pytest.approx(table.saving(28))
    seconds = data["seconds_per_image"]
    ours = seconds["distilled"] + seconds["head"]
    assert seconds["enhanced"] == pytest.approx(ours)
    tflop = data["tflop_per_image"]
    assert tflop["enhanced"] == pytest.approx(tflop["distilled"] + tflop["head"])
    assert data["saving"]["seconds"] == pytest.approx(1 - ours / seconds["baseline"])
    assert data["identity_pairs"]["same_mean"] > data["identity_pairs"]["different_mean"]
    assert data["frechet"]["enhanced"] < data["frechet"]["distilled"]
    assert "/" not in data["settings"]["models"]["distilled"]["model"]  # no path of this machine


def test_the_files_beside_it(proof: tuple[Proof, Path]) -> None:
    _, output = proof
    assert sorted(path.name for path in output.iterdir()) == [
        "contact.png",
        "report.html",
        "report.json",
        "subjects.json",
    ]
    subjects = json.loads((output / "subjects.json").read_text())
    assert subjects[1] == {"prompt": PROMPTS[1], "seed": 101}
    with Image.open(output / "contact.png") as sheet:
        assert sheet.width > 10 * 96 and sheet.height > 3 * 64


def test_summary_says_what_a_saving_is(proof: tuple[Proof, Path]) -> None:
    text = proof[0].summary()
    wanted = ("1 step + head against 3 steps", "against 28 steps", "48x32", "(computed)", "(measured)", "16 subjects")
    for words in wanted:
        assert words in text


def test_progress_counts_every_image_once(
    flux_pair: ModelPair, head: Any, net: FeatureNet, painted: tuple[Generator, Generator], tmp_path: Path
) -> None:
    seen: list[tuple[int, int, str]] = []
    prove(
        flux_pair,
        head,
        PROMPTS[:5],
        SEEDS[:5],
        output=tmp_path,
        batch_size=2,
        generators=painted,
        features=net,
        on_progress=lambda done, total, stage: seen.append((done, total, stage)),
    )
    assert seen[-1][:2] == (25, 25)
    assert {stage for _, _, stage in seen} == {"distilled", "head", "baseline", "baseline at 28 steps", "floor"}
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)


def test_a_stopped_proof_goes_on_from_its_cache(
    flux_pair: ModelPair, head: Any, net: FeatureNet, fake_generators: tuple[Any, Any], tmp_path: Path
) -> None:
    kind = type(fake_generators[0])

    def run(output: str, cache: Path | None, fails_on: int | None = None) -> tuple[Proof, list[Any]]:
        pair = [
            kind(flux_pair.distilled, plastic=True, fails_on=fails_on),
            kind(flux_pair.baseline, plastic=False),
        ]
        found = prove(
            flux_pair,
            head,
            PROMPTS[:6],
            SEEDS[:6],
            output=tmp_path / output,
            batch_size=2,
            cache=cache,
            generators=(pair[0], pair[1]),
            features=net,
        )
        return found, pair

    cache = tmp_path / "cache"
    with pytest.raises(ModelError, match="seed 104"):
        run("stopped", cache, fails_on=104)
    assert not (tmp_path / "stopped").exists()
    resumed, pair = run("resumed", cache)
    assert sum(pair[0].calls) == 4  # the last batch and its warm-up
    fresh, _ = run("fresh", None)
    assert resumed.frechet == fresh.frechet and resumed.gap_closed == fresh.gap_closed
    again, pair = run("again", cache)
    assert pair[0].calls == pair[1].calls == []
    assert again.seconds_per_image.baseline == resumed.seconds_per_image.baseline
    for shard in (cache / "floor").iterdir():
        shard.write_bytes(b"damaged")
    assert run("damaged", cache)[0].frechet == fresh.frechet


def test_the_head_runs_where_the_distilled_model_does(
    flux_pair: ModelPair, net: FeatureNet, painted: tuple[Any, Any], tmp_path: Path
) -> None:
    events: list[str] = []

    class Watched(SharpenHead):
        def to(self, device: str | torch.device, /) -> None:
            events.append(str(device))
            super().to(device)

        def __call__(self, images: Tensor, strength: float = 1.0) -> Tensor:
            events.append("enhance")
            assert images.device.type == "cpu"  # so its seconds hold the way to the device and back
            return super().__call__(images, strength)

    painted[0].device = torch.device("cuda")
    prove(flux_pair, Watched(), PROMPTS[:2], SEEDS[:2], output=tmp_path, generators=painted, features=net)
    assert events == ["cuda", "enhance", "enhance"]  # once to warm up


def test_the_real_pipeline_end_to_end(flux_pair: ModelPair, head: Any, net: FeatureNet, tmp_path: Path) -> None:
    found = prove(flux_pair, head, PROMPTS[:4], SEEDS[:4], output=tmp_path, batch_size=4, features=net)
    assert found.n == 4
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
    painted: tuple[Generator, Generator],
    tmp_path: Path,
    change: dict[str, Any],
    message: str,
) -> None:
    request: dict[str, Any] = {"prompts": ["a", "b"], "seeds": [1, 2], "output": tmp_path / "out"}
    arguments: dict[str, Any] = request | {"generators": painted, "features": net} | change
    with pytest.raises(UsageError, match=message):
        prove(flux_pair, head, **arguments)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_counted_fails_before_anything_is_painted(
    fake_pair: ModelPair, fake_generators: tuple[Any, Any], head: Any, net: FeatureNet, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="not known here"):
        prove(fake_pair, head, ["a", "b"], [1, 2], output=tmp_path, generators=fake_generators, features=net)
    assert fake_generators[0].calls == []
