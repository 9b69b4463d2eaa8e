from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import FakeHead
from topcoat.errors import UsageError
from topcoat.generators.base import ModelPair
from topcoat.generators.diffusers import load_generator
from topcoat.generators.vae import load_vae
from topcoat.heads import Decoder, DecoderConfig, Head, LatentUNet, UNet, UNetConfig
from topcoat.pipeline import Pipeline
from topcoat.prompts import sample_prompts
from topcoat.training import run_config
from topcoat.training.stage import starting_point

PROMPTS = sample_prompts(7)


class Brighter(FakeHead):
    """A head that adds a tenth, and remembers how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[int, float]] = []

    def __call__(self, inputs: Tensor, strength: float = 1.0) -> Tensor:
        self.calls.append((len(inputs), strength))
        return (inputs + 0.1 * strength).clamp(0, 1)


def pipeline(generators: Any, head: Any = None) -> Pipeline:
    return Pipeline(generators[0], head)


def test_without_a_head_the_images_are_the_generators(fake_generators: Any) -> None:
    images = pipeline(fake_generators)(PROMPTS, range(7))
    assert torch.equal(images, fake_generators[0].generate([p.text for p in PROMPTS], range(7)))


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_batches_change_no_image(fake_generators: Any, batch_size: int) -> None:
    pipe = pipeline(fake_generators, Brighter())
    assert torch.equal(pipe(PROMPTS, range(7), batch_size=batch_size), pipe(PROMPTS, range(7)))


def test_strength_reaches_the_head(fake_generators: Any) -> None:
    head = Brighter()
    pipe = pipeline(fake_generators, head)
    plain = pipe(PROMPTS, range(7), strength=0.0)
    assert torch.equal(plain, fake_generators[0].generate([p.text for p in PROMPTS], range(7)))
    assert torch.allclose(pipe(PROMPTS, range(7), strength=0.5), (plain + 0.05).clamp(0, 1))
    assert head.calls == [(7, 0.0), (7, 0.5)]


def test_a_stream_says_what_each_batch_is(fake_generators: Any) -> None:
    batches = list(pipeline(fake_generators, Brighter()).stream(PROMPTS, range(7), batch_size=3))
    assert [batch.seeds for batch in batches] == [(0, 1, 2), (3, 4, 5), (6,)]
    assert [text for batch in batches for text in batch.prompts] == [prompt.text for prompt in PROMPTS]
    for batch in batches:
        assert batch.generator_seconds > 0 and batch.head_seconds > 0
        assert batch.distilled is not None
        assert torch.allclose(batch.enhanced, (batch.distilled + 0.1).clamp(0, 1))


def test_a_stream_generates_only_when_asked(fake_generators: Any) -> None:
    stream = pipeline(fake_generators).stream(PROMPTS, range(7), batch_size=2)
    assert fake_generators[0].calls == []
    next(stream)
    assert fake_generators[0].calls == [2]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seeds": [1]}, "7 prompts came with 1 seeds"),
        ({"prompts": "a face"}, "not one text"),
        ({"prompts": [], "seeds": []}, "no prompts"),
        ({"steps": 0}, "0 steps"),
        ({"batch_size": 0}, "batch_size 0"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_generated(
    fake_generators: Any, changes: dict[str, Any], words: str
) -> None:
    settings: dict[str, Any] = {"prompts": PROMPTS, "seeds": range(7)} | changes
    with pytest.raises(UsageError, match=words):
        pipeline(fake_generators).stream(**settings)
    assert fake_generators[0].calls == []


@pytest.mark.parametrize(("device", "moves"), [("cuda", ["cuda"]), ("cpu", []), (None, [])])
def test_the_head_moves_to_the_generators_device(
    fake_generators: Any, monkeypatch: pytest.MonkeyPatch, device: str | None, moves: list[str]
) -> None:
    moved: list[str] = []
    monkeypatch.setattr(Head, "to", lambda self, device: moved.append(str(device)))
    if device is not None:
        fake_generators[0].device = torch.device(device)
    config = UNetConfig(channels=(4, 8))
    pipeline(fake_generators, Head(UNet(config), config))
    assert moved == moves


def test_the_head_computes_in_what_its_generator_does_on_a_gpu(
    fake_generators: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator, config = fake_generators[0], UNetConfig(channels=(4, 8))
    generator.spec = generator.spec.model_copy(update={"dtype": "bfloat16"})
    monkeypatch.setattr(Head, "device", property(lambda self: generator.device))  # it moves nowhere
    head = Head(UNet(config), config)
    for device, dtype in (("cuda", torch.bfloat16), ("cpu", torch.float32)):
        generator.device = torch.device(device)
        pipeline(fake_generators, head)
        assert head.dtype == dtype
    generator.device = torch.device("cuda")
    pipeline(fake_generators, head.to(torch.float16))
    assert head.dtype == torch.float16


def test_a_spec_is_loaded(flux_pair: ModelPair) -> None:
    pipe = Pipeline(flux_pair.distilled, None)
    assert pipe.generator.spec == flux_pair.distilled and pipe.head is None
    assert pipe(["studio portrait"], [0], steps=2).shape == (1, 3, 32, 48)


def latent_head(channels: int = 16) -> Head:
    torch.manual_seed(0)
    config = DecoderConfig(latent_channels=channels, channels=(8, 6, 4), blocks=(1, 0, 0))
    network = Decoder(config)
    torch.nn.init.normal_(network.colour.weight, std=0.1)
    return Head(network, config)


def test_a_latent_head_takes_the_decoders_place(fake_generators: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    generator, head = fake_generators[0], latent_head()
    texts = [prompt.text for prompt in PROMPTS]
    expected = head(generator.generate_latents(texts, range(7)))
    decoded: list[int] = []
    decode = generator.decode
    monkeypatch.setattr(generator, "decode", lambda latents: decoded.append(len(latents)) or decode(latents))
    pipe = Pipeline(generator, head)
    batches = list(pipe.stream(PROMPTS, range(7), batch_size=3))
    assert torch.equal(torch.cat([batch.enhanced for batch in batches]), expected)
    assert decoded == [] and all(batch.distilled is None for batch in batches)
    batches = list(pipe.stream(PROMPTS, range(7), batch_size=3, with_distilled=True))
    assert decoded == [3, 3, 1]
    assert batches[1].distilled is not None
    assert torch.equal(batches[1].distilled, generator.generate(texts[3:6], range(3, 6)))


def test_a_latent_head_with_the_real_adapter(flux_pair: ModelPair) -> None:
    images = Pipeline(flux_pair.distilled, latent_head())(["studio portrait"], [0], steps=1)
    assert images.shape == (1, 3, 32, 48)


class ImagesOnly:
    def __init__(self, inner: Any) -> None:
        self.spec = inner.spec
        self.generate = inner.generate


def test_a_latent_head_that_does_not_fit_is_refused(fake_generators: Any) -> None:
    with pytest.raises(UsageError, match="plastic gives none"):
        Pipeline(ImagesOnly(fake_generators[0]), latent_head())
    with pytest.raises(UsageError, match="4 channels, not 16"):
        Pipeline(fake_generators[0], latent_head(4))(PROMPTS, range(7))
    with pytest.raises(UsageError, match="leave strength at 1"):
        Pipeline(fake_generators[0], latent_head()).stream(PROMPTS, range(7), strength=0.5)


def latent_unet(pair: ModelPair) -> Head:
    _, head = starting_point(
        run_config("latent-unet").last.model_copy(update={"previous": None}), None, load_vae(pair.distilled)
    )
    assert head is not None and isinstance(head.network, LatentUNet)
    torch.manual_seed(0)
    torch.nn.init.normal_(head.network.change.out.weight, std=0.05)
    return head


def test_a_head_that_changes_latents_has_a_strength_and_gates(flux_pair: ModelPair) -> None:
    generator = load_generator(flux_pair.distilled)
    head = latent_unet(flux_pair)
    pipe = Pipeline(generator, head)
    plain = generator.generate(["studio portrait"], [0])
    torch.testing.assert_close(pipe(["studio portrait"], [0], strength=0.0), plain)
    assert float((pipe(["studio portrait"], [0]) - plain).abs().mean()) > 0.01
    gated = Pipeline(generator, head, identity_floor=1.0)
    (batch,) = gated.stream(["studio portrait"], [0])
    assert [decision.kept for decision in batch.decisions] == ["distilled"]
    assert batch.distilled is not None
    assert torch.equal(batch.enhanced, batch.distilled) and torch.equal(batch.distilled, plain)
