"""LoRAs on a tiny SDXL folder: weights, scales, files and what cannot be added."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from topcoat.errors import ModelError
from topcoat.generators.base import GeneratorSpec, LoraSpec, ModelPair
from topcoat.generators.diffusers import load_generator, load_pair

pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
PROMPTS, SEEDS = ["old man", "red hair"], [1, 2]


@pytest.fixture(scope="module")
def lora_file(family_specs: dict[str, GeneratorSpec], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rank 2 on the queries of every attention, in the layout that peft and diffusers write."""
    unet = load_generator(family_specs["sdxl"]).pipeline.unet
    noise = torch.Generator().manual_seed(0)
    weights: dict[str, torch.Tensor] = {}
    for name, module in unet.named_modules():
        if name.endswith("to_q"):
            weights[f"unet.{name}.lora_A.weight"] = torch.randn(2, module.in_features, generator=noise)
            weights[f"unet.{name}.lora_B.weight"] = torch.randn(module.out_features, 2, generator=noise)
    path = tmp_path_factory.mktemp("lora") / "style.safetensors"
    save_file(weights, path)
    return path


def test_a_scale_decides_how_much(family_specs: dict[str, GeneratorSpec], lora_file: Path) -> None:
    spec = family_specs["sdxl"]
    plain = load_generator(spec).generate(PROMPTS, SEEDS)

    def change(scale: float) -> float:
        loras = (LoraSpec(model=str(lora_file), scale=scale),)
        images = load_generator(spec.model_copy(update={"loras": loras})).generate(PROMPTS, SEEDS)
        return float((images - plain).abs().mean())

    none, some, all_of_it = change(0.0), change(0.3), change(1.0)
    assert none < 1e-6 < some < all_of_it


def test_fused_loras_are_in_the_weights_at_their_scale(family_specs: dict[str, GeneratorSpec], lora_file: Path) -> None:
    loras = (LoraSpec(model=str(lora_file), scale=0.3),)
    beside = family_specs["sdxl"].model_copy(update={"loras": loras})
    generator = load_generator(beside.model_copy(update={"fuse_loras": True}))
    assert not any("lora" in name for name, _ in generator.pipeline.unet.named_parameters())
    made, expected = (each.generate(PROMPTS, SEEDS) for each in (generator, load_generator(beside)))
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=0)


def test_a_folder_and_a_file_name_are_the_same_lora(family_specs: dict[str, GeneratorSpec], lora_file: Path) -> None:
    spec = family_specs["sdxl"]
    by_file = spec.model_copy(update={"loras": (LoraSpec(model=str(lora_file)),)})
    by_folder = spec.model_copy(update={"loras": (LoraSpec(model=str(lora_file.parent), weight_name=lora_file.name),)})
    one, other = (load_generator(given).generate(PROMPTS, SEEDS) for given in (by_file, by_folder))
    assert torch.equal(one, other)


def test_a_lora_never_reaches_the_other_model(family_specs: dict[str, GeneratorSpec], lora_file: Path) -> None:
    plain = family_specs["sdxl"]
    changed = plain.model_copy(update={"loras": (LoraSpec(model=str(lora_file)),)})
    expected = [load_generator(spec).generate(PROMPTS, SEEDS) for spec in (plain, changed)]
    for specs in ((plain, changed), (changed, plain)):
        pair = load_pair(ModelPair(name="lora", distilled=specs[0], baseline=specs[1]))
        for generator in pair:
            wanted = expected[bool(generator.spec.loras)]
            assert torch.equal(generator.generate(PROMPTS, SEEDS), wanted)


def test_what_a_lora_leaves_as_it_is_is_shared(family_specs: dict[str, GeneratorSpec], lora_file: Path) -> None:
    plain = family_specs["sdxl"]
    changed = plain.model_copy(update={"loras": (LoraSpec(model=str(lora_file)),)})
    distilled, baseline = load_pair(ModelPair(name="lora", distilled=changed, baseline=plain))
    assert distilled.pipeline.text_encoder_2 is baseline.pipeline.text_encoder_2
    assert distilled.pipeline.unet is not baseline.pipeline.unet


def test_a_lora_of_another_model_is_one_sentence(tmp_path: Path, family_specs: dict[str, GeneratorSpec]) -> None:
    save_file({"unet.nowhere.to_q.lora_A.weight": torch.zeros(2, 8)}, tmp_path / "other.safetensors")
    loras = (LoraSpec(model=str(tmp_path / "other.safetensors")),)
    with pytest.raises(ModelError, match="does not fit this model") as caught:
        load_generator(family_specs["sdxl"].model_copy(update={"loras": loras}))
    assert "\n" not in str(caught.value)


def test_without_peft_the_line_that_installs_it(
    family_specs: dict[str, GeneratorSpec], lora_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'topcoat\[lora\]'"):
        load_generator(family_specs["sdxl"].model_copy(update={"loras": (LoraSpec(model=str(lora_file)),)}))
