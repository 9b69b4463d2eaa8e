"""What made a folder of pairs, which shards it has and what failed: ``manifest.json``, and README.md for people."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pydantic

from topcoat import __version__, hub
from topcoat.config import StrictModel, parse_config
from topcoat.errors import DataError, UsageError
from topcoat.files import read_json, sha256_of, text_template, write_json, write_text
from topcoat.generators.base import SOURCES, GeneratorSpec, ModelPair
from topcoat.pairs.schema import PairingConfig, open_shard
from topcoat.prompts import Split

FORMAT_VERSION = 2

_FOR_READERS = ("name", "licence")  # another wording does not make other images
_HASHED_BYTES = 256 * 1024 * 1024  # a folder up to this size is known by its content, a larger one by names and sizes
_MODEL_FILES = (".json", ".safetensors", ".model", ".txt")


class ShardEntry(StrictModel):
    """One shard: its file name under ``data/``, its rows and its bytes' SHA-256."""

    name: str
    rows: int
    sha256: str
    size_bytes: int


class Failure(StrictModel):
    """A pair that could not be made, and why."""

    id: str
    prompt: str
    seed: int
    error: str


class Dropped(StrictModel):
    """A pair that was generated and left out by a filter; ``score`` is null where it was not a finite number."""

    id: str
    prompt: str
    seed: int
    filter: str
    reason: str
    score: float | None


class Manifest(StrictModel):
    """The record of a pair dataset. Two builds into one folder must agree in all of `differences`.

    `distilled` and `baseline` are the settings that decide the images of each side (`spec_identity`), or for imported
    pairs only a name, a size and a licence. `batch_size` is a property of the dataset, too: a network's rounding
    depends on the shape of a batch.
    """

    format_version: int
    pair: str
    distilled: dict[str, Any]
    baseline: dict[str, Any]
    pairing: PairingConfig = PairingConfig()
    filters: tuple[str, ...] = ()
    imported: str | None = None
    """What the pairs were imported from; None where they were generated."""
    unrelated: bool = False
    """Whether the two images of a row show different subjects: two sets, in no pairs."""
    shard_size: int
    batch_size: int | None = None
    versions: dict[str, str]
    commits: dict[str, str] = pydantic.Field(default_factory=dict)
    """Hub repository (``@`` and its revision, where a spec names one) -> the commit that was loaded."""
    shards: tuple[ShardEntry, ...]
    failures: tuple[Failure, ...]
    dropped: tuple[Dropped, ...]
    planned: int | None = None
    """Pairs that the last build was asked for; None where pairs were imported, or built before this was noted."""

    @property
    def sides(self) -> dict[str, dict[str, Any]]:
        """The settings of both sides by name."""
        return {"distilled": self.distilled, "baseline": self.baseline}

    @property
    def rows(self) -> int:
        """Pairs in all shards."""
        return sum(shard.rows for shard in self.shards)

    @property
    def unfinished(self) -> str:
        """A sentence where a build has not come to its end, else nothing."""
        done = self.rows + len(self.dropped) + len(self.failures)
        if self.planned is None or done >= self.planned:
            return ""
        return f"The build is unfinished: {done:,} of {self.planned:,} pairs; the same build command goes on."


def read_manifest(folder: Path) -> Manifest:
    """The manifest of ``folder``; raises `DataError` if the folder holds no pairs or its manifest is damaged or old."""
    path = folder / "manifest.json"
    if not path.is_file():
        raise DataError(f"{folder} holds no pairs (no manifest.json); give a folder made by: topcoat pairs build")
    data = read_json(path)
    version = data.get("format_version", data.get("format")) if isinstance(data, dict) else None
    if version != FORMAT_VERSION:
        raise DataError(
            f"{path} has format version {version}, this topcoat reads {FORMAT_VERSION}; build the pairs again into "
            "another folder, or use the version that wrote them"
        )
    try:
        return parse_config(data, Manifest, source=str(path))
    except UsageError as error:
        raise DataError(f"{error}; the manifest is damaged, build the pairs into another folder") from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of ``folder``, atomically; settings at their defaults are left out."""
    write_json(folder / "manifest.json", manifest.model_dump(mode="json", exclude_defaults=True))


def write_card(folder: Path, manifest: Manifest) -> None:
    """Write the dataset card, README.md, atomically: what is inside, what made it and under which licences.

    A card that would not change is left alone.

    `huggingface_hub.DatasetCard` would write the same header, but its import takes longer than a build with nothing to
    do.
    """
    card = text_template("topcoat.pairs", "card.md.j2").render(
        pair=manifest.pair,
        rows=manifest.rows,
        imported=manifest.imported,
        pairing=manifest.pairing,
        sides=manifest.sides,
        licence=_licence,
        failures=len(manifest.failures),
        splits=_splits(folder, manifest),
        dropped=sorted(Counter(item.filter for item in manifest.dropped).items()),
    )
    path = folder / "README.md"
    if not (path.is_file() and path.read_bytes() == card.encode()):
        write_text(path, card)


def loaded_commits(pair: ModelPair) -> dict[str, str]:
    """The commits of all hub repositories of a pair, as this machine's cache has them; see `Manifest.commits`."""
    from topcoat.generators.callables import is_callable

    commits: dict[str, str] = {}
    for spec in (each for each in pair.sides.values() if not is_callable(each)):
        for source, revision in spec.sources:
            commit = None if Path(source).exists() else hub.cached_commit(source, revision)
            if commit is not None:
                commits[source if revision is None else f"{source}@{revision}"] = commit
    return commits


def check_commits(manifest: Manifest, loaded: Mapping[str, str]) -> None:
    """Raise `DataError` if a repository has moved since shards were made of it."""
    for source, commit in loaded.items():
        before = manifest.commits.get(source, commit)
        if before != commit:
            raise DataError(
                f"the pairs were made with {source} at commit {before}, and it is at {commit} by now; set revision: "
                f"{before} in a spec file (--pair), or build into another folder"
            )


def pair_identity(pair: ModelPair) -> dict[str, Any]:
    """What decides the images of a pair, free of this machine's paths."""
    return {name: spec_identity(spec) for name, spec in pair.sides.items()}


def spec_identity(spec: GeneratorSpec) -> dict[str, Any]:
    """The settings that decide the images; a local folder counts by its name and content, not by where it lies."""
    identity = spec.image_settings()
    parts = [part for part in identity.values() if isinstance(part, dict)]
    for settings in (identity, *parts, *identity.get("loras", ())):
        for key in SOURCES:
            source = settings.get(key)
            if isinstance(source, str) and Path(source).exists():
                settings[key] = Path(source).name
                settings[f"{key}_digest"] = _digest(Path(source))
    return identity


def differences(one: Manifest, other: Manifest) -> list[str]:
    """What differs in all that decides the rows, as ``distilled.steps: 4, not 2``; the first one's value comes first.

    Names and licences are for readers: another wording does not make other images.
    """
    rest = [{"filters": list(each.filters), "imported": each.imported} for each in (one, other)]
    return [
        *setting_differences("distilled.", one.distilled, other.distilled),
        *setting_differences("baseline.", one.baseline, other.baseline),
        *setting_differences("pairing.", one.pairing.model_dump(mode="json"), other.pairing.model_dump(mode="json")),
        *setting_differences("", *rest),
    ]


def setting_differences(prefix: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """As `differences`, of two mappings of settings."""
    return [
        f"{prefix}{key}: {_short(one.get(key))}, not {_short(other.get(key))}"
        for key in dict.fromkeys([*one, *other])
        if key not in _FOR_READERS and one.get(key) != other.get(key)
    ]


def versions() -> dict[str, str]:
    """Versions of what generates and writes a pair."""
    names = ("torch", "diffusers", "transformers", "pillow", "pyarrow")
    return {
        "topcoat": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in names},
    }


def _splits(folder: Path, manifest: Manifest) -> list[str]:
    """The splits that have a pair: train, val, test."""
    there: set[str] = set()
    for entry in manifest.shards:
        with open_shard(folder / "data" / entry.name, ["split"]) as file:
            there |= set(file.read(columns=["split"]).column(0).unique().to_pylist())
    return [split for split in get_args(Split) if split in there]


def _licence(licence: Mapping[str, Any]) -> str:
    text = f"[{licence['name']}]({licence['url']})" if licence["url"] else licence["name"]
    return f"{text}. {licence['note']}" if licence.get("note") else text


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."


def _digest(source: Path) -> str:
    """A digest of a model file or of a folder's files: of their bytes, or for large models of names and sizes."""
    if source.is_file():
        return sha256_of(source)
    paths = sorted(path for path in source.rglob("*") if path.suffix in _MODEL_FILES and path.is_file())
    whole = sum(path.stat().st_size for path in paths) <= _HASHED_BYTES
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.relative_to(source).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest() if whole else str(path.stat().st_size).encode())
    return digest.hexdigest()
