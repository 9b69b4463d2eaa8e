"""The model pairs that are known by name, and reading one from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from topcoat import hub
from topcoat.config import SUFFIXES, parse_config, read_mapping
from topcoat.embedded import MINI
from topcoat.errors import ModelError, UsageError
from topcoat.generators.base import SOURCES, ModelPair

PRESETS = (
    "mini",
    "flux1",
    "flux1-hyper",
    "flux2-klein",
    "flux2-dev",
    "sdxl",
    "sdxl-lightning",
    "sdxl-lightning-2",
    "sdxl-lightning-8",
    "sdxl-turbo",
    "sdxl-hyper",
    "sdxl-dmd2",
    "sdxl-lcm",
    "sd35-large",
    "sd35-medium",
    "sd15",
    "qwen-image",
    "z-image",
    "sana",
    "pixart",
)
"""The pairs that are known by name; all but the embedded mini pair are files in ``pairs/``, like those of users."""


def model_pair(name: str) -> ModelPair:
    """The pair of that preset name, of a YAML, TOML or JSON file that describes one, or of a hub id.

    Folders in a file are relative to it. A hub id is ``owner/name`` or ``owner/name@revision``, a repository of
    `topcoat.generators.sharing.push_pair`. Raises `UsageError` for an unknown name or a file that describes no pair,
    and `ModelError` if the embedded pair is missing or a repository cannot be loaded.
    """
    if name == "mini":
        if not (MINI / "pair.json").is_file():
            raise ModelError("the mini pair's files are not in this installation; install the topcoat package again")
        return _from_file(MINI / "pair.json")
    if name in PRESETS:
        return _from_file(Path(__file__).with_name("pairs") / f"{name}.yaml")
    if Path(name).suffix.lower() in SUFFIXES:
        return _from_file(Path(name))
    if hub.named(name) is not None:
        from topcoat.generators.sharing import pulled_pair

        return pulled_pair(name)
    raise UsageError(f"no model pair is called {name!r}; use one of: {', '.join(PRESETS)}, or a .yaml file of your own")


COMMENTS = {
    "name": "what reports and datasets call it",
    "model": "hub id, folder of diffusers' layout, or module:function",
    "revision": "commit or branch of a hub repository",
    "variant": "weight files of that name, such as fp16",
    "transformer": "other weights: folder, hub id, .safetensors or .gguf",
    "unet": "the same for models with a U-Net",
    "vae": "the same for the VAE",
    "scheduler": "name of a diffusers class, and config: what it changes",
    "sigmas": "noise levels, one for each step",
    "timesteps": "the same as timesteps; give one of the two",
    "loras": "list of model, weight_name, revision, scale",
    "fuse_loras": "true adds LoRAs to the weights themselves",
    "steps": "what the model was made for; its card says so",
    "guidance_scale": "as the model's own pipeline calls it",
    "negative_prompt": "not for FLUX.2 and Sana-Sprint",
    "true_cfg_scale": "FLUX.1 and Qwen-Image: above 1 with a negative prompt, at twice the cost",
    "max_sequence_length": "text tokens; longer prompts are cut",
    "width_px": "the same for both models",
    "height_px": "the same for both models",
    "dtype": "float32, bfloat16 or float16",
    "quantisation": "none, bitsandbytes-8bit, bitsandbytes-4bit, torchao-int8 or layerwise-float8",
    "text_quantisation": "of the text encoders: as above, without layerwise-float8",
    "attention_backend": "of diffusers, such as flash or sage",
    "compile": "true: through torch.compile",
    "step_cache": "name of a cache of diffusers, and config",
    "call": "further arguments of the pipeline",
    "device": "auto, cpu, cuda or cuda:1",
    "offload": "what waits in main memory: none, model, group or sequential",
    "decode_batch": "images that the VAE takes at a time",
    "vae_tiling": "true: decode in tiles; less memory",
    "licence": "shown when pairs are built, and kept with them",
}
"""What each setting of a `GeneratorSpec` is, as a printed pair says it."""


def pair_as_yaml(pair: ModelPair) -> str:
    """The pair as a file that can be saved, edited and given to `model_pair`.

    Every setting is there, used or not, and its comment says what it is.
    """
    import yaml

    def lines(data: dict[str, Any]) -> list[str]:
        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)
        return text.rstrip("\n").split("\n")

    found = ["# a model pair: edit it and give the file as --pair", f"name: {json.dumps(pair.name)}"]
    for side in ("distilled", "baseline"):
        found += ["", f"{side}:"]
        for key, value in getattr(pair, side).model_dump(mode="json").items():
            first, *rest = lines({key: value})
            if rest and isinstance(value, str):  # folded: no comment may stand inside
                first, rest = f"{key}: {json.dumps(value, ensure_ascii=False)}", []
            found += [f"  {first:<48}  # {COMMENTS[key]}", *(f"  {line}" for line in rest)]
    return "\n".join(found) + "\n"


def _from_file(path: Path) -> ModelPair:
    data = read_mapping(path)
    folder = path.resolve().parent
    for side in ("distilled", "baseline"):
        spec = data.get(side)
        if isinstance(spec, dict):
            data[side] = _with_paths(spec, folder)
    return parse_config(data, ModelPair, source=str(path))


def _with_paths(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Settings in which a model beside the file is an absolute path, at any depth; a hub id stays as it is."""
    resolved: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            resolved[key] = _with_paths(value, folder)
        elif isinstance(value, list):
            resolved[key] = [_with_paths(item, folder) if isinstance(item, dict) else item for item in value]
        elif key in SOURCES and isinstance(value, str) and value:
            source = folder / Path(value).expanduser()
            resolved[key] = str(source.resolve()) if source.exists() or value.startswith((".", "~")) else value
        else:
            resolved[key] = value
    return resolved
