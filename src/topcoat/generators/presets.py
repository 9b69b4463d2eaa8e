"""The model pairs that are known by name, and reading one from a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from topcoat.config import SUFFIXES, parse_config, read_mapping
from topcoat.embedded import MINI
from topcoat.errors import ModelError, UsageError
from topcoat.generators.base import GeneratorSpec, Licence, LoraSpec, ModelPair, SchedulerSpec

_APACHE = "https://www.apache.org/licenses/LICENSE-2.0"
_FLUX_DEV_NOTE = (
    "For non-commercial use. Section 2(d) says that output may not be used to train, fine-tune or distill a model that "
    "is competitive with FLUX.1 [dev]; whether a small head is one is unsettled, so read the terms before you train."
)


def _flux1() -> ModelPair:
    """Settings of the two model cards; schnell was distilled without guidance and reads 256 text tokens."""
    schnell = GeneratorSpec(
        name="FLUX.1-schnell",
        model="black-forest-labs/FLUX.1-schnell",
        steps=4,
        guidance_scale=0.0,
        max_sequence_length=256,
        width_px=1024,
        height_px=1024,
        dtype="bfloat16",
        licence=Licence(name="Apache-2.0", url=_APACHE),
    )
    dev = GeneratorSpec(
        name="FLUX.1-dev",
        model="black-forest-labs/FLUX.1-dev",
        steps=50,
        guidance_scale=3.5,
        max_sequence_length=512,
        width_px=1024,
        height_px=1024,
        dtype="bfloat16",
        licence=Licence(
            name="FLUX.1 [dev] Non-Commercial License",
            url="https://huggingface.co/black-forest-labs/FLUX.1-dev/blob/main/LICENSE.md",
            note=_FLUX_DEV_NOTE,
        ),
    )
    return ModelPair(name="flux1", distilled=schnell, baseline=dev)


def _flux2_klein() -> ModelPair:
    """Settings of the two model cards; the base model runs twice per step, because its guidance is above 1."""
    klein = GeneratorSpec(
        name="FLUX.2-klein-4B",
        model="black-forest-labs/FLUX.2-klein-4B",
        steps=4,
        guidance_scale=1.0,
        max_sequence_length=512,
        width_px=1024,
        height_px=1024,
        dtype="bfloat16",
        licence=Licence(name="Apache-2.0", url=_APACHE),
    )
    base = klein.model_copy(
        update={
            "name": "FLUX.2-klein-base-4B",
            "model": "black-forest-labs/FLUX.2-klein-base-4B",
            "steps": 50,
            "guidance_scale": 4.0,
        }
    )
    return ModelPair(name="flux2-klein", distilled=klein, baseline=base)


def _sdxl() -> ModelPair:
    """SDXL-Lightning's LoRA of 4 steps on SDXL base, as its card runs it, against the base as its pipeline runs it.

    Lightning and not Turbo, because Turbo was trained for 512 px and a pair paints one size.
    """
    note = (
        "The use restrictions of its attachment A bind whoever uses the model, a model derived from it or their output."
    )
    base = GeneratorSpec(
        name="SDXL-base-1.0",
        model="stabilityai/stable-diffusion-xl-base-1.0",
        variant="fp16",
        steps=50,
        guidance_scale=5.0,
        max_sequence_length=77,
        width_px=1024,
        height_px=1024,
        dtype="float16",
        licence=Licence(
            name="CreativeML Open RAIL++-M",
            url="https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0/blob/main/LICENSE.md",
            note=note,
        ),
    )
    lightning = base.model_copy(
        update={
            "name": "SDXL-Lightning-4step",
            "loras": (LoraSpec(model="ByteDance/SDXL-Lightning", weight_name="sdxl_lightning_4step_lora.safetensors"),),
            "scheduler": SchedulerSpec(name="EulerDiscreteScheduler", config={"timestep_spacing": "trailing"}),
            "steps": 4,
            "guidance_scale": 0.0,
            "licence": Licence(
                name="CreativeML Open RAIL++-M",
                url="https://huggingface.co/ByteDance/SDXL-Lightning/blob/main/LICENSE.md",
                note=note,
            ),
        }
    )
    return ModelPair(name="sdxl", distilled=lightning, baseline=base)


def _z_image() -> ModelPair:
    """Settings of the two model cards; the base model runs twice per step, because it is guided."""
    turbo = GeneratorSpec(
        name="Z-Image-Turbo",
        model="Tongyi-MAI/Z-Image-Turbo",
        steps=8,
        guidance_scale=0.0,
        max_sequence_length=512,
        width_px=1024,
        height_px=1024,
        dtype="bfloat16",
        licence=Licence(name="Apache-2.0", url=_APACHE),
    )
    base = turbo.model_copy(
        update={"name": "Z-Image", "model": "Tongyi-MAI/Z-Image", "steps": 50, "guidance_scale": 4.0}
    )
    return ModelPair(name="z-image", distilled=turbo, baseline=base)


def _mini() -> ModelPair:
    path = MINI / "pair.json"
    if not path.is_file():
        raise ModelError("the mini pair's files are not in this installation; install the topcoat package again")
    return _from_file(path)


PRESETS: Mapping[str, Callable[[], ModelPair]] = {
    "mini": _mini,
    "flux1": _flux1,
    "flux2-klein": _flux2_klein,
    "sdxl": _sdxl,
    "z-image": _z_image,
}
"""Name -> what makes the pair."""


def preset_names() -> tuple[str, ...]:
    """The names that `model_pair` knows."""
    return tuple(PRESETS)


def model_pair(name: str) -> ModelPair:
    """The pair of that preset name, or of a YAML, TOML or JSON file that describes one.

    Folders in a file are relative to it. Raises `UsageError` for an unknown name or a file that describes no pair, and
    `ModelError` if the embedded pair is missing.
    """
    preset = PRESETS.get(name)
    if preset is not None:
        return preset()
    if Path(name).suffix.lower() in SUFFIXES:
        return _from_file(Path(name))
    raise UsageError(f"no model pair is called {name!r}; use one of: {', '.join(PRESETS)}, or a .yaml file of your own")


def pair_as_yaml(pair: ModelPair) -> str:
    """The pair as a file that can be saved, edited and given to `model_pair`; every setting is there, used or not."""
    import yaml

    text = yaml.safe_dump(pair.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)
    return f"# a model pair: edit it and give the file as --pair\n{text}"


def _from_file(path: Path) -> ModelPair:
    data = read_mapping(path)
    base = path.resolve().parent
    for side in ("distilled", "baseline"):
        spec = data.get(side)
        if isinstance(spec, dict):
            data[side] = {key: _resolved(key, value, base) for key, value in spec.items()}
    return parse_config(data, ModelPair, source=str(path))


def _resolved(key: str, value: Any, base: Path) -> Any:
    """A folder or file beside the spec as an absolute path; a hub id as it is."""
    if key == "loras" and isinstance(value, list):
        return [_resolved_lora(item, base) for item in value]
    if key not in ("model", "transformer") or not isinstance(value, str) or not value:
        return value
    source = base / Path(value).expanduser()
    return str(source.resolve()) if source.exists() or value.startswith((".", "~")) else value


def _resolved_lora(lora: Any, base: Path) -> Any:
    return {key: _resolved(key, value, base) for key, value in lora.items()} if isinstance(lora, dict) else lora
