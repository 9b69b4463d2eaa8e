"""What two models share by content, and where their networks lie."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.card import Card
from topcoat.errors import UsageError
from topcoat.generators.base import GeneratorSpec, ModelPair, Offload
from topcoat.generators.diffusers import DiffusersGenerator, load_generator, load_pair
from topcoat.generators.placement import networks_of, weight_bytes

PROMPTS = ["studio portrait of a young woman", "old man"]
SEEDS = [3, 1]


@pytest.fixture(scope="module")
def twins(flux_pair: ModelPair, flux_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelPair:
    """Two repositories of one content, saved by different versions of the libraries; the denoisers differ."""
    other = tmp_path_factory.mktemp("twins") / "other"
    shutil.copytree(flux_folder, other)
    for config in other.glob("text_encoder*/config.json"):
        config.write_text(json.dumps({**json.loads(config.read_text()), "transformers_version": "4.1.0"}))
    shutil.rmtree(other / "transformer")
    shutil.copytree(flux_folder.parent / "distilled" / "transformer", other / "transformer")
    distilled = flux_pair.distilled.model_copy(update={"model": str(other), "transformer": None})
    return flux_pair.model_copy(update={"distilled": distilled})


def change_a_weight(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    weights = load_file(path)
    first = sorted(weights)[0]
    save_file({**weights, first: weights[first] + 1}, path, metadata={"format": "pt"})


def test_two_repositories_share_what_is_equal(twins: ModelPair) -> None:
    one, other = (networks_of(generator.pipeline) for generator in load_pair(twins))
    assert {name for name in one if one[name] is other[name]} == {"text_encoder", "text_encoder_2", "vae"}


def test_repositories_of_the_hub_are_fetched_and_then_compared(
    twins: ModelPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    import diffusers

    folders = {"owner/fast": twins.distilled.model, "owner/slow": twins.baseline.model}
    original, asked = diffusers.DiffusionPipeline.load_config, []

    def load_config(source: Any, **named: Any) -> Any:
        return original(folders.get(str(source)) or source, **named)

    def download(source: str, **named: Any) -> str:
        asked.append((source, named["revision"], named["use_safetensors"]))
        return folders[source]

    monkeypatch.setattr(diffusers.DiffusionPipeline, "load_config", staticmethod(load_config))
    monkeypatch.setattr(diffusers.DiffusionPipeline, "download", staticmethod(download))
    specs = {
        side: getattr(twins, side).model_copy(update={"model": model, "revision": "abc"})
        for side, model in zip(("distilled", "baseline"), folders, strict=True)
    }
    one, other = (generator.pipeline for generator in load_pair(twins.model_copy(update=specs)))
    assert asked == [("owner/fast", "abc", True), ("owner/slow", "abc", True)]
    assert one.text_encoder_2 is other.text_encoder_2 and one.transformer is not other.transformer


def test_one_weight_makes_a_part_another(twins: ModelPair, tmp_path: Path) -> None:
    shutil.copytree(twins.distilled.model, tmp_path / "copy")
    change_a_weight(tmp_path / "copy" / "text_encoder_2")
    distilled = twins.distilled.model_copy(update={"model": str(tmp_path / "copy")})
    one, other = (g.pipeline for g in load_pair(twins.model_copy(update={"distilled": distilled})))
    assert one.text_encoder is other.text_encoder
    assert one.text_encoder_2 is not other.text_encoder_2


def test_models_of_two_dtypes_share_no_network(twins: ModelPair) -> None:
    rough = twins.model_copy(update={"distilled": twins.distilled.model_copy(update={"dtype": "bfloat16"})})
    one, other = (networks_of(generator.pipeline) for generator in load_pair(rough))
    assert not {id(network) for network in one.values()} & {id(network) for network in other.values()}


@pytest.mark.parametrize("offload", ["model", "group", "sequential"])
def test_offloading_changes_no_bit(twins: ModelPair, offload: Offload) -> None:
    plain, moved = load_pair(twins), load_pair(twins.offloaded(offload))
    for _ in range(2):
        for here, there in zip(plain, moved, strict=True):
            assert there.spec.offload == offload
            assert torch.equal(here.generate(PROMPTS, SEEDS), there.generate(PROMPTS, SEEDS))
    start = plain[0].generate(PROMPTS, SEEDS)
    expected, image = (g.img2img(start, PROMPTS, SEEDS, strength=0.7) for g in (plain[1], moved[1]))
    assert torch.equal(expected, image)


def test_nothing_stays_on_the_card_after_a_call(twins: ModelPair, card: Card) -> None:
    for generator in load_pair(twins.offloaded("model")):
        generator.generate(PROMPTS, SEEDS)
        assert card.here() == []
        generator.generate_latents(PROMPTS, SEEDS)
        assert card.here() == []
    assert card.most["FluxTransformer2DModel"] == 1


def test_a_resident_network_is_brought_once(twins: ModelPair, card: Card) -> None:
    generator = load_pair(twins.offloaded("model"))[0]
    generator.encode_texts(PROMPTS)
    card.arrivals.clear()
    with generator.resident():
        for _ in range(3):
            generator.generate_latents(PROMPTS, SEEDS)
    assert card.arrivals == {"FluxTransformer2DModel": 1} and card.here() == []


def test_two_denoisers_take_turns_where_both_do_not_fit(
    twins: ModelPair, monkeypatch: pytest.MonkeyPatch, card: Card
) -> None:
    networks = {id(n): n for g in load_pair(twins) for n in networks_of(g.pipeline).values()}
    needed = sum(map(weight_bytes, networks.values()))
    assert len(networks) == 5, "two denoisers, and what they share once"

    def loaded(free: float) -> tuple[DiffusersGenerator, DiffusersGenerator]:
        monkeypatch.setattr("topcoat.generators.placement.free_bytes", lambda device: int(free))
        return load_pair(twins)

    assert [generator.spec.offload for generator in loaded(needed / 0.79)] == ["none", "none"]
    with pytest.warns(UserWarning, match=r"tiny-distilled and tiny-baseline have .* take turns .*offload: model"):
        tight = loaded(needed / 0.81)
    assert [generator.spec.offload for generator in tight] == ["model", "model"]
    for generator in tight:
        generator.generate(PROMPTS, SEEDS)
    assert card.most["FluxTransformer2DModel"] == 1


def test_the_size_of_a_decoding_lot_is_a_setting(twins: ModelPair, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, seeds = PROMPTS * 3, range(6)
    usual = load_generator(twins.baseline)
    few = load_generator(twins.baseline.model_copy(update={"decode_batch": 2}))
    latents = usual.generate_latents(prompts, seeds)
    lots: list[int] = []
    original = few.pipeline.vae.decode
    monkeypatch.setattr(few.pipeline.vae, "decode", lambda z, **named: (lots.append(len(z)), original(z, **named))[1])
    assert torch.allclose(usual.decode(latents), few.decode(latents), atol=1e-6)
    assert lots == [2, 2, 2]


def test_tiles_are_those_of_diffusers(
    family_specs: dict[str, GeneratorSpec], flux_pair: ModelPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    import diffusers

    def refuse(vae: Any) -> None:  # as the mixin of diffusers does for a VAE that cannot
        raise NotImplementedError("Tiling doesn't seem to be implemented")

    monkeypatch.setattr(diffusers.AutoencoderTiny, "enable_tiling", refuse)
    spec = family_specs["sdxl"].model_copy(update={"vae_tiling": True})
    assert load_generator(spec).pipeline.vae.use_tiling
    assert spec.image_settings()["vae_tiling"] is True
    with pytest.raises(UsageError, match="its VAE, a AutoencoderTiny, has no tiles; remove vae_tiling"):
        load_generator(flux_pair.baseline.model_copy(update={"vae_tiling": True}))
    plain: dict[str, Any] = family_specs["sdxl"].model_copy(update={"decode_batch": 1}).image_settings()
    assert {"vae_tiling", "decode_batch"}.isdisjoint(plain)
