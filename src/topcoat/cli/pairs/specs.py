"""`topcoat pairs specs`: the model pairs that are known by name, or all settings of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.pairs.app import app

if TYPE_CHECKING:
    from topcoat.generators.base import GeneratorSpec


@command(
    app,
    "specs",
    examples=("topcoat pairs specs", "topcoat pairs specs flux1 > mine.yaml", "topcoat pairs specs sdxl --json"),
)
def specs(
    out: Output,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A pair or a spec file; none lists all.")] = None,
) -> None:
    """List the model pairs, or print one as YAML to save, edit and use as --pair mine.yaml."""
    from topcoat.generators.presets import PRESETS, model_pair, pair_as_yaml

    if name is not None:
        pair = model_pair(name)
        out.line(pair_as_yaml(pair).rstrip("\n"))
        out.result(pair.model_dump(mode="json"))
        return
    pairs = [model_pair(each) for each in PRESETS]
    out.table(
        "Model pairs",
        ("pair", "side", "model", "steps", "guidance", "size", "dtype", "licence"),
        [
            (pair.name, side, _model(spec), spec.steps, f"{spec.guidance_scale:g}", _size(spec), spec.dtype,
             spec.licence.name)
            for pair in pairs
            for side, spec in (("distilled", pair.distilled), ("baseline", pair.baseline))
        ],
    )  # fmt: skip
    out.line("topcoat pairs specs NAME prints every setting of one pair, as a file to edit")
    out.result({"pairs": [pair.model_dump(mode="json") for pair in pairs]})


def _model(spec: GeneratorSpec) -> str:
    """Hub id, or what a local model is called; the LoRAs behind a plus."""
    local = spec.model.startswith(("/", "."))
    return " + ".join([spec.name if local else spec.model, *(lora.model for lora in spec.loras)])


def _size(spec: GeneratorSpec) -> str:
    return f"{spec.width_px}x{spec.height_px}"
