from __future__ import annotations

import inspect
import json
from pathlib import Path

import diffusers
import pydantic
import pytest

from topcoat.cost.flops import network_configs
from topcoat.errors import ModelError, UsageError
from topcoat.generators import presets
from topcoat.generators.base import GeneratorSpec, LoraSpec, ModelPair, SchedulerSpec
from topcoat.generators.families import family_of
from topcoat.generators.presets import COMMENTS, PRESETS, model_pair, pair_as_yaml


def test_flux1_is_schnell_and_dev() -> None:
    pair = model_pair("flux1")
    assert pair.distilled.model == "black-forest-labs/FLUX.1-schnell"
    assert (pair.distilled.steps, pair.distilled.guidance_scale, pair.distilled.max_sequence_length) == (4, 0.0, 256)
    assert pair.baseline.model == "black-forest-labs/FLUX.1-dev"
    assert (pair.baseline.steps, pair.baseline.guidance_scale, pair.baseline.max_sequence_length) == (50, 3.5, 512)
    assert pair.distilled.licence.name == "Apache-2.0"
    assert "non-commercial" in pair.baseline.licence.name.lower() and "2(d)" in pair.baseline.licence.note


def test_flux2_klein_is_permissive_on_both_sides() -> None:
    pair = model_pair("flux2-klein")
    assert pair.distilled.model == "black-forest-labs/FLUX.2-klein-4B"
    assert (pair.distilled.steps, pair.distilled.guidance_scale) == (4, 1.0)
    assert pair.baseline.model == "black-forest-labs/FLUX.2-klein-base-4B"
    assert (pair.baseline.steps, pair.baseline.guidance_scale) == (50, 4.0)
    assert pair.distilled.licence.name == pair.baseline.licence.name == "Apache-2.0"


def test_sdxl_is_lightning_and_base_of_one_size() -> None:
    pair = model_pair("sdxl")
    lightning, base = pair.distilled, pair.baseline
    assert lightning.model == base.model == "stabilityai/stable-diffusion-xl-base-1.0"
    assert [(lora.model, lora.weight_name, lora.scale) for lora in lightning.loras] == [
        ("ByteDance/SDXL-Lightning", "sdxl_lightning_4step_lora.safetensors", 1.0)
    ]
    assert lightning.scheduler is not None and lightning.scheduler.config == {"timestep_spacing": "trailing"}
    assert (lightning.steps, lightning.guidance_scale, base.steps, base.guidance_scale) == (4, 0.0, 50, 5.0)
    assert "attachment A" in lightning.licence.note


def test_z_image_is_turbo_and_its_base() -> None:
    pair = model_pair("z-image")
    assert (pair.distilled.model, pair.distilled.steps, pair.distilled.guidance_scale) == (
        "Tongyi-MAI/Z-Image-Turbo",
        8,
        0.0,
    )
    assert (pair.baseline.model, pair.baseline.steps, pair.baseline.guidance_scale) == ("Tongyi-MAI/Z-Image", 50, 4.0)
    assert pair.distilled.licence.name == pair.baseline.licence.name == "Apache-2.0"


@pytest.mark.parametrize("name", ["mini", "flux1", "flux2-klein", "sdxl", "z-image"])
def test_a_printed_pair_reads_back_the_same(tmp_path: Path, name: str) -> None:
    path = tmp_path / "pair.yaml"
    path.write_text(pair_as_yaml(model_pair(name)))
    assert model_pair(str(path)) == model_pair(name)
    for key in GeneratorSpec.model_fields:
        assert path.read_text().count(f"# {COMMENTS[key]}\n") >= 2, key


def test_image_settings_leave_out_where_it_runs_and_what_is_not_used() -> None:
    spec = model_pair("flux1").baseline
    settings = spec.image_settings()
    assert {"device", "offload", "loras", "scheduler", "quantisation", "variant"}.isdisjoint(settings)
    assert settings["steps"] == 50 and "revision" not in settings
    elsewhere = spec.model_copy(update={"device": "cuda:1", "offload": "model"})
    assert elsewhere.image_settings() == settings
    for change in (
        {"quantisation": "bitsandbytes-4bit"},
        {"loras": (LoraSpec(model="a/b"),)},
        {"scheduler": SchedulerSpec(name="x")},
        {"negative_prompt": ""},
        {"variant": "fp16"},
        {"revision": "abc"},
        {"dtype": "float32"},
    ):
        assert spec.model_copy(update=change).image_settings() != settings, change


def test_guidance_without_its_prompt_is_refused() -> None:
    data = model_pair("flux1").baseline.model_dump() | {"true_cfg_scale": 2.0}
    with pytest.raises(pydantic.ValidationError, match="needs a negative_prompt"):
        GeneratorSpec.model_validate(data)


def test_a_lora_next_to_the_file_is_resolved(tmp_path: Path, fake_pair: ModelPair) -> None:
    (tmp_path / "style.safetensors").write_bytes(b"")
    data = fake_pair.model_dump(mode="json")
    data["distilled"]["loras"] = [{"model": "style.safetensors", "scale": 0.5}, {"model": "owner/name"}]
    (tmp_path / "pair.json").write_text(json.dumps(data))
    loras = model_pair(str(tmp_path / "pair.json")).distilled.loras
    assert [lora.model for lora in loras] == [str((tmp_path / "style.safetensors").resolve()), "owner/name"]


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "mini"])
def test_hub_presets_are_checked_pairs(name: str) -> None:
    pair = model_pair(name)
    assert pair.name == name
    for spec in (pair.distilled, pair.baseline):
        family = family_of(network_configs(spec))
        family.check(spec)
        pipeline, wanted = getattr(diffusers, family.pipeline), spec.scheduler
        assert set(family.arguments(spec, 1)) <= set(inspect.signature(pipeline.__call__).parameters)
        if wanted is not None:
            scheduler = getattr(diffusers, wanted.name)
            assert set(wanted.config) <= set(inspect.signature(scheduler.__init__).parameters)
            assert spec.timesteps is None or "timesteps" in inspect.signature(scheduler.set_timesteps).parameters
        assert spec.licence.url.startswith("https://")
    text = (Path(presets.__file__).parent / "pairs" / f"{name}.yaml").read_text()
    assert text.startswith("# ")  # where its settings come from
    assert ModelPair.model_validate(pair.model_dump()) == pair
    assert pair.distilled.dtype == pair.baseline.dtype in ("bfloat16", "float16")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'flux9'; use one of: mini, .*, z-image, .* or a \.yaml file"):
        model_pair("flux9")
    files = {path.stem for path in (Path(presets.__file__).parent / "pairs").iterdir()}
    assert files | {"mini"} == set(PRESETS)


def test_a_file_of_ones_own_has_folders_beside_it(tmp_path: Path, fake_pair: ModelPair) -> None:
    (tmp_path / "pipeline").mkdir()
    data = fake_pair.model_dump(mode="json")
    data["distilled"] |= {"model": "pipeline", "transformer": "./distilled"}
    (tmp_path / "pair.json").write_text(json.dumps(data))
    pair = model_pair(str(tmp_path / "pair.json"))
    assert pair.distilled.model == str((tmp_path / "pipeline").resolve())
    assert pair.distilled.transformer == str((tmp_path / "distilled").resolve())
    assert pair.baseline.model == "fake/good", "a hub id stays one"


def test_a_bad_file_names_what_is_wrong(tmp_path: Path, fake_pair: ModelPair) -> None:
    data = fake_pair.model_dump(mode="json")
    data["distilled"]["stepz"] = 4
    (tmp_path / "pair.json").write_text(json.dumps(data))
    with pytest.raises(UsageError, match=r"distilled\.stepz: unknown key, did you mean steps"):
        model_pair(str(tmp_path / "pair.json"))
    data = fake_pair.model_dump(mode="json")
    data["baseline"]["width_px"] = 64
    (tmp_path / "pair.json").write_text(json.dumps(data))
    with pytest.raises(UsageError, match="give both the same width_px"):
        model_pair(str(tmp_path / "pair.json"))
    with pytest.raises(UsageError, match="does not exist"):
        model_pair(str(tmp_path / "absent.yaml"))


def test_a_missing_mini_pair_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presets, "MINI", tmp_path)
    with pytest.raises(ModelError, match="install the topcoat package again"):
        model_pair("mini")
