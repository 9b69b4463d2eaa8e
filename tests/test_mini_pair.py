"""The embedded mini pair as it ships: complete, loadable by diffusers alone, one subject per seed, and worth a head."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from torch import Tensor
from torch.nn import functional

from topcoat.embedded import MINI
from topcoat.features import load_feature_net, whole
from topcoat.files import sha256_of
from topcoat.gates import Gates, rules_of
from topcoat.generators.diffusers import load_pair
from topcoat.generators.presets import model_pair
from topcoat.heads import Head
from topcoat.metrics.identity import cosine, different_subjects
from topcoat.prompts import held_out_prompts

COUNT = 24
TEXTS = [prompt.text for prompt in held_out_prompts(COUNT, 21)]
SEEDS = range(5_000, 5_000 + COUNT)


@pytest.fixture(scope="module")
def painted() -> dict[str, Tensor]:
    """The same subjects by both models, and enhanced."""
    distilled, baseline = load_pair(model_pair("mini"))
    latents = distilled.generate_latents(TEXTS, SEEDS)
    x = distilled.decode(latents)
    return {
        "x": x,
        "head": Head.default()(x),
        "decoder": Head.load("embedded-decoder")(latents),
        "refiner": Head.load("embedded-refiner")(x),
        "y": baseline.generate(TEXTS, SEEDS),
    }


def test_the_assets_are_small_complete_and_as_the_card_says() -> None:
    card = json.loads((MINI / "card.json").read_text())
    weights = {str(path.relative_to(MINI)): sha256_of(path) for path in MINI.rglob("*.safetensors")}
    assert weights == card["digests"]
    assert len(weights) == 10  # VAE, two text encoders, two transformers, two feature nets, three heads
    files = [path for path in MINI.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 60e6
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".md", ".onnx", ".toml"}


def test_plain_diffusers_paints_the_same_portrait() -> None:
    spec = model_pair("mini").distilled
    transformer = FluxTransformer2DModel.from_pretrained(MINI / "distilled" / "transformer", dtype=torch.float32)
    pipeline: Any = FluxPipeline.from_pretrained(MINI / "pipeline", transformer=transformer, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        prompt=TEXTS[0],
        height=spec.height_px,
        width=spec.width_px,
        num_inference_steps=spec.steps,
        guidance_scale=spec.guidance_scale,
        max_sequence_length=spec.max_sequence_length,
        generator=torch.Generator().manual_seed(17),
        output_type="pt",
    ).images
    distilled, _ = load_pair(model_pair("mini"))
    ours = distilled.generate(TEXTS[:3], [16, 17, 18])
    alone = distilled.generate(TEXTS[:1], [17])
    torch.testing.assert_close(alone, theirs, rtol=0, atol=2e-3)
    torch.testing.assert_close(distilled.generate([TEXTS[1]], [17]), ours[1:2], rtol=0, atol=2e-3)


def test_one_seed_is_one_subject_in_both_models(painted: dict[str, Tensor]) -> None:
    net = load_feature_net("eval")
    x, y = net(painted["x"]).identity, net(painted["y"]).identity
    same, different = cosine(x, y), different_subjects(x, y)
    assert float(same.mean()) > float(different.mean()) + 0.3
    assert float(same.quantile(0.05)) > float(different.mean())


@pytest.mark.parametrize("head", ["head", "decoder", "refiner"])
def test_every_head_comes_nearer_to_the_baseline_and_keeps_the_person(painted: dict[str, Tensor], head: str) -> None:
    net = load_feature_net("eval")
    x, z, y = (net(painted[name]) for name in ("x", head, "y"))
    before = (x.embedding - y.embedding).norm(dim=1).mean()
    after = (z.embedding - y.embedding).norm(dim=1).mean()
    assert float(after) < float(before)
    assert float(cosine(x.identity, z.identity).mean()) > float(different_subjects(x.identity, y.identity).mean()) + 0.3


def test_words_it_never_saw_break_nothing() -> None:
    distilled, _ = load_pair(model_pair("mini"))
    images = distilled.generate(["Ünïcödé 🦊 " * 60, "x"], [1, 2])
    assert images.shape == (2, 3, 128, 128)
    assert float(images.std()) > 0.05


def test_gates_at_1024_px_stop_whom_they_stop_at_128(painted: dict[str, Tensor]) -> None:
    small, rules, net = painted["x"][:16], rules_of(Head.default()), load_feature_net("loss")
    large = functional.interpolate(small, size=(1024, 1024), mode="bicubic", antialias=True).clamp(0, 1)
    assert rules is not None
    gates = Gates(net, identity_floor=rules.identity_floor)
    passed = [
        {row for row, one in enumerate(gates(x, x.roll(1, 0)).decisions) if one.kept == "enhanced"}
        for x in (small, large)
    ]  # each portrait "enhanced" into that of another person
    assert passed[1] <= passed[0] and len(passed[0]) <= 3
    assert float(cosine(whole(net, large).identity, net(small).identity).min()) > 0.95
