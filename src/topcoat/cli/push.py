"""`topcoat push`: heads and model pairs to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from topcoat.cli.console import Output, command
from topcoat.errors import UsageError


@command(
    "push",
    examples=("topcoat push runs/unet me/portrait-head", "topcoat push my-pair.yaml me/portrait-pair --public"),
)
def push_command(
    out: Output,
    what: Annotated[str, typer.Argument(metavar="WHAT", help="A head's folder, or a model pair: its file or name.")],
    repo: Annotated[str, typer.Argument(metavar="REPO", help="Model repository, owner/name; created if missing.")],
    private: Annotated[
        bool, typer.Option("--private/--public", help="Who may see a repository that is created now.")
    ] = True,
) -> None:
    """Put a head, or the settings of a model pair, on the Hugging Face hub, with a card.

    A head.onnx in the head's folder goes with it. --head REPO, or --pair REPO, then loads it anywhere.
    """
    from topcoat.config import SUFFIXES
    from topcoat.generators.presets import PRESETS

    if (Path(what) / "manifest.json").is_file():
        raise UsageError(f"{what} is a dataset of pairs; send it with: topcoat pairs push {what} {repo}")
    if what in PRESETS or Path(what).suffix.lower() in SUFFIXES:
        from topcoat.generators.presets import model_pair
        from topcoat.generators.sharing import push_pair

        kind, address = "pair", push_pair(model_pair(what), repo, private=private)
    else:
        from topcoat.heads.head import Head
        from topcoat.runtime.opening import check_graph, head_folder

        head, folder = Head.load(what), head_folder(what)
        check_graph(folder)
        kind, address = "head", head.push_to_hub(repo, private=private, folder=folder if folder.is_dir() else None)
    out.line(f"{what} is at {address}; --{kind} {repo} loads it")
    out.result({"kind": kind, "url": address})
