"""Why a model cannot be had, as one sentence that says what to do."""

from __future__ import annotations

from pathlib import Path

from topcoat.errors import ModelError
from topcoat.generators.base import GeneratorSpec

_UNREACHABLE = {"OfflineModeIsEnabled", "LocalEntryNotFoundError", "ConnectionError", "ConnectError", "Timeout"}


def check_folder(source: str | None, spec: GeneratorSpec) -> None:
    """Raise `ModelError` for a path that is not there: it would be looked up on the hub as an unknown model."""
    if source is None or Path(source).is_dir():
        return
    if source.startswith((".", "/", "~")) or source.count("/") != 1 or "\\" in source:
        raise ModelError(
            f"{spec.name}: there is no folder {source}; give a diffusers model folder or a hub id owner/name"
        )


def load_sentence(spec: GeneratorSpec, error: BaseException) -> str:
    """Why a model could not be loaded and what to do, in one sentence."""
    names, chain = set(), error
    while chain is not None:
        names |= {kind.__name__ for kind in type(chain).__mro__}
        chain = chain.__cause__ or chain.__context__
    sources = [source for source in (spec.model, spec.transformer) if source is not None]
    where = " or ".join(sources)
    if all(Path(source).is_dir() for source in sources):
        reason = _first_line(error)
        return f"{spec.name} cannot be loaded from {where} ({reason}); get it again, it is damaged or incomplete"
    page = f"https://huggingface.co/{next(source for source in sources if not Path(source).is_dir())}"
    if "GatedRepoError" in names:
        return (
            f"{where} is gated; accept its licence ({spec.licence.name}) at {page}, then set HF_TOKEN to a token of "
            "that account"
        )
    if "RepositoryNotFoundError" in names:
        return f"{where} is not on the Hugging Face hub or is private; check the id or set HF_TOKEN (see {page})"
    if names & _UNREACHABLE:
        return (
            f"{where} is not on this machine and the Hugging Face hub cannot be reached; connect once to download it "
            f"from {page} (set HF_TOKEN if it is gated), or give a local folder"
        )
    return f"{where} cannot be loaded ({_first_line(error)}); see {page} for what it needs"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".")[:200] if lines else type(error).__name__
