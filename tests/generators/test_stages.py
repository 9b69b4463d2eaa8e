"""Pairs of every family pass through stages: each text encoder is loaded once, each text encoded once."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.card import Card
from tests.tiny_pipelines import TINY
from topcoat.generators.base import GeneratorSpec, ModelPair
from topcoat.generators.diffusers import load_generator, load_pair
from topcoat.generators.placement import networks_of
from topcoat.pairs import PairingConfig, build_pairs
from topcoat.pairs.schema import default_seed

pytestmark = pytest.mark.filterwarnings(  # diffusers' Euler schedulers hand a tensor to numpy in an old way
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

PROMPTS = ["studio portrait of a young woman", "old man", "red hair", "an old man of brown hair", "brown eyes"]
BATCH = 2
FAMILIES = ("flux1", *TINY)


@pytest.fixture(scope="module")
def pairs(
    family_specs: dict[str, GeneratorSpec], flux_pair: ModelPair, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, ModelPair]:
    """Family -> a pair of two folders of one content, offloaded, with guidance on one side."""
    made = {}
    for name, spec in {"flux1": flux_pair.baseline, **family_specs}.items():
        # FLUX.2 dev puts an instruction before the text
        baseline = spec.model_copy(update={"max_sequence_length": 64}) if name == "flux2" else spec
        copy = tmp_path_factory.mktemp("copies") / name
        shutil.copytree(baseline.model, copy)
        update = {"name": f"fast-{name}", "model": str(copy), "steps": 2, "guidance_scale": 0.0}
        distilled = baseline.model_copy(update=update)
        made[name] = ModelPair(name=name, distilled=distilled, baseline=baseline).offloaded("model")
    return made


def watch_texts(pipeline: Any) -> Counter[tuple[str, tuple[int, ...]]]:
    """Counts how often each row of tokens passes through each text encoder of a pipeline from now on."""
    rows: Counter[tuple[str, tuple[int, ...]]] = Counter()

    def watch(name: str, encoder: Any) -> None:
        original = encoder.forward

        def forward(input_ids: torch.Tensor, *args: Any, **named: Any) -> Any:
            rows.update((name, tuple(row)) for row in input_ids.tolist())
            return original(input_ids, *args, **named)

        encoder.forward = forward

    for name, network in networks_of(pipeline).items():
        if name.startswith("text_encoder"):
            watch(name, network)
    return rows


@pytest.mark.parametrize("family", FAMILIES)
def test_every_text_is_encoded_once_and_denoisers_take_turns(
    family: str, pairs: dict[str, ModelPair], tmp_path: Path, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = pairs[family]
    # the hooks of accelerate wrap the method that a network has when it is placed, so the texts are watched before
    rows: list[Counter[Any]] = []
    monkeypatch.setattr("topcoat.generators.diffusers.place", watched_place(rows))
    generators = load_pair(pair)
    encoders = [
        {name: network for name, network in networks_of(generator.pipeline).items() if name.startswith("text_encoder")}
        for generator in generators
    ]
    assert encoders[0] and all(encoders[0][name] is encoders[1][name] for name in encoders[1])
    dataset = build_pairs(tmp_path, PROMPTS, pair, batch_size=BATCH, generators=generators)
    assert len(dataset) == len(PROMPTS) and dataset.manifest.failures == ()

    counted = rows[0]
    for name in encoders[0]:
        counts = sorted((count for (encoder, _), count in counted.items() if encoder == name), reverse=True)
        texts, empty = counts[-len(PROMPTS) :], counts[: -len(PROMPTS)]
        assert texts == [1] * len(PROMPTS)
        assert len(empty) <= 1, "guidance reads one more text"
    denoiser = type(
        next(n for name, n in networks_of(generators[0].pipeline).items() if name in ("transformer", "unet"))
    )
    assert card.most[denoiser.__name__] == 1
    assert card.arrivals[denoiser.__name__] == 2, "each denoiser is brought once for a shard"
    assert card.here() == []


def watched_place(rows: list[Counter[Any]]) -> Any:
    """`place` that first watches the text encoders of the first pipeline."""
    from topcoat.generators.placement import place

    def watched(pipeline: Any, spec: GeneratorSpec) -> None:
        if not rows:
            rows.append(watch_texts(pipeline))
        place(pipeline, spec)

    return watched


@pytest.mark.parametrize(
    ("family", "method"),
    [
        *((family, "same-seed") for family in FAMILIES),
        *((family, "img2img") for family in ("flux1", "sdxl", "z-image")),
    ],
)
def test_stages_change_no_bit(family: str, method: str, pairs: dict[str, ModelPair], tmp_path: Path) -> None:
    pair = pairs[family]
    pairing = PairingConfig.model_validate({"method": method, "strength": 0.7 if method == "img2img" else None})
    dataset = build_pairs(tmp_path, PROMPTS, pair, batch_size=BATCH, pairing=pairing)
    distilled, baseline = (load_generator(spec) for spec in (pair.distilled, pair.baseline))
    for start in range(0, len(PROMPTS), BATCH):
        prompts = PROMPTS[start : start + BATCH]
        seeds = [default_seed(start + place) for place in range(len(prompts))]
        fast = distilled.generate(prompts, seeds).mul(255).round().div(255)
        slow = (
            baseline.generate(prompts, seeds)
            if method == "same-seed"
            else baseline.img2img(fast, prompts, seeds, strength=0.7)
        )
        for place, (one, other) in enumerate(zip(fast, slow, strict=True)):
            assert torch.equal(dataset.image(start + place, "distilled"), one)
            assert torch.equal(dataset.image(start + place, "baseline"), other.mul(255).round().div(255))


def test_progress_grows_through_all_stages(pairs: dict[str, ModelPair], tmp_path: Path) -> None:
    told: list[int] = []
    build_pairs(tmp_path, PROMPTS, pairs["sdxl"], batch_size=1, on_progress=lambda done, total: told.append(done))
    assert told == sorted(told) and told[-1] == len(PROMPTS)
    assert len(set(told)) > 3, "it moves before the first image is decoded"
