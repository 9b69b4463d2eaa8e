"""``manifest.json``: what made a folder of pairs, which shards it has and what failed."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

from topcoat import __version__
from topcoat.config import StrictModel, parse_config
from topcoat.errors import DataError, UsageError
from topcoat.files import read_json, write_json
from topcoat.generators.base import GeneratorSpec, ModelPair

FORMAT = 1
"""Version of the folder's layout."""

_NOT_IDENTITY = {"device", "offload"}  # where it ran, not what was painted
_HASHED_BYTES = 256 * 1024 * 1024  # a folder up to this size is known by its content, a larger one by names and sizes
_MODEL_FILES = (".json", ".safetensors", ".model", ".txt")


class ShardEntry(StrictModel):
    """One shard: its file name under ``data/``, its rows and its bytes' SHA-256."""

    name: str
    rows: int
    sha256: str


class Failure(StrictModel):
    """A pair that could not be made, and why."""

    id: str
    prompt: str
    seed: int
    error: str


class Manifest(StrictModel):
    """The record of a pair dataset. `identity` is what two builds must share to go into one folder."""

    format: int
    pair: str
    identity: dict[str, Any]
    shard_size: int
    versions: dict[str, str]
    shards: tuple[ShardEntry, ...] = ()
    failures: tuple[Failure, ...] = ()

    @property
    def rows(self) -> int:
        """Pairs in all shards."""
        return sum(shard.rows for shard in self.shards)


def new_manifest(pair: ModelPair, shard_size: int) -> Manifest:
    """The manifest of an empty dataset of ``pair``."""
    return Manifest(
        format=FORMAT, pair=pair.name, identity=pair_identity(pair), shard_size=shard_size, versions=versions()
    )


def read_manifest(folder: Path) -> Manifest:
    """The manifest of ``folder``; raises `DataError` if the folder holds no pairs or its manifest is damaged."""
    path = folder / "manifest.json"
    if not path.is_file():
        raise DataError(f"{folder} holds no pairs (no manifest.json); give a folder made by: topcoat pairs build")
    data = read_json(path)
    found = data.get("format") if isinstance(data, dict) else None
    if found != FORMAT:
        raise DataError(f"{path} has format {found!r}, this version reads {FORMAT}; use the version that wrote it")
    try:
        return parse_config(data, Manifest, source=str(path))
    except UsageError as error:
        raise DataError(f"{error}; the manifest is damaged, build the pairs into another folder") from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of ``folder``, atomically."""
    write_json(folder / "manifest.json", manifest.model_dump(mode="json"))


def pair_identity(pair: ModelPair) -> dict[str, Any]:
    """What decides the images of a pair, free of this machine's paths."""
    return {"distilled": spec_identity(pair.distilled), "baseline": spec_identity(pair.baseline)}


def spec_identity(spec: GeneratorSpec) -> dict[str, Any]:
    """The settings that decide what is painted; a local folder counts by its name and content, not by where it lies."""
    identity = spec.model_dump(mode="json", exclude=_NOT_IDENTITY)
    for key in ("model", "transformer"):
        source = identity[key]
        if source is not None and Path(source).is_dir():
            identity[key] = Path(source).name
            identity[f"{key}_digest"] = _folder_digest(Path(source))
    return identity


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """What differs between two identities, as ``distilled.steps: 4, not 2``; the first one's value comes first.

    Names and licences are for readers: a new wording does not make other images.
    """
    found = []
    for side in ("distilled", "baseline"):
        left, right = one.get(side, {}), other.get(side, {})
        for key in dict.fromkeys([*left, *right]):
            if key not in ("name", "licence") and left.get(key) != right.get(key):
                found.append(f"{side}.{key}: {_short(left.get(key))}, not {_short(right.get(key))}")
    return found


def versions() -> dict[str, str]:
    """Versions of what paints and writes a pair."""
    found = {"topcoat": __version__, "python": platform.python_version()}
    for name in ("torch", "diffusers", "transformers", "pillow", "pyarrow"):
        found[name] = importlib.metadata.version(name)
    return found


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."


def _folder_digest(folder: Path) -> str:
    """A digest of a model folder's files: of their bytes, or for large models of their names and sizes."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in _MODEL_FILES and path.is_file())
    whole = sum(path.stat().st_size for path in paths) <= _HASHED_BYTES
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest() if whole else str(path.stat().st_size).encode())
    return digest.hexdigest()
