"""Training a refiner: from a head of images that stays as it is, on pairs that need no latents."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from tests.fake_pairs import FakeDataset
from tests.training.conftest import make_pair, resumed_exactly, tiny_vae
from topcoat.errors import UsageError
from topcoat.features import FeatureNet
from topcoat.generators.vae import Vae
from topcoat.heads import Head, LatentUNetConfig, Refiner, RefinerConfig, UNet, UNetConfig
from topcoat.training import LatentObjective, TrainConfig, run_config, train
from topcoat.training.decoded import with_latents_of

PAINTER = UNetConfig(channels=(4, 6), unshuffle=2)


@pytest.fixture(scope="module")
def vae() -> Vae:
    return tiny_vae()


@pytest.fixture(scope="module")
def painter() -> Head:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet(PAINTER)
        torch.nn.init.normal_(network.out.weight, std=0.02)
    return Head(network, PAINTER)


@pytest.fixture(scope="module")
def config() -> TrainConfig:
    return run_config("refiner").last.model_copy(
        update={
            "head": RefinerConfig(painter=PAINTER, latent=LatentUNetConfig(channels=(8, 8))),
            "objective": LatentObjective(discriminator_channels=4),
            "images": 60,
            "batch_size": 5,
            "learning_rate": 1e-2,
            "warmup_images": 10,
            "ema_halflife_images": 20,
            "validation_images": 3,
            "device": "cpu",
            "precision": "float32",
        }
    )


def test_the_change_alone_learns_and_the_rest_is_that_of_the_painter_and_the_vae(
    config: TrainConfig, painter: Head, vae: Vae, dataset: FakeDataset, features: FeatureNet, tmp_path: Path
):
    plain = config.model_copy(
        update={"objective": LatentObjective(spectrum=0.0, contrast=0.0, adversarial=0.0), "images": 300}
    )
    records = list(train(plain, dataset, tmp_path / "run", features=features, init_from=painter, vae=vae))
    assert records[-1].loss < 0.85 * records[0].loss
    assert records[-1].validation is not None
    head = Head.from_pretrained(tmp_path / "run")
    network = head.network
    assert isinstance(network, Refiner)
    for half, given in (
        (network.painter, painter.network),
        (network.encoder, vae.encoder),
        (network.latent.decoder, vae.decoder),
    ):
        assert all(torch.equal(value, given.state_dict()[name]) for name, value in half.state_dict().items())
    x = torch.stack([dataset[index].distilled for index in range(5)])
    y = torch.stack([dataset[index].baseline for index in range(5)])
    with torch.no_grad():
        before, wanted = network.latents_of(x), vae.encoder(y)
        after = network.latent.changed(before)
    assert float((after - wanted).abs().mean()) < float((before - wanted).abs().mean())


def test_stopped_and_resumed_it_is_the_uninterrupted_run_and_goes_on_as_a_head(
    config: TrainConfig, painter: Head, vae: Vae, dataset: FakeDataset, features: FeatureNet, tmp_path: Path
):
    resumed_exactly(
        tmp_path, lambda folder: train(config, dataset, folder, features=features, init_from=painter, vae=vae), 5
    )
    head = Head.from_pretrained(tmp_path / "whole")
    list(train(config, dataset, tmp_path / "on", images=20, features=features, init_from=head, vae=vae))
    assert Head.from_pretrained(tmp_path / "on").config == head.config


def test_pairs_are_painted_whole_and_keep_the_baselines_own_latents(painter: Head, vae: Vae):
    network = Refiner(
        RefinerConfig(
            painter=PAINTER,
            latent=LatentUNetConfig(latent_channels=4, channels=(8,), vae=vae.decoder.config, vae_scale=4),
        )
    ).eval()
    pair = make_pair(3)
    painted = with_latents_of(network)(pair, 0)
    assert painted.latents is not None
    assert torch.equal(painted.distilled, pair.distilled) and torch.equal(painted.baseline, pair.baseline)
    with torch.no_grad():
        torch.testing.assert_close(painted.latents, network.latents_of(pair.distilled[None])[0])
    assert painted.baseline_latents is None


def test_refiners_that_cannot_be_trained(config: TrainConfig, painter: Head, vae: Vae, dataset: FakeDataset):
    with pytest.raises(UsageError, match="goes on from the head of the stage before"):
        train(config, dataset, "nowhere", vae=vae)
    with pytest.raises(UsageError, match="needs a trained head of images to start from"):
        train(config.model_copy(update={"previous": None}), dataset, "nowhere", vae=vae)
    with pytest.raises(UsageError, match="which the distilled model's VAE makes"):
        train(config, dataset, "nowhere", init_from=painter)
    other = Head(UNet(UNetConfig(channels=(4, 8))), UNetConfig(channels=(4, 8)))
    with pytest.raises(UsageError, match=r"a unet of other settings than the run's head\.painter"):
        train(config, dataset, "nowhere", init_from=other, vae=vae)
    with pytest.raises(ValidationError, match="a refiner is trained on latents alone"):
        TrainConfig.model_validate({**config.model_dump(), "objective": {"kind": "paired", "charbonnier": 1.0}})
    with pytest.raises(ValidationError, match="latents, which do not mirror"):
        TrainConfig.model_validate({**config.model_dump(), "flip": True})
    assert not Path("nowhere").exists()
