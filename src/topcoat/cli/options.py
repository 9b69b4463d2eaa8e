"""The options that several commands share, and the objects that they stand for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topcoat.errors import DataError, UsageError

if TYPE_CHECKING:
    from topcoat.generators.base import GeneratorSpec, ModelPair
    from topcoat.heads.base import Head
    from topcoat.prompts import Prompt

NO_HEAD = "none"

PairOption = Annotated[str, typer.Option("--pair", help="Model pair: mini, flux1, flux2-klein, or a spec file (YAML).")]
HeadOption = Annotated[
    str | None,
    typer.Option("--head", help="Head folder or hub id; without it the embedded head of the mini pair.", metavar="DIR"),
]
StrengthOption = Annotated[
    float, typer.Option("--strength", min=0.0, max=2.0, help="0 leaves the image as it is, 1 is the trained amount.")
]
BatchSizeOption = Annotated[int, typer.Option("--batch-size", min=1, help="Images at a time; more need more memory.")]
SeedOption = Annotated[int, typer.Option("--seed", help="0 or more; the same seed gives the same image.")]
PromptsFileOption = Annotated[
    Path | None,
    typer.Option("--prompts-file", help="One prompt a line (.txt), or what `topcoat prompts` wrote (.jsonl)."),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and what it costs, then stop.")]


def open_head(head: str | None, pair_name: str) -> Head | None:
    """The head that ``--head`` names: a folder or hub id, none at all, or by default the mini pair's own.

    Raises `UsageError` where no head is named and none is shipped for the pair.
    """
    from topcoat.heads.base import Head

    if head == NO_HEAD:
        return None
    if head is not None:
        return Head.from_pretrained(head)
    if pair_name != "mini":
        raise UsageError(
            f"no head is shipped for the pair {pair_name}; give --head DIR (see topcoat train --help), "
            f"or --head {NO_HEAD} for the distilled images alone"
        )
    return Head.default()


def need_head(head: str | None, pair_name: str) -> Head:
    """`open_head` for a command that is about the head; raises `UsageError` for ``--head none``."""
    found = open_head(head, pair_name)
    if found is None:
        raise UsageError(f"--head {NO_HEAD} leaves nothing to do here; give a head folder, or leave --head out")
    return found


def read_prompts_file(path: Path) -> list[Prompt]:
    """Prompts from a text file (one a line) or a ``.jsonl`` file of `prompt_record` lines; empty lines are left out.

    Raises `DataError` if the file is missing, not readable or holds no prompt, `UsageError` for a bad prompt.
    """
    from topcoat.prompts import prompt_from_text

    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise DataError(f"the prompts file {path} cannot be read ({reason}); give a text file") from None
    prompts: list[Prompt] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            prompts.append(_prompt_from_record(line) if path.suffix == ".jsonl" else prompt_from_text(line))
        except UsageError as error:
            raise UsageError(f"{path} line {number}: {error}") from None
    if not prompts:
        raise DataError(f"the prompts file {path} is empty; write one prompt a line")
    return prompts


def prompt_record(prompt: Prompt) -> dict[str, Any]:
    """A prompt as one JSON object: id, text, split and attributes."""
    return {"id": prompt.id, "text": prompt.text, "split": prompt.split, "attributes": prompt.attributes}


def _prompt_from_record(line: str) -> Prompt:
    from topcoat.prompts import PortraitWords, Prompt, prompt_from_text

    try:
        record = json.loads(line)
        checked = prompt_from_text(record["text"])
        attributes = record.get("attributes")
        words = PortraitWords(**attributes) if attributes else None
        return Prompt(id=str(record.get("id") or checked.id), text=checked.text, words=words)
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise UsageError('is no prompt record; write {"text": "..."} or use a .txt file') from None


def describe_generator(spec: GeneratorSpec) -> str:
    """One line on a generator for a person."""
    steps = "1 step" if spec.steps == 1 else f"{spec.steps} steps"
    return f"{spec.name} ({steps}, {spec.width_px} x {spec.height_px} px)"


def licence_lines(pair: ModelPair) -> list[str]:
    """What a user must be told before images of both generators are put into a dataset."""
    lines = []
    for role, spec in (("distilled", pair.distilled), ("baseline", pair.baseline)):
        note = f" - {spec.licence.note}" if spec.licence.note else ""
        lines.append(f"{role}: {spec.name}, licence {spec.licence.name} ({spec.licence.url}){note}")
    return lines
