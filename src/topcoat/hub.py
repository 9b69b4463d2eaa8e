"""The Hugging Face hub: fetch a repository, send a folder, and say in one sentence what went wrong.

huggingface_hub, transformers and diffusers wrap each other's errors and those of an HTTP library that changes with the
version. So errors are told apart by the class names in their chain of causes.
"""

from __future__ import annotations

import email.utils
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from topcoat.errors import DataError, ModelError, TopcoatError, UsageError

_UNREACHABLE = {
    "OfflineModeIsEnabled",
    "LocalEntryNotFoundError",
    "ConnectionError",
    "ConnectError",
    "NetworkError",
    "Timeout",
    "TimeoutException",
}


Result = TypeVar("Result")
Kind = Literal["model", "dataset"]
"""Of a repository."""
_FAILED: Mapping[Kind, type[TopcoatError]] = {"model": ModelError, "dataset": DataError}

_USUAL_WAIT_SECONDS = (30.0, 600.0)
"""The shortest and the longest one wait, where the hub does not say how long."""
_LONGEST_WAIT_SECONDS = 2 * 3600.0
"""For one call, all waits together: the hub counts commits by the hour."""


def check_source(source: str, what: str) -> None:
    """Raise `ModelError` unless ``source`` is a folder or has the form ``owner/name`` of a hub id.

    A mistyped path would otherwise be looked up on the hub. ``what`` names the wanted thing, as in "the head".
    """
    if not Path(source).is_dir() and not _is_id(source):
        raise ModelError(f"there is no folder {source} for {what}; give a folder, or a hub id like owner/name")


def named(text: str) -> tuple[str, str | None] | None:
    """Repository and revision of a name ``owner/name`` or ``owner/name@revision``; None for any other text."""
    repo, _, revision = text.partition("@")
    return (repo, revision or None) if _is_id(repo) else None


def download(
    repo: str,
    files: Sequence[str],
    *,
    what: str,
    revision: str | None = None,
    kind: Kind = "model",
    folder: Path | None = None,
) -> Path:
    """Fetch ``files`` (patterns) of the repository ``repo`` and return the local folder that holds them.

    That is ``folder``, by default one in this machine's cache. ``revision`` is a branch, tag or commit, which ``repo``
    may name instead, as in ``owner/name@v1``. Raises `ModelError` (of a dataset `DataError`) for a name that is no hub
    id, and when the hub refuses or is unreachable.
    """
    check_source(repo, what)
    if revision is None and (at := named(repo)) is not None:
        repo, revision = at
    from huggingface_hub import snapshot_download

    place: dict[str, Any] = {} if kind == "model" else {"repo_type": kind}
    place |= {} if folder is None else {"local_dir": folder}
    try:
        return Path(patiently(lambda: snapshot_download(repo, revision=revision, allow_patterns=list(files), **place)))
    except Exception as error:  # hub, network and cache errors have no common base
        if revision is not None and "RevisionNotFoundError" in _chain(error)[0]:
            raise _FAILED[kind](f"{repo} has no revision {revision}; give a branch, a tag or a commit of it") from error
        raise _FAILED[kind](load_error(error, what, repo, kind=kind)) from error


def upload(folder: Path, repo: str, message: str, *, private: bool = True) -> str:
    """Send ``folder`` to the model repository ``repo``, create it if missing, and return its address.

    Files are hashed first; those that the hub holds already are not sent again, so the same call continues after an
    interruption. Raises `UsageError` for a name that is no hub id, `ModelError` otherwise.
    """
    with sending(repo, "model") as api:
        address = patiently(lambda: api.create_repo(repo, repo_type="model", private=private, exist_ok=True))
        patiently(
            lambda: api.upload_folder(repo_id=repo, repo_type="model", folder_path=folder, commit_message=message)
        )
    return str(address)


def patiently(call: Callable[[], Result]) -> Result:
    """What ``call`` gives; where the hub answers "too many requests" (429) it is made again when the hub says.

    huggingface_hub itself does so for some of its requests, a few times. Without a ``Retry-After`` the waits double,
    from half a minute to ten. A warning says how long each is; after two hours of them the error is raised.
    """
    waited, usual = 0.0, _USUAL_WAIT_SECONDS[0]
    while True:
        try:
            return call()
        except Exception as error:
            seconds = _asked_to_wait(error, usual)
            if seconds is None or waited + seconds > _LONGEST_WAIT_SECONDS:
                raise
        warnings.warn(f"the hub takes no more requests for now; going on in {seconds:.0f} s", stacklevel=2)
        time.sleep(seconds)
        waited, usual = waited + seconds, min(2 * usual, _USUAL_WAIT_SECONDS[1])


def cached_commit(repo: str, revision: str | None = None) -> str | None:
    """The commit that ``revision`` (by default the branch ``main``) of a model repository stood for when it was loaded.

    Read from this machine's cache, where a load leaves it; None where the cache has no snapshot of it.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")
    reference = folder / "refs" / (revision or "main")
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    return commit if commit and (folder / "snapshots" / commit).is_dir() else None


@contextmanager
def sending(repo: str, kind: Kind, token: str | None = None, endpoint: str | None = None) -> Iterator[Any]:
    """Give a `huggingface_hub.HfApi` that may write, and turn any failure inside into one sentence.

    It is a `UsageError` for a name that is no hub id, otherwise a `ModelError`, of a dataset a `DataError`.
    ``token`` defaults to the one of this machine, ``endpoint`` to huggingface_hub's (``HF_ENDPOINT``).
    """
    import huggingface_hub

    failed = _FAILED[kind]
    if not _is_id(repo):
        raise UsageError(f"{repo!r} is not the name of a repository; write owner/name")
    token = token or huggingface_hub.get_token()
    if token is None:
        raise failed("no Hugging Face token on this machine; set HF_TOKEN to one that may write, or run: hf auth login")
    api = huggingface_hub.HfApi(endpoint=endpoint, token=token)
    try:
        yield api
    except TopcoatError:
        raise
    except Exception as error:  # as in `download`
        names, status = _chain(error)
        if "HFValidationError" in names:
            raise UsageError(f"{repo!r} is not the name of a repository; write owner/name") from error
        raise failed(_send_error(error, names, status, repo, str(api.endpoint))) from error


def load_error(
    error: BaseException,
    what: str,
    *sources: str,
    licence: str | None = None,
    otherwise: str | None = None,
    kind: Kind = "model",
) -> str:
    """Say why ``what`` cannot be loaded from ``sources`` (folders or hub ids) and what to do, in one sentence.

    ``licence`` names the one to accept if a repository is gated; ``otherwise`` is a way to do without the weights.
    """
    where = " or ".join(sources)
    remote = next((source for source in sources if not Path(source).is_dir()), None)
    if remote is None:
        return (
            f"{what} cannot be loaded from {where} ({first_line(error)}); the folder is damaged, incomplete or of "
            "another kind: fetch it again or give another one"
        )
    page = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{remote}"
    names, _ = _chain(error)
    if "GatedRepoError" in names:
        named = f" ({licence})" if licence else ""
        return f"{where} is gated; accept its licence{named} at {page}, then set HF_TOKEN to a token of that account"
    if "RepositoryNotFoundError" in names:
        return f"{where} is not on the Hugging Face hub or is private; check the id or set HF_TOKEN (see {page})"
    if names & _UNREACHABLE:
        last = f"give a local folder, or {otherwise}" if otherwise else "or give a local folder"
        return (
            f"{where} is not on this machine and the Hugging Face hub cannot be reached; connect once to download it "
            f"from {page} (set HF_TOKEN if it is gated), {last}"
        )
    return f"{what} cannot be loaded from {where} ({first_line(error)}); see {page} for what it needs"


def first_line(error: BaseException) -> str:
    """The first line of an error's message, at most 200 characters; its class if it has none."""
    lines = str(error).strip().splitlines()
    return textwrap.shorten(lines[0].rstrip("."), 200, placeholder="...") if lines else type(error).__name__


def _send_error(error: Exception, names: set[str], status: int | None, repo: str, endpoint: str) -> str:
    if status == 401:
        return f"{endpoint} does not accept the token; set HF_TOKEN to a valid one that may write to {repo}"
    if status == 403:
        return f"the token may not write to {repo}; use one with write permission there, or another repository"
    if status == 404 or "RepositoryNotFoundError" in names:
        return f"{repo} is not on {endpoint} or this token may not see it; check the name and the token"
    if status == 429:
        return f"{endpoint} takes no more requests for now; run the same command again in an hour, it continues"
    if names & _UNREACHABLE:
        return f"{endpoint} cannot be reached; check the network and run the same command again, it continues"
    return f"{repo} could not be sent ({first_line(error)}); run the same command again, it continues"


def _asked_to_wait(error: BaseException, usual: float) -> float | None:
    """Seconds to wait before a call is made again; None for any other error than "too many requests"."""
    response = _response(error)
    if getattr(response, "status_code", None) != 429:
        return None
    headers: Mapping[str, str] = getattr(response, "headers", {})
    asked = str(headers.get("Retry-After", "")).strip()
    if asked.isdecimal():
        return float(asked) + 1  # the hub counts whole seconds
    try:
        return max(0.0, email.utils.parsedate_to_datetime(asked).timestamp() - time.time()) + 1
    except (TypeError, ValueError):
        return usual


def _response(error: BaseException) -> Any:
    """The HTTP response that an error of a chain carries."""
    current: BaseException | None = error
    while current is not None:
        response = getattr(current, "response", None)
        if getattr(response, "status_code", None) is not None:
            return response
        current = current.__cause__ or current.__context__
    return None


def _is_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and "\\" not in name


def _chain(error: BaseException) -> tuple[set[str], int | None]:
    """Names of all classes in a chain of errors, and the HTTP status that one of them carries."""
    names: set[str] = set()
    current: BaseException | None = error
    while current is not None:
        names |= {kind.__name__ for kind in type(current).__mro__}
        current = current.__cause__ or current.__context__
    return names, getattr(_response(error), "status_code", None)
