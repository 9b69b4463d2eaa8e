"""Sending a dataset to the Hugging Face hub, shard by shard: only what is missing or changed there, and resumable."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topcoat.errors import DataError, TopcoatError, UsageError
from topcoat.pairs.dataset import PairDataset
from topcoat.pairs.manifest import Manifest, differences, read_manifest

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_TEXTS = ("README.md", "manifest.json")
_UNREACHABLE = {
    "OfflineModeIsEnabled",
    "ConnectionError",
    "ConnectError",
    "TimeoutException",
    "NetworkError",
    "Timeout",
}


@dataclass(frozen=True, slots=True)
class Push:
    """What was sent (or, in a dry run, would be): paths in the repository."""

    url: str
    sent: tuple[str, ...]
    kept: tuple[str, ...]
    """There already, with the same bytes."""
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
    on_progress: Callable[[int, int], None] | None = None,
) -> Push:
    """Send the dataset in ``folder`` to the dataset repository ``repo`` (``owner/name``), which is made if need be.

    Every shard is compared by its digest, and one that differs is sent in a commit of its own, so the same command
    goes on after an interruption; the manifest and the card come last, so a repository never lists a shard that it
    lacks. ``private`` holds for a new repository alone. ``token`` is by default the one of this machine, ``endpoint``
    that of huggingface_hub (``HF_ENDPOINT``).

    Raises `UsageError` for an impossible name, `DataError` if a shard was changed, the repository holds other pairs, or
    the hub refuses or cannot be reached.
    """
    import huggingface_hub

    dataset = PairDataset.open(folder)
    dataset.verify()
    token = token or huggingface_hub.get_token()
    if token is None:
        raise DataError(
            "there is no Hugging Face token on this machine; set HF_TOKEN to one that may write, or run: hf auth login"
        )
    api = huggingface_hub.HfApi(endpoint=endpoint, token=token)
    with _sentences(repo, api), _quiet():
        if not dry_run:
            api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
        there = _digests(api, repo)
        if "manifest.json" in there:
            _check_same(_remote_manifest(api, repo), dataset.manifest, repo)
        return _send(api, repo, dataset, there, dry_run, on_progress)


def _send(
    api: HfApi,
    repo: str,
    dataset: PairDataset,
    there: dict[str, str],
    dry_run: bool,
    on_progress: Callable[[int, int], None] | None,
) -> Push:
    from huggingface_hub import CommitOperationAdd

    shards = [f"data/{entry.name}" for entry in dataset.manifest.shards]
    missing = [path for path in shards if not _is_there(dataset.folder / path, there.get(path))]
    texts = [path for path in _TEXTS if not _is_there(dataset.folder / path, there.get(path))]
    sent = [*missing, *texts]
    size = sum((dataset.folder / path).stat().st_size for path in sent)

    def commit(paths: list[str], message: str) -> None:
        additions = [CommitOperationAdd(path_in_repo=path, path_or_fileobj=dataset.folder / path) for path in paths]
        api.create_commit(repo, additions, commit_message=message, repo_type="dataset")

    if not dry_run:
        for done, path in enumerate(missing):
            if on_progress is not None:
                on_progress(done, len(missing))
            commit([path], f"Add {path}")
        if texts:
            commit(texts, f"List {len(shards)} shards, {len(dataset)} pairs")
        if on_progress is not None and missing:
            on_progress(len(missing), len(missing))
    return Push(
        url=f"{api.endpoint}/datasets/{repo}",
        sent=tuple(sent),
        kept=tuple(path for path in (*shards, *_TEXTS) if path not in sent),
        foreign=tuple(sorted(path for path in there if path.endswith(".parquet") and path not in shards)),
        bytes=size,
    )


def _digests(api: HfApi, repo: str) -> dict[str, str]:
    """Files in the repository with their SHA-256 (large files) or git blob id; none if it does not exist."""
    from huggingface_hub.errors import RepositoryNotFoundError
    from huggingface_hub.hf_api import RepoFile

    try:
        entries = list(api.list_repo_tree(repo, repo_type="dataset", recursive=True))
    except RepositoryNotFoundError:
        return {}
    return {
        entry.path: entry.blob_id if entry.lfs is None else entry.lfs.sha256
        for entry in entries
        if isinstance(entry, RepoFile)
    }


def _is_there(path: Path, digest: str | None) -> bool:
    """Whether a file of the repository with ``digest`` has the bytes of ``path``."""
    if digest is None:
        return False
    if len(digest) == 64:
        found = hashlib.sha256()
    else:
        found = hashlib.sha1(usedforsecurity=False)  # git's blob id: of the header and the bytes
        found.update(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest() == digest


def _remote_manifest(api: HfApi, repo: str) -> Manifest:
    with tempfile.TemporaryDirectory() as place:
        api.hf_hub_download(repo, "manifest.json", repo_type="dataset", local_dir=place)
        return read_manifest(Path(place))


def _check_same(remote: Manifest, own: Manifest, repo: str) -> None:
    """Raise `DataError` if the repository holds pairs of other settings: one repository is one dataset."""
    changed = differences(remote.identity, own.identity)
    if remote.pair != own.pair:
        changed = [f"pair: {remote.pair}, not {own.pair}"]
    if changed:
        raise DataError(
            f"{repo} holds pairs of other settings ({'; '.join(changed[:2])}); nothing was sent, choose another "
            "repository"
        )


@contextmanager
def _sentences(repo: str, api: HfApi) -> Iterator[None]:
    """Every way in which the hub or the way to it can fail, as one sentence."""
    try:
        yield
    except TopcoatError:
        raise
    except Exception as error:  # huggingface_hub's HTTP library, and so its exceptions, differ from version to version
        names, status = _chain(error)
        if "HFValidationError" in names:
            raise UsageError(f"{repo!r} is no name of a repository; write owner/name") from error
        raise DataError(_sentence(repo, str(api.endpoint), names, status, error)) from error


def _sentence(repo: str, endpoint: str, names: set[str], status: int | None, error: Exception) -> str:
    if status == 401:
        return f"{endpoint} does not accept the token; set HF_TOKEN to a valid one that may write to {repo}"
    if status == 403:
        return f"the token may not write to {repo}; use one with write permission there, or another repository"
    if status == 404 or "RepositoryNotFoundError" in names:
        return f"{repo} is not on {endpoint} or this token may not see it; check the name and the token"
    if names & _UNREACHABLE:
        return f"{endpoint} cannot be reached; check the network and run the same command again, it goes on"
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return f"{repo} could not be sent ({reason}); run the same command again, it goes on where it stopped"


def _chain(error: BaseException) -> tuple[set[str], int | None]:
    """Names of all classes in a chain of errors, and the HTTP status that one of them carries."""
    names: set[str] = set()
    status: int | None = None
    current: BaseException | None = error
    while current is not None:
        names |= {kind.__name__ for kind in type(current).__mro__}
        response: Any = getattr(current, "response", None)
        status = status or getattr(response, "status_code", None)
        current = current.__cause__ or current.__context__
    return names, status


@contextmanager
def _quiet() -> Iterator[None]:
    """Without huggingface_hub's own progress bars: the command has one of its own."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
