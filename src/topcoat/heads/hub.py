"""Heads on the Hugging Face hub: fetching one without anything but its files, and sharing one."""

from __future__ import annotations

from pathlib import Path

from topcoat.errors import DataError, ModelError


def download(name: str, revision: str | None, files: list[str]) -> Path:
    """The local copy of ``files`` of a repository ``owner/name``.

    Raises `DataError` for a name that can be none, `ModelError` if it cannot be had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise DataError(f"{name} is not a folder; give a head folder or a repository id like owner/name")
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=files))
    except HFValidationError as error:
        raise DataError(f"{name} is neither a folder nor a repository id like owner/name; check it") from error
    except Exception as error:  # hub, network and cache errors have no common base
        raise ModelError(
            f"the head {name} is not a folder here and cannot be fetched ({type(error).__name__}); "
            "check the name, the network and HF_TOKEN"
        ) from error


def upload(folder: Path, name: str, *, private: bool, message: str) -> str:
    """Put the files of ``folder`` into the repository ``owner/name``, made if it is missing; returns its address.

    Raises `DataError` for a name that can be none, `ModelError` if it cannot be written.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise DataError(f"{name} is no repository id; give one like owner/name")
    try:
        api = HfApi()
        address = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message=message)
    except HFValidationError as error:
        raise DataError(f"{name} is no repository id; give one like owner/name") from error
    except Exception as error:  # hub and network errors have no common base
        raise ModelError(
            f"the head cannot be written to {name} ({type(error).__name__}); check the name, the network and HF_TOKEN"
        ) from error
    return str(address)
