"""Every family through every command, on a tiny pipeline of random weights of the real class."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.conftest import scores_of
from tests.tiny_pipelines import TINY
from topcoat.features import FeatureNet
from topcoat.generators.base import GeneratorSpec, ModelPair
from topcoat.heads import Head
from topcoat.images import read_image
from topcoat.pairs.dataset import PairDataset

pytestmark = pytest.mark.filterwarnings(  # diffusers' Euler schedulers hand a tensor to numpy in an old way
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
TEXT = "studio portrait of a young woman"
GUIDED = {"guidance_scale": 4.0}
DIRECT: dict[str, dict[str, Any]] = {
    "flux1": {"guidance_scale": 0.0, "max_sequence_length": 12},
    "flux2-klein": GUIDED | {"max_sequence_length": 8},
    "flux2": GUIDED | {"max_sequence_length": 8},
    "sdxl": GUIDED,
    "sd15": GUIDED,
    "sd3": GUIDED | {"max_sequence_length": 8},
    "qwen-image": {"true_cfg_scale": 4.0, "negative_prompt": " ", "max_sequence_length": 8},
    "z-image": GUIDED | {"max_sequence_length": 8},
    "sana": GUIDED | {"max_sequence_length": 8, "use_resolution_binning": False},
    "sana-sprint": GUIDED | {"max_sequence_length": 8, "use_resolution_binning": False, "intermediate_timesteps": None},
    "pixart": GUIDED | {"max_sequence_length": 8, "use_resolution_binning": False, "clean_caption": False},
}
"""What a user of diffusers calls the pipeline with, besides prompt, size, steps and noise."""


def directly(spec: GeneratorSpec, call: dict[str, Any]) -> torch.Tensor:
    """The image ``(3, H, W)`` that diffusers gives without topcoat."""
    diffusers = importlib.import_module("diffusers")
    index = (Path(spec.model) / "model_index.json").read_text()
    loading = {"safety_checker": None} if "StableDiffusionSafetyChecker" in index else {}
    pipeline: Any = diffusers.DiffusionPipeline.from_pretrained(spec.model, **loading)
    size = {"height": spec.height_px, "width": spec.width_px, "num_inference_steps": spec.steps}
    noise = torch.Generator("cpu").manual_seed(5)
    return pipeline(prompt=TEXT, generator=noise, output_type="pt", **size, **call).images[0].float()


@pytest.mark.parametrize("name", ["flux1", *TINY])
def test_a_family_from_generating_to_the_frontier(
    run: Any,
    run_json: Any,
    family_specs: dict[str, GeneratorSpec],
    flux_pair: ModelPair,
    head_folder: Path,
    tmp_path: Path,
    tiny_features: None,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    baseline = {**family_specs, "flux1": flux_pair.baseline}[name]
    distilled = baseline.model_copy(update={"name": "fast", "steps": 1})
    file, pairs = tmp_path / "pair.json", tmp_path / "pairs"
    file.write_text(ModelPair(name="tiny", distilled=distilled, baseline=baseline).model_dump_json())

    run("generate", TEXT, "--pair", file, "--head", "none", "--seed", 5, "-o", tmp_path / "a.png", "--compare-baseline")
    run("generate", TEXT, "--pair", file, "--head", "none", "--seed", 5, "--steps", 3, "-o", tmp_path / "b.png")
    expected = directly(baseline, DIRECT[name])
    torch.testing.assert_close(read_image(tmp_path / "b.png"), expected, atol=1.01 / 255, rtol=0)

    latents = ("--latents", "--baseline-latents")
    run("pairs", "build", pairs, "--pair", file, "--count", 24, "--batch-size", 12, *latents)
    pair = PairDataset.open(pairs)[0]
    assert pair.latents is not None and pair.latents.isfinite().all()

    small = ("--set", "head.channels=[8, 8]", "--set", "batch_size=4", "--set", "warmup_images=4", "--images", 8)
    run("train", "debug", "--data", pairs, "-o", tmp_path / "debug", "--images", 8, "--set", "batch_size=4")
    trained = ("--data", pairs, "--pair", file, "--init-from", head_folder, *small)
    run("train", "latent-unet", "-o", tmp_path / "latent", *trained)
    head = Head.from_pretrained(tmp_path / "latent")
    assert head.latent_channels == pair.latents.shape[0]
    assert head(pair.latents[None]).shape[1:] == (3, baseline.height_px, baseline.width_px)

    for folder in ("debug", "latent"):
        options = ("--data", pairs, "--head", tmp_path / folder, "--split", "train", "--metrics", "paired")
        assert ("psnr", "enhanced") in scores_of(run_json("evaluate", *options))

    nets = importlib.import_module("topcoat.features.pretrained")
    monkeypatch.setattr(nets, "load_feature_net", lambda _: FeatureNet.tiny(0))
    arms = ("--distilled-steps", "1", "--strengths", "1", "--baseline-steps", "2", "--count", 4, "--batch-size", 4)
    heads = ("--heads", tmp_path / "latent", "--heads", head_folder)
    assert len(run_json("frontier", "--pair", file, *heads, *arms, "-o", tmp_path / "frontier")["arms"]) >= 4

    (table,) = run_json("cost", "--pair", file, "--head", tmp_path / "latent")["tables"]
    assert 0 < table["distilled"]["tflop"] < table["baseline"][0]["tflop"]
