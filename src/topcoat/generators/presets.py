"""The model pairs that are known by name, and reading one from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
    """The pair of that preset name, or of a YAML, TOML or JSON file that describes one.

    Folders in a file are relative to it. Raises `UsageError` for an unknown name or a file that describes no pair, and
    `ModelError` if the embedded pair is missing.
    """
    if name == "mini":
        if not (MINI / "pair.json").is_file():
            raise ModelError("the mini pair's files are not in this installation; install the topcoat package again")
        return _from_file(MINI / "pair.json")
    if name in PRESETS:
        return _from_file(Path(__file__).with_name("pairs") / f"{name}.yaml")
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
