"""Training heads that decode latents."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.heads.vaes import TINY_VAE
from tests.training.conftest import FakeDataset, FakePair, make_pair, with_latents
from topcoat.errors import DataError, UsageError
from topcoat.features import FeatureNet
from topcoat.generators.vae_decoder import VaeDecoder
from topcoat.heads import DecoderConfig, Head, LatentUNet, LatentUNetConfig
from topcoat.training import LossWeights, TrainConfig, train
from topcoat.training.batches import PairBatches, PairBytes


@pytest.fixture(scope="module")
def pairs() -> FakeDataset:
    made = [with_latents(make_pair(seed)) for seed in range(10)]
    return FakeDataset(made, [with_latents(make_pair(seed)) for seed in (100, 101, 102)])


@pytest.fixture(scope="module")
def latent_config() -> TrainConfig:
    return TrainConfig(
        name="latent",
        head=DecoderConfig(latent_channels=6, channels=(12, 8), blocks=(1, 1)),
        losses=LossWeights(charbonnier=1.0, perceptual=0.1, gradient_input=0.1),
        images=300,
        batch_size=5,
        crop_px=16,
        flip=False,
        learning_rate=1e-2,
        warmup_images=10,
        ema_halflife_images=20,
        validation_images=3,
        device="cpu",
        precision="float32",
    )


def test_a_decoder_learns_to_beat_the_distilled_image(
    latent_config: TrainConfig, pairs: FakeDataset, features: FeatureNet, tmp_path: Path
):
    last = list(train(latent_config, pairs, tmp_path / "run", features=features))[-1]
    assert last.validation is not None
    assert last.validation.psnr_db > last.validation.do_nothing_psnr_db
    head = Head.from_pretrained(tmp_path / "run")
    latents = pairs.split("val")[0].latents
    assert latents is not None and head(latents[None]).shape == (1, 3, 24, 24)
    assert (tmp_path / "run" / "validation.png").is_file()


def test_stopped_and_resumed_is_the_uninterrupted_run(
    latent_config: TrainConfig, pairs: FakeDataset, features: FeatureNet, tmp_path: Path
):
    list(train(latent_config, pairs, tmp_path / "whole", images=100, features=features))
    run = train(latent_config, pairs, tmp_path / "parts", images=100, features=features)
    list(islice(run, 10))
    run.close()
    list(train(latent_config, pairs, tmp_path / "parts", images=100, features=features))
    states = [load_file(tmp_path / name / "checkpoints" / "last.safetensors") for name in ("whole", "parts")]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_cuts_lie_on_whole_latents(pairs: FakeDataset):
    source = PairBatches(PairBytes(pairs, 100, 6), seed=0, crop_px=16, flip=False, size_multiple=4)
    batch = source.batch(0, 30)
    assert batch.latents is not None and batch.latents.shape == (30, 6, 4, 4)
    means = torch.nn.functional.avg_pool2d(batch.x, 4)
    torch.testing.assert_close(batch.latents[:, :3], means, atol=1e-4, rtol=0)
    pieces = batch.pieces(3)
    assert [len(piece.x) for piece in pieces] == [10, 10, 10]
    assert all(piece.latents is not None for piece in pieces)
    assert torch.equal(torch.cat([piece.latents for piece in pieces if piece.latents is not None]), batch.latents)


def test_pairs_that_do_not_fit_are_named(latent_config: TrainConfig, features: FeatureNet, tmp_path: Path):
    plain = FakeDataset([make_pair(seed) for seed in range(10)])
    with pytest.raises(DataError, match="no latents"):
        train(latent_config, plain, tmp_path / "run", features=features)
    other = FakeDataset([replace(with_latents(make_pair(seed)), latents=torch.zeros(4, 6, 6)) for seed in range(10)])
    with pytest.raises(DataError, match=r"set head.latent_channels to 4"):
        train(latent_config, other, tmp_path / "run", features=features)
    assert not (tmp_path / "run").exists()
    coarse = [FakePair(pair.distilled, pair.baseline, torch.zeros(6, 3, 3)) for pair in (make_pair(0), make_pair(1))]
    source = PairBatches(PairBytes(FakeDataset(coarse), 100, 6), seed=0, crop_px=16, flip=False, size_multiple=4)
    with pytest.raises(DataError, match="3x3 latents"):
        source.batch(0, 1)


@pytest.fixture(scope="module")
def vae_decoder() -> VaeDecoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VaeDecoder({**TINY_VAE, "latent_channels": 6})


def test_a_latent_head_starts_from_the_vae_and_leaves_it_alone(
    latent_config: TrainConfig, vae_decoder: VaeDecoder, pairs: FakeDataset, features: FeatureNet, tmp_path: Path
):
    config = latent_config.model_copy(update={"head": LatentUNetConfig(channels=(8,)), "crop_px": None, "images": 100})
    with pytest.raises(UsageError, match="decodes with the distilled model's own VAE"):
        train(config, pairs, tmp_path / "run", features=features)
    records = list(train(config, pairs, tmp_path / "run", features=features, decoder=vae_decoder))
    assert records[-1].loss < records[0].loss
    head = Head.from_pretrained(tmp_path / "run")
    assert isinstance(head.network, LatentUNet) and head.network.config.vae == vae_decoder.config
    for name, value in head.network.decoder.state_dict().items():
        assert torch.equal(value, vae_decoder.state_dict()[name])
    later = config.model_copy(update={"name": "later", "starts_from": "latent"})
    with pytest.raises(UsageError, match="goes on from a head of latent"):
        train(later, pairs, tmp_path / "later", features=features, decoder=vae_decoder)
    list(train(later, pairs, tmp_path / "later", images=20, features=features, init_from=head))
    assert Head.from_pretrained(tmp_path / "later").config == head.config


def test_a_latent_head_stopped_and_resumed_is_the_uninterrupted_run(
    latent_config: TrainConfig, vae_decoder: VaeDecoder, pairs: FakeDataset, features: FeatureNet, tmp_path: Path
):
    config = latent_config.model_copy(update={"head": LatentUNetConfig(channels=(8, 8)), "crop_px": None, "images": 40})
    list(train(config, pairs, tmp_path / "whole", features=features, decoder=vae_decoder))
    run = train(config, pairs, tmp_path / "parts", features=features, decoder=vae_decoder)
    list(islice(run, 4))
    run.close()
    list(train(config, pairs, tmp_path / "parts", features=features, decoder=vae_decoder))
    states = [load_file(tmp_path / name / "checkpoints" / "last.safetensors") for name in ("whole", "parts")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
