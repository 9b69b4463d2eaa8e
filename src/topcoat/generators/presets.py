"""The model pairs that are known by name, and reading one from a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from topcoat.config import SUFFIXES, parse_config, read_mapping
from topcoat.embedded import MINI
from topcoat.errors import ModelError, UsageError
from topcoat.generators.base import GeneratorSpec, Licence, ModelPair

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


def _mini() -> ModelPair:
    path = MINI / "pair.json"
    if not path.is_file():
        raise ModelError("the mini pair's files are not in this installation; install the topcoat package again")
    return _from_file(path)


PRESETS: Mapping[str, Callable[[], ModelPair]] = {"mini": _mini, "flux1": _flux1, "flux2-klein": _flux2_klein}
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


def _from_file(path: Path) -> ModelPair:
    data = read_mapping(path)
    base = path.resolve().parent
    for side in ("distilled", "baseline"):
        spec = data.get(side)
        if isinstance(spec, dict):
            data[side] = {key: _resolved(key, value, base) for key, value in spec.items()}
    return parse_config(data, ModelPair, source=str(path))


def _resolved(key: str, value: Any, base: Path) -> Any:
    """A folder beside the file as an absolute path; a hub id as it is."""
    if key not in ("model", "transformer") or not isinstance(value, str) or not value:
        return value
    folder = base / Path(value).expanduser()
    return str(folder.resolve()) if folder.is_dir() or value.startswith((".", "~")) else value
