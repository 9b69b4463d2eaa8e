"""`topcoat init`: the folder of a project of one's own: a commented pair, a plan of commands and a README."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.options import LARGE_PX, licence_lines
from topcoat.errors import UsageError

_DEFAULT_PAIR = "flux2-klein"  # Apache-2.0 on both sides
_PAIRS = 5_000


@command("init", examples=("topcoat init my-pair", "topcoat init my-pair --pair sdxl", "topcoat init toy --pair mini"))
def init(
    out: Output,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new or empty folder; its name is the pair's.")],
    pair: Annotated[
        str, typer.Option("--pair", help="The pair to begin with: one of topcoat presets, or a spec file.")
    ] = _DEFAULT_PAIR,
) -> None:
    """Write pair.yaml with a comment on every setting, a Makefile with the plan of commands, and a README."""
    from topcoat.files import text_template, write_text
    from topcoat.generators.presets import model_pair, pair_as_yaml
    from topcoat.prompts import style_of_pair

    folder = folder.expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already and not empty; give a new folder, such as {folder}-2")
    chosen = model_pair(pair)
    if folder.resolve().name == "mini" != chosen.name:
        raise UsageError("mini is the name of the embedded pair; give the folder another one")
    large = min(chosen.distilled.width_px, chosen.distilled.height_px) >= LARGE_PX
    values = {
        "name": folder.resolve().name,
        "pair": chosen,
        "count": _PAIRS,
        "style": style_of_pair(chosen.name),
        "run": "real-unet" if large else "unet",
        "features": "embedded" if chosen.name == "mini" else "dinov2",
        "offload": "none" if chosen.name == "mini" else "model",
    }
    named = chosen if chosen.name == "mini" else chosen.model_copy(update={"name": values["name"]})
    texts = {"pair.yaml": pair_as_yaml(named)}
    for name in ("Makefile", "README.md"):
        texts[name] = text_template("topcoat.cli", f"project/{name}.j2").render(values)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_text(folder / name, text)
    out.line(
        f"{folder}: {', '.join(texts)}; edit pair.yaml, then: cd {folder} && make",
        *licence_lines(chosen),
    )
    out.result({"folder": str(folder), "files": list(texts), "pair": named.name, "licences": licence_lines(chosen)})
