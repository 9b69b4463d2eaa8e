"""`topcoat export`: a head as an ONNX file, or as one file of weights."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from topcoat.cli.console import Output, command
from topcoat.errors import UsageError

if TYPE_CHECKING:
    from topcoat.runtime.record import Precision


@command(
    "export",
    examples=(
        "topcoat export runs/unet -o head.onnx",
        "topcoat export runs/unet -o head.onnx --fp16",
        "topcoat export runs/unet -o head.onnx --int8 --calibrate pairs/",
        "topcoat export runs/unet -o head.safetensors",
    ),
)
def export(
    out: Output,
    head: Annotated[str, typer.Argument(help="Head folder or hub id; embedded, embedded-refiner, embedded-decoder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write: .onnx or .safetensors.")],
    fp16: Annotated[bool, typer.Option("--fp16", help="Compute in 16 bits: for GPUs; half the size.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Convolutions in 8 bits; needs --calibrate.")] = False,
    calibrate: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Pairs that int8 is calibrated on, and measured.")
    ] = None,
) -> None:
    """Write a head as ONNX, for enhance without torch and for other programs.

    The file is kept only if ONNX Runtime gives what torch gives, on random and real images of three sizes: within
    0.0001 in float32, 1/255 with --fp16. With --int8 the loss on other pairs is measured, and must be small.

    A name that ends in .safetensors gets weights and settings in one file, for spandrel.
    """
    suffix = output.suffix.lower()
    if suffix not in (".onnx", ".safetensors") or output.is_dir():
        raise UsageError(
            f"{output} is no name of an ONNX file; give one that ends in .onnx, such as head.onnx, or in .safetensors"
        )
    if suffix == ".safetensors":
        if fp16 or int8 or calibrate is not None:
            raise UsageError("--fp16 and --int8 are for ONNX files; leave them out, or give a name that ends in .onnx")
        _export_weights(out, head, output)
        return
    if fp16 and int8:
        raise UsageError("--fp16 and --int8 are two precisions; give one of them")
    if int8 != (calibrate is not None):
        raise UsageError("--int8 needs --calibrate DIR (a folder of pairs), and --calibrate is for --int8 alone")
    from topcoat.heads.head import WEIGHTS_NAME, Head
    from topcoat.pairs.dataset import PairDataset

    precision: Precision = "float16" if fp16 else "int8" if int8 else "float32"
    opened = Head.load(head)
    pairs = None if calibrate is None else PairDataset.open(calibrate)

    from topcoat.files import sha256_of
    from topcoat.runtime.export import export_head
    from topcoat.runtime.opening import head_folder

    weights = head_folder(head) / WEIGHTS_NAME
    out.line("exporting; this takes about a minute")
    made = export_head(
        opened,
        output,
        name=Path(head).name,
        precision=precision,
        pairs=pairs,
        weights_sha256=sha256_of(weights) if weights.is_file() else None,
    )
    out.line(*(f"difference to torch, {what}: {value:.1e}" for what, value in made.differences.items()))
    if made.loss is not None:
        out.line(str(made.loss))
    out.line(_tiles_line(made.record.halo_px, made.record.largest_tile_difference))
    out.line(f"{made.path}: {made.record.kind}, {precision}, {made.path.stat().st_size / 1e6:.1f} MB")
    loss = None if made.loss is None else asdict(made.loss)
    out.result(
        {
            "path": str(made.path),
            "record": made.record.model_dump(mode="json"),
            "differences": made.differences,
            "loss": loss,
        }
    )


def _export_weights(out: Output, name: str, output: Path) -> None:
    from topcoat.heads.head import Head
    from topcoat.heads.single_file import write_single_file

    head = Head.load(name)
    write_single_file(head, output)
    out.line(f"{output}: {head.kind}, float32, {output.stat().st_size / 1e6:.1f} MB")
    out.result({"path": str(output), "kind": head.kind, "digest": head.digest})


def _tiles_line(halo_px: int | None, difference: float | None) -> str:
    if difference is None:
        return "tiles: none, this kind of head needs the whole picture"
    found = f"they differ from the whole picture by at most {255 * difference:.3f} of 255"
    return f"tiles: {halo_px} px around them, {found}" if halo_px is not None else f"tiles: none, {found}"
