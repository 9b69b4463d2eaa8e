from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from topcoat.cost import ARCHITECTURES, components_of, count_flops, head_tflop, pair_cost
from topcoat.errors import DataError, ModelError, UsageError
from topcoat.generators.base import GeneratorSpec, Licence, ModelPair
from topcoat.generators.meta import MetaComponents, build_on_meta

TERA = 1e12


def meta(*shape: int) -> torch.Tensor:
    return torch.empty(*shape, device="meta")


def test_linear_convolution_and_attention_by_hand() -> None:
    with torch.device("meta"):
        linear, convolution = nn.Linear(24, 40), nn.Conv2d(6, 10, 3, stride=2, padding=1, groups=2)
    assert count_flops(lambda: linear(meta(7, 24))) == 2 * 7 * 24 * 40
    assert count_flops(lambda: convolution(meta(2, 6, 16, 16))) == 2 * 2 * 8 * 8 * 10 * (6 // 2) * 9
    q = meta(2, 3, 20, 16)
    assert count_flops(lambda: functional.scaled_dot_product_attention(q, q, q)) == 2 * (2 * 2 * 3 * 20 * 20 * 16)


def test_one_flux_step_by_hand(tiny_folder: Path) -> None:
    components = build_on_meta(tiny_folder)
    width, image, text, channels, joint, pooled, frequencies = 32, 4, 8, 64, 32, 32, 256
    tokens, mlp = image + text, 4 * width
    attention = 2 * 2 * tokens * tokens * width
    embedding = width * (frequencies + width) + width * (pooled + width)  # timestep and pooled text, two layers each
    double = 2 * 6 * width * width + tokens * (4 * width * width + 2 * width * mlp)
    single = 3 * width * width + tokens * (3 * width * width + width * mlp + (width + mlp) * width)
    ends = image * channels * width + text * joint * width + 2 * width * width + image * width * channels
    expected = 2 * (embedding + double + single + ends) + 2 * attention
    assert count_flops(components.transformer_step(32, 32, text)) == expected


@pytest.fixture(scope="module")
def dev() -> MetaComponents:
    return build_on_meta(ARCHITECTURES["black-forest-labs/FLUX.1-dev"].components)


@pytest.mark.parametrize(
    ("size_px", "tokens", "tflop"), [(1024, 512, 74.38), (1024, 256, 69.47), (512, 512, 21.50), (512, 256, 17.69)]
)
def test_full_size_flux_steps(dev: MetaComponents, size_px: int, tokens: int, tflop: float) -> None:
    found = count_flops(dev.transformer_step(size_px, size_px, tokens)) / TERA
    assert found == pytest.approx(tflop, rel=1e-3)


def test_full_size_flux_text_encoders_and_vae(dev: MetaComponents) -> None:
    assert count_flops(dev.t5_encode(512)) / TERA == pytest.approx(4.84, rel=1e-3)
    assert count_flops(dev.t5_encode(256)) / TERA == pytest.approx(2.40, rel=2e-3)  # 2.3966, printed as 2.40
    assert count_flops(dev.vae_decode(1024, 1024)) / TERA == pytest.approx(10.47, rel=1e-3)
    assert sum(parameter.numel() for parameter in dev.transformer.parameters()) == pytest.approx(11.9e9, rel=1e-2)


def test_flux1_pair_is_counted_without_weights_in_seconds() -> None:
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
    start = time.perf_counter()
    table = pair_cost(pair, size_px=1024)
    assert time.perf_counter() - start < 10
    decode = 10.47
    for steps, saving in ((28, 0.862), (50, 0.923)):
        # The known savings leave the text encoders out, so they are taken off again here.
        distilled = table.distilled.tflop - table.distilled.rows[0].tflop
        at = next(cost for cost in table.baseline_at if cost.steps == steps)
        assert 1 - distilled / (at.tflop - at.rows[0].tflop) == pytest.approx(saving, abs=1e-3)
    assert table.distilled.rows[2].tflop == pytest.approx(decode, rel=1e-3)
    assert table.saving(50) == table.saving() > 0.92


def test_pair_cost_of_a_folder(tiny_pair: ModelPair, fake_head: Any) -> None:
    table = pair_cost(tiny_pair, fake_head, 32, baseline_steps=(4, 28))
    step = count_flops(components_of(tiny_pair.baseline).transformer_step(32, 32, 8)) / TERA
    assert table.baseline.rows[1].tflop_each == pytest.approx(step)
    assert table.distilled.rows[1].tflop_each > step  # the distilled model's own transformer folder is read
    assert [cost.steps for cost in table.baseline_at] == [28, 10, 4]
    assert table.head_tflop == pytest.approx(2 * 32 * 32 * 3 * 3 * 9 / TERA)
    assert table.enhanced.tflop == pytest.approx(table.distilled.tflop + table.head_tflop)
    assert pair_cost(tiny_pair).head_tflop == 0
    assert fake_head.network.weight.device.type == "cpu"


def test_the_head_is_counted_at_its_padded_size(fake_head: Any) -> None:
    assert head_tflop(fake_head, 33, 30) == pytest.approx(2 * 36 * 32 * 3 * 3 * 9 / TERA)


def test_refusals(tiny_pair: ModelPair, tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="multiple of 16"):
        pair_cost(tiny_pair, size_px=40)
    with pytest.raises(UsageError, match="1 or more"):
        pair_cost(tiny_pair, baseline_steps=(0,))
    with pytest.raises(ModelError, match="not known here"):
        components_of(tiny_pair.baseline.model_copy(update={"model": "someone/else"}))
    with pytest.raises(DataError, match="no FLUX-like pipeline"):
        build_on_meta(tmp_path / "missing")
    with pytest.raises(UsageError, match="text tokens"):
        build_on_meta(tiny_folder).transformer_step(32, 32, 0)
    (tiny_folder / "vae" / "config.json").write_text('{"_class_name": "AutoencoderOther"}')
    with pytest.raises(ModelError, match="AutoencoderOther"):
        build_on_meta(tiny_folder)
    (tiny_folder / "vae" / "config.json").write_text("[]")
    with pytest.raises(DataError, match="no named settings"):
        build_on_meta(tiny_folder)
