from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from topcoat.cost.flops import components_of, count_flops, head_tflop, pair_cost
from topcoat.errors import DataError, ModelError, UsageError
from topcoat.generators.base import GeneratorSpec, Licence, ModelPair
from topcoat.generators.families import published_models
from topcoat.generators.meta import Networks, build_networks, configs_of
from topcoat.generators.presets import model_pair
from topcoat.heads import Head
from topcoat.heads.decoder import DecoderConfig

TERA = 1e12


def meta(*shape: int) -> torch.Tensor:
    return torch.empty(*shape, device="meta")


def test_linear_convolution_and_attention_by_hand() -> None:
    with torch.device("meta"):
        linear, convolution = nn.Linear(24, 40), nn.Conv2d(6, 10, 3, stride=2, padding=1, groups=2)
    assert count_flops(lambda: linear(meta(7, 24))) == 2 * 7 * 24 * 40
    assert count_flops(lambda: convolution(meta(2, 6, 16, 16))) == 2 * 2 * 8 * 8 * 10 * (6 // 2) * 9
    for q in (meta(2, 3, 20, 16), torch.randn(2, 3, 20, 16)):  # the CPU has a kernel of its own
        flops = count_flops(lambda: functional.scaled_dot_product_attention(q, q, q))  # noqa: B023
        assert flops == 2 * (2 * 2 * 3 * 20 * 20 * 16)


def test_one_flux_step_by_hand(tiny_folder: Path) -> None:
    components = build_networks(configs_of(tiny_folder))
    width, image, text, channels, joint, pooled, frequencies = 32, 4, 8, 64, 32, 32, 256
    tokens, mlp = image + text, 4 * width
    attention = 2 * 2 * tokens * tokens * width
    embedding = width * (frequencies + width) + width * (pooled + width)  # timestep and pooled text, two layers each
    double = 2 * 6 * width * width + tokens * (4 * width * width + 2 * width * mlp)
    single = 3 * width * width + tokens * (3 * width * width + width * mlp + (width + mlp) * width)
    ends = image * channels * width + text * joint * width + 2 * width * width + image * width * channels
    expected = 2 * (embedding + double + single + ends) + 2 * attention
    assert count_flops(components.step(32, 32, text)) == expected


@pytest.fixture(scope="module")
def dev() -> Networks:
    return build_networks(published_models()["black-forest-labs/FLUX.1-dev"])


@pytest.mark.parametrize(
    ("size_px", "tokens", "tflop"), [(1024, 512, 74.38), (1024, 256, 69.47), (512, 512, 21.50), (512, 256, 17.69)]
)
def test_full_size_flux_steps(dev: Networks, size_px: int, tokens: int, tflop: float) -> None:
    step = count_flops(dev.step(size_px, size_px, tokens)) / TERA
    assert step == pytest.approx(tflop, rel=1e-3)


def test_full_size_flux_text_encoders_and_vae(dev: Networks) -> None:
    for tokens, tflop, rel in ((512, 4.84, 1e-3), (256, 2.40, 2e-3)):  # the second is 2.3966, printed as 2.40
        ids = torch.zeros(1, tokens, dtype=torch.long, device="meta")
        t5, clip = (dev.modules[name] for name in ("text_encoder_2", "text_encoder"))
        alone = count_flops(lambda: t5(ids)) / TERA  # noqa: B023
        assert alone == pytest.approx(tflop, rel=rel)
        with_clip = count_flops(lambda: clip(ids[:, :77])) / TERA + alone  # noqa: B023
        assert count_flops(dev.text_encode(tokens)) / TERA == pytest.approx(with_clip)
    assert count_flops(dev.vae_decode(1024, 1024)) / TERA == pytest.approx(10.47, rel=1e-3)
    assert sum(parameter.numel() for parameter in dev.denoiser.parameters()) == pytest.approx(11.9e9, rel=1e-2)


def test_flux1_pair_is_counted_without_weights() -> None:
    spec = GeneratorSpec(
        name="dev",
        model="black-forest-labs/FLUX.1-dev",
        revision=None,
        transformer=None,
        steps=50,
        guidance_scale=3.5,
        max_sequence_length=512,
        width_px=1024,
        height_px=1024,
        dtype="bfloat16",
        licence=Licence(name="non-commercial", url="https://example.org", note=""),
    )
    schnell = {"name": "schnell", "model": "black-forest-labs/FLUX.1-schnell", "steps": 4, "max_sequence_length": 256}
    pair = ModelPair(name="flux1", distilled=spec.model_copy(update=schnell), baseline=spec)
    table = pair_cost(pair, size_px=1024)
    modules = components_of(pair.distilled).modules.values()
    assert {weight.device.type for module in modules for weight in module.parameters()} == {"meta"}
    decode = 10.47
    for steps, saving in ((28, 0.862), (50, 0.923)):
        # The known savings leave the text encoders out, so they are taken off again here.
        distilled = table.distilled.tflop - table.distilled.rows[0].tflop
        at = next(cost for cost in table.baseline_at if cost.steps == steps)
        assert 1 - distilled / (at.tflop - at.rows[0].tflop) == pytest.approx(saving, abs=1e-3)
    assert table.distilled.rows[2].tflop == pytest.approx(decode, rel=1e-3)
    assert (table.saving(28).share > 0.86) and (table.saving(50).share > 0.92)
    config = DecoderConfig()  # in place of the VAE it makes the pipeline cheaper than the distilled model alone
    head = head_tflop(Head(config.build(), config), 1024, 1024)
    four, one = (table.at_distilled_steps(steps).distilled.tflop - decode + head for steps in (4, 1))
    assert four < table.distilled.tflop
    assert 1 - one / table.baseline.at_steps(28).tflop > 0.96
    assert table.saving(50).share == table.saving().share > 0.92


def test_pair_cost_of_a_folder(tiny_pair: ModelPair, fake_head: Any) -> None:
    table = pair_cost(tiny_pair, fake_head, 32, baseline_steps=(4, 28))
    step = count_flops(components_of(tiny_pair.baseline).step(32, 32, 8)) / TERA
    assert table.baseline.rows[1].tflop_each == pytest.approx(step)
    assert table.distilled.rows[1].tflop_each > step  # the distilled model's own transformer folder is read
    assert [cost.steps for cost in table.baseline_at] == [28, 10, 4]
    assert table.head_tflop == pytest.approx(2 * 32 * 32 * 3 * 3 * 9 / TERA)
    assert table.enhanced.tflop == pytest.approx(table.distilled.tflop + table.head_tflop)
    assert pair_cost(tiny_pair).head_tflop == 0
    assert fake_head.network.weight.device.type == "cpu"


def test_the_head_is_counted_at_its_padded_size(fake_head: Any) -> None:
    assert head_tflop(fake_head, 33, 30) == pytest.approx(2 * 36 * 32 * 3 * 3 * 9 / TERA)


def test_a_decoder_head_stands_in_for_the_vae(tiny_pair: ModelPair) -> None:
    config = DecoderConfig(channels=(8, 6, 4), blocks=(0, 0, 0))
    head = Head(config.build(), config)
    table = pair_cost(tiny_pair, head)
    pieces = [row.piece for row in table.enhanced.rows]
    assert pieces == ["text encoders", "transformer", "head"]
    assert table.head_tflop == pytest.approx(head.config.flops(32, 32) / TERA) and table.head_tflop > 0
    decode = table.distilled.rows[2].tflop
    assert table.enhanced.tflop == pytest.approx(table.distilled.tflop - decode + table.head_tflop)
    other = DecoderConfig(latent_channels=4, channels=(8, 6, 4), blocks=(0, 0, 0))
    with pytest.raises(UsageError, match="latents of 4 channels, but the VAE of tiny distilled has 16"):
        pair_cost(tiny_pair, Head(other.build(), other))


def test_refusals(tiny_pair: ModelPair, tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a side of 40 px is not possible; use a multiple of 16"):
        pair_cost(tiny_pair, size_px=40)
    with pytest.raises(UsageError, match="1 or more"):
        pair_cost(tiny_pair, baseline_steps=(0,))
    with pytest.raises(ModelError, match="not known here"):
        components_of(tiny_pair.baseline.model_copy(update={"model": "someone/else"}))
    with pytest.raises(DataError, match="no diffusers pipeline"):
        build_networks(configs_of(tmp_path / "missing"))
    with pytest.raises(UsageError, match="text tokens"):
        build_networks(configs_of(tiny_folder)).step(32, 32, 0)
    (tiny_folder / "vae" / "config.json").write_text('{"_class_name": "AutoencoderOther"}')
    with pytest.raises(ModelError, match="AutoencoderOther"):
        build_networks(configs_of(tiny_folder))
    (tiny_folder / "vae" / "config.json").write_text("[]")
    with pytest.raises(DataError, match="no named settings"):
        build_networks(configs_of(tiny_folder))
    (tiny_folder / "vae" / "config.json").unlink()
    with pytest.raises(DataError, match="is no pipeline folder"):
        build_networks(configs_of(tiny_folder))


@pytest.mark.parametrize(
    ("model", "billions"),
    [
        ("black-forest-labs/FLUX.2-klein-base-4B", 3.88),
        ("black-forest-labs/FLUX.2-dev", 32.2),
        ("stabilityai/stable-diffusion-xl-base-1.0", 2.57),
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", 0.86),
        ("stabilityai/stable-diffusion-3.5-medium", 2.47),
        ("stabilityai/stable-diffusion-3.5-large", 8.1),
        ("Qwen/Qwen-Image", 20.4),
        ("Tongyi-MAI/Z-Image", 6.15),
        ("Efficient-Large-Model/Sana_1600M_1024px_diffusers", 1.6),
        ("Efficient-Large-Model/Sana_600M_1024px_diffusers", 0.59),
        ("PixArt-alpha/PixArt-Sigma-XL-2-1024-MS", 0.61),
    ],
)
def test_the_embedded_shapes_have_the_published_size(model: str, billions: float) -> None:
    denoiser = build_networks(published_models()[model]).denoiser
    weights = sum(weight.numel() for weight in denoiser.parameters())
    if "3.5" in model:  # its position table counts in the published size and is no parameter in diffusers
        weights += sum(weight.numel() for weight in denoiser.buffers())
    assert weights / 1e9 == pytest.approx(billions, rel=7e-3)


def test_z_image_reads_no_padding() -> None:
    networks = components_of(model_pair("z-image").baseline)
    assert count_flops(networks.step(1024, 1024, 512)) == count_flops(networks.step(1024, 1024, 64))
    assert count_flops(networks.step(1024, 1024, 32)) < count_flops(networks.step(1024, 1024, 64))
    assert count_flops(networks.text_encode(512)) > 5 * count_flops(networks.text_encode(64))  # it is padded there


@pytest.mark.parametrize(("name", "texts"), [("flux2-klein", 2), ("sdxl", 1), ("z-image", 2)])
@pytest.mark.usefixtures("one_tflop_a_pass")
def test_guidance_is_two_passes_on_the_baseline_and_one_on_the_distilled(name: str, texts: int) -> None:
    pair = model_pair(name)
    table = pair_cost(pair, size_px=256, baseline_steps=(10,))
    steps = pair.distilled.steps
    assert table.distilled.tflop == pytest.approx(1 + steps + 1)
    assert table.baseline.tflop == pytest.approx(texts + 2 * 50 + 1)
    assert table.saving(10).share == pytest.approx(1 - (steps + 2) / (texts + 21))
    with pytest.raises(UsageError, match="use a multiple of"):
        pair_cost(pair, size_px=250)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "step", "decode"), [("sdxl", 6.761, 10.47), ("z-image", 62.51, 10.47)])
def test_full_size_counts_stay_what_docs_say(name: str, step: float, decode: float) -> None:
    rows = pair_cost(model_pair(name)).baseline.rows
    assert (rows[1].tflop_each, rows[2].tflop_each) == (pytest.approx(step, rel=1e-3), pytest.approx(decode, rel=1e-3))


def test_one_flux2_pass_by_hand() -> None:
    """Parallel single blocks with a gated MLP of 3 widths: they halve the cost of a step against FLUX.1."""
    width, joint, channels, image, text = 3072, 7680, 128, 16 * 16, 512
    mlp, tokens = 3 * width, image + text
    attention = 2 * 2 * tokens * tokens * width
    double = tokens * (4 * width * width + width * 2 * mlp + mlp * width)
    single = tokens * (width * (3 * width + 2 * mlp) + (width + mlp) * width)
    modulation = 2 * 6 * width * width + 3 * width * width  # shared by all blocks of a kind
    ends = image * channels * width + text * joint * width + 2 * width * width + image * width * channels
    embedding = 256 * width + width * width
    expected = 2 * (5 * double + 20 * single + modulation + ends + embedding) + 25 * attention
    networks = components_of(model_pair("flux2-klein").distilled)
    assert count_flops(networks.step(256, 256, text)) == expected


def test_random_weights_run_and_weigh_what_was_said(tiny_folder: Path) -> None:
    networks = build_networks(configs_of(tiny_folder), "cpu")
    counted = build_networks(configs_of(tiny_folder))
    assert networks.parameters == counted.parameters
    assert count_flops(networks.step(32, 32, 8)) == count_flops(counted.step(32, 32, 8))
    image: Any = networks.vae_decode(32, 32)()
    assert image.shape == (1, 3, 32, 32)
    assert all(weight.device.type == "cpu" for weight in networks.denoiser.parameters())
