"""Tiny trainings of every objective: losses of each step, final weights, all state, and the validation figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.fake_pairs import FakeDataset, fake_pair
from tests.oracles.golden import Golden, digest_of_tensors, fields, projections, sums_of_tensors
from tests.oracles.inputs import dulled, pairs, portraits
from topcoat.generators.presets import model_pair
from topcoat.generators.vae import Vae, load_vae
from topcoat.heads import (
    CycleGANConfig,
    DecoderConfig,
    Head,
    LatentUNetConfig,
    RefinerConfig,
    UNet,
    UNetConfig,
)
from topcoat.training import CycleObjective, LatentObjective, PairedObjective, TrainConfig, frechet_loss, train
from topcoat.training.adversarial import DiscriminatorConfig
from topcoat.training.runs import RUNS

# Adapters: change these with the library, never the golden values.


def trained_paired(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Every loss of pairs, both halves of the discriminator, a later adversary, EMA, warm-up and validation."""
    monkeypatch.setattr(frechet_loss, "FEWEST_PER_DIMENSION", 1)  # the set loss starts at 64 images
    config = TrainConfig(
        name="oracle",
        head=UNetConfig(channels=(8, 16)),
        objective=PairedObjective(
            gradient_input=0.1,
            gradient_input_kind="low_passed",
            perceptual=1.0,
            charbonnier=1.0,
            gradient_target=1.0,
            gradient_target_kind="multi_scale",
            low_frequency=1.0,
            colour_input=0.1,
            focal_frequency=1.0,
            frechet=1.0,
            spectrum=0.1,
            adversarial=0.05,
            feature_matching=0.1,
            discriminator=DiscriminatorConfig(looks_at="both", base_channels=4, layers=2, scales=2, r1=0.1),
        ),
        crop_px=32,
        adversarial_after_images=24,
        **_common(images=96),
    )
    return _result(config, pairs(40), folder)


def trained_cycle(folder: Path) -> dict[str, Any]:
    """CycleGAN with pools, its own schedule and a batch of two."""
    settings: dict[str, Any] = _common(images=24) | {"batch_size": 2, "warmup_images": 0, "learning_rate": 2e-5}
    config = TrainConfig(
        name="oracle",
        head=CycleGANConfig(base_channels=4, blocks=2),
        objective=CycleObjective(pool_images=5, discriminator_channels=4),
        crop_px=32,
        betas=(0.5, 0.999),
        schedule="constant-linear",
        discriminator_learning_rate=2e-5,
        **settings,
    )
    return _result(config, pairs(40), folder)


def trained_decoder(folder: Path) -> dict[str, Any]:
    """A head that decodes latents, in place of the VAE."""
    config = TrainConfig(
        name="oracle",
        head=DecoderConfig(latent_channels=6, channels=(12, 8), blocks=(1, 1)),
        objective=PairedObjective(charbonnier=1.0, perceptual=0.1, gradient_input=0.1),
        crop_px=32,
        flip=False,
        **_common(images=48),
    )
    return _result(config, pairs(40, latents=True), folder)


def trained_latent(folder: Path) -> dict[str, Any]:
    """A head that changes the latents of the mini pair's VAE, by every loss of latents."""
    vae = _vae()
    images = portraits(16, seed=3, size_px=64)
    with torch.no_grad():
        made = [fake_pair(x, y, vae.encoder(x[None])[0]) for x, y in zip(dulled(images), images, strict=True)]
    config = TrainConfig(
        name="oracle",
        head=LatentUNetConfig(channels=(8, 16)),
        objective=LatentObjective(discriminator_channels=8),
        crop_px=None,
        flip=False,
        **_common(images=48),
    )
    return _result(config, FakeDataset(made[:12], made[12:], "oracle"), folder, vae=vae)


def trained_refiner(folder: Path) -> dict[str, Any]:
    """A correction behind an image head and the VAE, which both stay as they are."""
    shape = UNetConfig(channels=(8, 16))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet(shape)
        torch.nn.init.normal_(network.out.weight, std=0.02)
    config = TrainConfig(
        name="oracle",
        head=RefinerConfig(painter=shape, latent=LatentUNetConfig(channels=(8, 8))),
        objective=LatentObjective(discriminator_channels=8),
        crop_px=None,
        flip=False,
        **_common(images=32),
    )
    return _result(config, pairs(64), folder, init_from=Head(network, shape), vae=_vae())


def _common(images: int) -> dict[str, Any]:
    return {
        "images": images,
        "batch_size": 4,
        "learning_rate": 5e-4,
        "warmup_images": 16,
        "ema_halflife_images": 16,
        "validate_every_images": images // 2,
        "validation_images": 4,
        "device": "cpu",
        "precision": "float32",
        "tensorboard": False,
        "wandb": "off",
    }


def _vae() -> Vae:
    return load_vae(model_pair("mini").distilled)


def _result(config: TrainConfig, data: FakeDataset, folder: Path, **further: Any) -> dict[str, Any]:
    """What a run leaves: records, figures, the averaged head's weights, all state, and the head at work."""
    records = list(train(config, data, folder, **further))
    head = Head.from_pretrained(folder)
    pair = data.split("val")[0]
    given = pair.distilled if pair.latents is None else pair.latents
    checks = [record.validation for record in records if record.validation is not None]
    return {
        "losses": [record.loss for record in records],
        "last_terms": {{"frechet": "transport"}.get(name, name): value for name, value in records[-1].parts.items()},
        "validation": [
            fields(
                check,
                "images",
                "psnr_db",
                "perceptual",
                kernel_distance="set_distance",
                frechet="frechet",
                identity_psnr_db="no_head_psnr_db",
                identity_perceptual="no_head_perceptual",
                identity_kernel_distance="no_head_set_distance",
                identity_frechet="no_head_frechet",
            )
            for check in checks
        ],
        "weights": list(head.network.state_dict().values()),
        "state": _state(folder),
        "output": head(given[None]),
    }


def _state(folder: Path) -> list[Tensor]:
    """Networks, averages, optimisers, moments and pools as a resumed run would read them."""
    return list(load_file(folder / "checkpoints" / "last.safetensors").values())


def run_settings() -> dict[str, dict[str, Any]]:
    """The settings of every stage of every named run that decide its weights, by the names that they had as runs."""
    stages = {name: RUNS[name]().stages for name in RUNS}
    named = {
        "unet": stages["unet"][0],
        "best-unet": stages["unet"][0],
        "finish-unet": stages["unet"][1],
        "decoder": stages["decoder"][0],
        "finish-decoder": stages["decoder"][1],
        "taught-latent-unet": stages["latent-unet"][2],
        "finish-latent-unet": stages["latent-unet"][3],
        "refiner": stages["refiner"][2],
        **{name: stages[name][0] for name in ("paper-unet", "paper-cyclegan", "paper-esa", "debug")},
    }
    assert stages["latent-unet"][:2] == stages["refiner"][:2] == stages["unet"]
    return {name: _settings(stage) for name, stage in sorted(named.items())}


def _settings(config: TrainConfig) -> dict[str, Any]:
    """Only what is used: the weights that are not 0 of its objective."""
    data = config.model_dump(mode="json")
    objective = data["objective"]
    kind, discriminator = objective.pop("kind"), objective.pop("discriminator", None)
    used = {{"frechet": "transport"}.get(name, name): value for name, value in objective.items() if value != 0}
    if "adversarial" not in used:
        discriminator = None
    schedule = {old: data[new] for old, new in SCHEDULE.items()}
    return {"objective": kind, "weights": used, "discriminator": discriminator, "head": data["head"]} | schedule


SCHEDULE = {
    name: {"accumulate": "gradient_accumulation_steps", "explosion": "grad_spike_factor"}.get(name, name)
    for name in (
        "images",
        "batch_size",
        "accumulate",
        "crop_px",
        "flip",
        "seed",
        "learning_rate",
        "discriminator_learning_rate",
        "betas",
        "schedule",
        "warmup_images",
        "adversarial_after_images",
        "clip_norm",
        "ema_halflife_images",
        "explosion",
        "max_bad_steps",
        "validate_every_images",
        "validation_images",
    )
}


# Oracles

OTHER_CPU: dict[str, float] = {"rel": 5e-3, "abs": 1e-3}
"""Adam's first steps are of full size whatever the gradient, so rounding spreads; learning rates are low for that."""


def check(golden: Golden, name: str, found: dict[str, Any]) -> None:
    weights, state = found["weights"], found["state"]
    golden.close(f"{name} losses", found["losses"], **OTHER_CPU)
    golden.close(f"{name} last terms", found["last_terms"], **OTHER_CPU)
    golden.close(f"{name} validation", found["validation"], **OTHER_CPU)
    golden.close(f"{name} weights", sums_of_tensors(weights), **OTHER_CPU)
    golden.close(f"{name} output", projections(found["output"]), **OTHER_CPU)
    golden.bits(f"{name}", {"weights": digest_of_tensors(weights), "state": digest_of_tensors(state)})


def test_paired(golden: Golden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(golden, "paired", trained_paired(tmp_path, monkeypatch))


def test_cycle(golden: Golden, tmp_path: Path) -> None:
    check(golden, "cycle", trained_cycle(tmp_path))


def test_decoder(golden: Golden, tmp_path: Path) -> None:
    check(golden, "decoder", trained_decoder(tmp_path))


def test_latent(golden: Golden, tmp_path: Path) -> None:
    check(golden, "latent", trained_latent(tmp_path))


def test_refiner(golden: Golden, tmp_path: Path) -> None:
    check(golden, "refiner", trained_refiner(tmp_path))


def test_settings_of_the_named_runs(golden: Golden) -> None:
    for name, settings in run_settings().items():
        golden.exact(f"run {name}", settings)
