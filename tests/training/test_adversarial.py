from __future__ import annotations

import pytest
import torch
from torch import nn

from topcoat.features import FeatureNet
from topcoat.training import adversarial
from topcoat.training.adversarial import (
    BothDiscriminators,
    DiscriminatorConfig,
    FeatureDiscriminator,
    PatchDiscriminator,
    PatchGAN70,
    build_discriminator,
    view_of,
)

REAL, FAKE = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.0])


@pytest.mark.parametrize(
    ("kind", "of_discriminator", "of_head"),
    [
        ("hinge", (0 + 0.5) / 2 + (0 + 1) / 2, 1.5),
        ("lsgan", ((1 + 0.25) / 2 + (9 + 0) / 2) / 2, (16 + 1) / 2),
    ],
)
def test_losses_by_hand(kind: adversarial.Adversary, of_discriminator: float, of_head: float):
    assert float(adversarial.discriminator_loss([REAL], [FAKE], kind)) == pytest.approx(of_discriminator)
    assert float(adversarial.generator_loss([FAKE], kind)) == pytest.approx(of_head)


@pytest.mark.parametrize("kind", ["hinge", "lsgan"])
def test_several_maps_are_averaged(kind: adversarial.Adversary):
    one = adversarial.discriminator_loss([REAL], [FAKE], kind)
    assert float(adversarial.discriminator_loss([REAL, REAL], [FAKE, FAKE], kind)) == pytest.approx(float(one))
    assert float(adversarial.generator_loss([FAKE, FAKE + 1], kind)) == pytest.approx(
        float(adversarial.generator_loss([FAKE], kind) + adversarial.generator_loss([FAKE + 1], kind)) / 2
    )


def test_r1_is_half_the_squared_gradient():
    images = torch.rand(3, 3, 4, 4, requires_grad=True)
    slope = torch.randn(3, 4, 4)
    scores = (images * slope).sum((1, 2, 3))[:, None, None, None]  # linear: its gradient is the slope
    penalty = adversarial.r1_penalty([scores], [images])
    assert float(penalty.detach()) == pytest.approx(float(slope.square().sum()) / 2, rel=1e-5)


def test_r1_can_be_learnt_from():
    torch.manual_seed(0)
    network = PatchDiscriminator(DiscriminatorConfig(base_channels=4, layers=1, normalisation="none"))
    images = torch.rand(2, 3, 16, 16, requires_grad=True)
    penalty = adversarial.r1_penalty(network((images,)).scores, (images,))
    penalty.backward()
    first = next(network.parameters())
    assert first.grad is not None and float(first.grad.abs().max()) > 0


def test_feature_matching():
    a, b = torch.zeros(2, 3, 2, 2), torch.ones(2, 5, 1, 1)
    assert float(adversarial.feature_matching_loss([a, b], [a, b])) == 0
    assert float(adversarial.feature_matching_loss([a + 1, b], [a, b + 3])) == pytest.approx(2)


def test_patches_are_as_large_as_promised():
    network = PatchDiscriminator(DiscriminatorConfig())
    (scores,) = network((torch.rand(2, 3, 96, 96),)).scores
    assert scores.shape == (2, 1, 11, 11)
    assert 0.1e6 < sum(weight.numel() for weight in network.parameters()) < 0.2e6
    assert _field_of_view(lambda image: network((image,)).scores[0][0, 0, 5, 5], 96) == 46


def test_patchgan_is_the_authors():
    network = PatchGAN70()
    assert sum(weight.numel() for weight in network.parameters()) == 2_764_737
    assert network(torch.rand(1, 3, 128, 128)).shape == (1, 1, 14, 14)
    # Instance normalisation looks at the whole image, so the field of view is that of the convolutions alone.
    plain = nn.Sequential(*(layer for layer in network.layers if not isinstance(layer, nn.InstanceNorm2d)))
    assert _field_of_view(lambda image: plain(image)[0, 0, 7, 7], 144) == 70


def _field_of_view(score: object, size: int) -> int:
    image = torch.rand(1, 3, size, size, requires_grad=True)
    score(image).backward()  # type: ignore[operator]
    assert image.grad is not None
    return int((image.grad.abs().sum((0, 1, 3)) > 0).sum())


@pytest.mark.parametrize("looks_at", ["pixels", "features"])
def test_discriminators_are_spectrally_normalised(looks_at: str):
    torch.manual_seed(0)
    config = DiscriminatorConfig.model_validate({"looks_at": looks_at, "base_channels": 8, "layers": 2})
    features = FeatureNet.tiny(seed=0)
    network = build_discriminator(config, features, torch.device("cpu"))
    for _ in range(60):
        images = torch.rand(1, 3, 32, 32)
        network(view_of(config, images, features(images)))
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) >= 3
    for layer in convolutions:
        largest = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), ord=2)
        assert float(largest) == pytest.approx(1, abs=0.02)


def test_views_and_their_discriminators():
    features = FeatureNet.tiny(seed=0)
    images = torch.rand(2, 3, 32, 32)
    seen = features(images)
    config = DiscriminatorConfig(looks_at="both", base_channels=4, layers=2, scales=2)
    network = build_discriminator(config, features, torch.device("cpu"))
    assert isinstance(network, BothDiscriminators)
    verdict = network(view_of(config, images, seen))
    assert len(verdict.scores) == 2 + (len(seen.stages) - 1) + 1  # scales, stages without the finest, embedding
    assert all(scores.shape[:2] == (2, 1) for scores in verdict.scores)
    assert all(not torch.equal(scores[0], scores[1]) for scores in verdict.scores)
    only = DiscriminatorConfig(looks_at="features", base_channels=4)
    assert isinstance(build_discriminator(only, features, torch.device("cpu")), FeatureDiscriminator)


def test_an_image_is_judged_alone():
    config = DiscriminatorConfig(base_channels=4, layers=2, scales=2)
    network = PatchDiscriminator(config).eval()
    images = torch.rand(3, 3, 32, 32)
    together = network((images,)).scores
    for index, image in enumerate(images):
        for all_of_them, one in zip(together, network((image[None],)).scores, strict=True):
            torch.testing.assert_close(all_of_them[index : index + 1], one)


@pytest.mark.parametrize("looks_at", ["pixels", "features", "both"])
def test_gradients_are_finite_in_bfloat16(looks_at: str):
    config = DiscriminatorConfig.model_validate({"looks_at": looks_at, "base_channels": 24})
    features = FeatureNet.tiny(seed=0)
    torch.manual_seed(0)
    network = build_discriminator(config, features, torch.device("cpu"))
    for _ in range(10):
        images = torch.rand(4, 3, 64, 64)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            scores = network(view_of(config, images, features(images))).scores
        network.zero_grad()
        adversarial.generator_loss(scores, "hinge").backward()
        assert all(torch.isfinite(weight.grad).all() for weight in network.parameters() if weight.grad is not None)


def test_every_weight_of_a_feature_discriminator_is_used():
    features = FeatureNet.tiny(seed=0)
    config = DiscriminatorConfig(looks_at="features", base_channels=4, normalisation="none")
    network = build_discriminator(config, features, torch.device("cpu"))
    images = torch.rand(2, 3, 64, 64)
    adversarial.generator_loss(network(view_of(config, images, features(images))).scores, "hinge").backward()
    gradients = {name: weight.grad for name, weight in network.named_parameters()}
    assert all(gradient is not None and bool((gradient != 0).any()) for gradient in gradients.values())
    assert isinstance(network, FeatureDiscriminator)
    assert all(weight.shape[-1] == 1 for weight in network.heads[-1].parameters() if weight.ndim == 4)
