"""``manifest.json``: what made a folder of pairs, which shards it has and what failed."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from topcoat import __version__
from topcoat.config import StrictModel, parse_config
from topcoat.errors import DataError, UsageError
from topcoat.files import read_json, sha256_of, write_json
from topcoat.generators.base import GeneratorSpec, ModelPair
from topcoat.pairs.painting import Painting

FORMAT = 1
"""Version of the folder's layout."""

_SIDES = ("distilled", "baseline")
_BEFORE: dict[str, Any] = Painting().model_dump(mode="json") | {"filters": []}  # of a folder that does not say
_HASHED_BYTES = 256 * 1024 * 1024  # a folder up to this size is known by its content, a larger one by names and sizes
_MODEL_FILES = (".json", ".safetensors", ".model", ".txt")


class ShardEntry(StrictModel):
    """One shard: its file name under ``data/``, its rows and its bytes' SHA-256."""

    name: str
    rows: int
    sha256: str
    size_bytes: int | None = None


class Failure(StrictModel):
    """A pair that could not be made, and why."""

    id: str
    prompt: str
    seed: int
    error: str


class Dropped(StrictModel):
    """A pair that was painted and left out by a filter, and why; ``score`` is null where it was not a finite number."""

    id: str
    prompt: str
    seed: int
    filter: str
    reason: str
    score: float | None


class Manifest(StrictModel):
    """The record of a pair dataset. `identity` is what two builds must share to go into one folder.

    `batch_size` is a property of the dataset too: a network's rounding depends on the shape of a batch.
    """

    format: int
    pair: str
    identity: dict[str, Any]
    shard_size: int
    batch_size: int | None = None
    versions: dict[str, str]
    shards: tuple[ShardEntry, ...] = ()
    failures: tuple[Failure, ...] = ()
    dropped: tuple[Dropped, ...] = ()

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


def build_identity(pair: ModelPair, painting: Painting, filters: Sequence[str]) -> dict[str, Any]:
    """What decides the rows of a dataset: both models, what is painted of a prompt, and the filters."""
    return pair_identity(pair) | painting.identity(pair.distilled) | {"filters": list(filters)}


def spec_identity(spec: GeneratorSpec) -> dict[str, Any]:
    """The settings that decide what is painted; a local folder counts by its name and content, not by where it lies."""
    identity = spec.image_settings()
    for settings in (identity, *identity.get("loras", ())):
        for key in ("model", "transformer"):
            source = settings.get(key)
            if source is not None and Path(source).exists():
                settings[key] = Path(source).name
                settings[f"{key}_digest"] = _digest(Path(source))
    return identity


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """What differs between two identities, as ``distilled.steps: 4, not 2``; the first one's value comes first.

    Names and licences are for readers: a new wording does not make other images.
    """
    found = []
    for side in _SIDES:
        left, right = one.get(side, {}), other.get(side, {})
        for key in dict.fromkeys([*left, *right]):
            if key not in ("name", "licence") and left.get(key) != right.get(key):
                found.append(f"{side}.{key}: {_short(left.get(key))}, not {_short(right.get(key))}")
    for key, before in _BEFORE.items():
        left, right = one.get(key, before), other.get(key, before)
        if left != right:
            found.append(f"{key}: {_short(left)}, not {_short(right)}")
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


def _digest(source: Path) -> str:
    """A digest of a model file or of a folder's files: of their bytes, or for large models of names and sizes."""
    if source.is_file():
        return sha256_of(source)
    return _folder_digest(source)


def _folder_digest(folder: Path) -> str:
    paths = sorted(path for path in folder.rglob("*") if path.suffix in _MODEL_FILES and path.is_file())
    whole = sum(path.stat().st_size for path in paths) <= _HASHED_BYTES
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest() if whole else str(path.stat().st_size).encode())
    return digest.hexdigest()
