"""`topcoat`: the commands, in the order in which a newcomer needs them."""

from __future__ import annotations

import atexit
import gc
from typing import Annotated

import typer

from topcoat import __version__
from topcoat.cli import (
    calibrate,
    cost,
    demo,
    doctor,
    enhance,
    evaluate,
    frontier,
    generate,
    pairs,
    prompts,
    reproduce,
    train,
)

app = typer.Typer(
    name="topcoat",
    help="Baseline-quality portraits at the distilled model's price.",
    epilog="Start with:\n  topcoat demo\n  topcoat generate 'studio portrait of an old man, beard' -o portrait.png",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _part in (demo, generate, enhance, pairs, train, calibrate, evaluate, cost, frontier, reproduce, prompts, doctor):
    app.add_typer(_part.app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"topcoat {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The `topcoat` console command."""
    gc.set_threshold(100_000)  # the default looks through all modules many times while the heavy libraries are imported
    atexit.register(gc.freeze)  # a process that ends need not look for cycles among the objects of all its modules
    app()
