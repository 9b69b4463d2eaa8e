"""Send a dataset to the Hugging Face hub: only what is missing or changed there."""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from topcoat import hub
from topcoat.errors import DataError, first_few
from topcoat.pairs.dataset import PairDataset
from topcoat.pairs.manifest import Manifest, differences, read_manifest

if TYPE_CHECKING:
    from huggingface_hub import HfApi


_SHARD_COMMITS = 18
"""Commits of shards in one push at most; the manifest and the card are one more."""
_SMALLEST_COMMIT = 64
"""Shards in a commit, where there are as many."""


@dataclass(frozen=True, slots=True)
class Push:
    """What was sent (or, in a dry run, would be): paths in the repository."""

    url: str
    sent: tuple[str, ...]
    unchanged: tuple[str, ...]
    """In the repository already, with the same bytes."""
    foreign: tuple[str, ...]
    """Shards in the repository that are not of this dataset; they are left alone."""
    bytes: int
    """Bytes of what was sent."""


def push_pairs(
    folder: str | Path,
    repo: str,
    *,
    private: bool = True,
    token: str | None = None,
    endpoint: str | None = None,
    dry_run: bool = False,
    on_progress: Callable[[int, int], None] = lambda sent, total: None,
) -> Push:
    """Send the dataset in ``folder`` to the dataset repository ``repo`` (``owner/name``); create it if missing.

    Shards are compared by digest and those that differ are sent first, in at most `_SHARD_COMMITS` commits: the hub
    takes 128 an hour. The manifest and the card follow, so a repository never lists a shard that it lacks. The same
    call continues after an interruption: what arrived is not sent again. ``on_progress`` is called with (files sent,
    files to send). ``private`` holds for a new repository alone; ``token`` and ``endpoint`` are as in
    `topcoat.hub.sending`.

    Raises `UsageError` for an impossible name, `DataError` if a shard was changed, the repository holds other pairs, or
    the hub refuses or cannot be reached.
    """
    dataset = PairDataset.open(folder)
    dataset.verify()
    shards = {f"data/{entry.name}": entry.sha256 for entry in dataset.manifest.shards}
    texts = {name: _git_blob_id(dataset.folder / name) for name in ("README.md", "manifest.json")}
    with hub.sending(repo, "dataset", token, endpoint) as api:
        remote = _digests(api, repo)
        if "manifest.json" in remote:
            _check_same_dataset(api, repo, dataset.manifest)
        sent = [path for path, digest in (shards | texts).items() if remote.get(path) != digest]
        if not dry_run:
            hub.patiently(lambda: api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True))
            done = 0
            for message, files in _commits(dataset, sent):
                on_progress(done, len(sent))
                _commit(api, repo, dataset.folder, files, message)
                done += len(files)
            on_progress(done, len(sent))
        return Push(
            url=f"{api.endpoint}/datasets/{repo}",
            sent=tuple(sent),
            unchanged=tuple(path for path in (*shards, *texts) if path not in sent),
            foreign=tuple(sorted(path for path in remote if path.endswith(".parquet") and path not in shards)),
            bytes=sum((dataset.folder / path).stat().st_size for path in sent),
        )


def _commits(dataset: PairDataset, paths: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The message and files of each commit that sends ``paths``: shards in groups, then the manifest and the card."""
    shards = [path for path in paths if path.endswith(".parquet")]
    size = max(_SMALLEST_COMMIT, math.ceil(len(shards) / _SHARD_COMMITS))
    for start in range(0, len(shards), size):
        yield f"Add shards of {dataset.manifest.pair}", shards[start : start + size]
    texts = [path for path in paths if path not in shards]
    if texts:
        yield f"List {len(dataset.manifest.shards)} shards, {len(dataset)} pairs", texts


def _commit(api: HfApi, repo: str, folder: Path, files: list[str], message: str) -> None:
    hub.patiently(
        lambda: api.upload_folder(
            repo_id=repo, repo_type="dataset", folder_path=folder, allow_patterns=files, commit_message=message
        )
    )


def _digests(api: HfApi, repo: str) -> dict[str, str]:
    """Files in the repository with their SHA-256 (large files) or git blob id; none if it does not exist."""
    from huggingface_hub.errors import RepositoryNotFoundError
    from huggingface_hub.hf_api import RepoFile

    try:
        entries = hub.patiently(lambda: list(api.list_repo_tree(repo, repo_type="dataset", recursive=True)))
    except RepositoryNotFoundError:
        return {}
    return {
        entry.path: entry.blob_id if entry.lfs is None else entry.lfs.sha256
        for entry in entries
        if isinstance(entry, RepoFile)
    }


def _git_blob_id(path: Path) -> str:
    data = path.read_bytes()
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()


def _check_same_dataset(api: HfApi, repo: str, own: Manifest) -> None:
    """Raise `DataError` if the repository holds pairs of other settings: one repository is one dataset."""
    with tempfile.TemporaryDirectory() as folder:
        hub.patiently(lambda: api.hf_hub_download(repo, "manifest.json", repo_type="dataset", local_dir=folder))
        remote = read_manifest(Path(folder))
    changed = differences(remote, own)
    if remote.pair != own.pair:
        changed = [f"pair: {remote.pair}, not {own.pair}"]
    if changed:
        raise DataError(
            f"{repo} holds pairs of other settings ({first_few(changed, 2, '; ')}); nothing was sent, choose another "
            "repository"
        )
