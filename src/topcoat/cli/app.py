"""`topcoat`: the commands, in the order in which a newcomer needs them."""

from __future__ import annotations

import atexit
import gc
import warnings
from typing import Annotated

import typer

from topcoat import __version__
from topcoat.cli.calibrate import calibrate
from topcoat.cli.console import Commands, wait_passively
from topcoat.cli.cost import cost
from topcoat.cli.datasets import dedupe, import_command, inspect, pull, push
from topcoat.cli.demo import demo
from topcoat.cli.doctor import doctor
from topcoat.cli.enhance import enhance
from topcoat.cli.evaluate import evaluate
from topcoat.cli.export import export
from topcoat.cli.frontier import frontier
from topcoat.cli.generate import generate
from topcoat.cli.init import init
from topcoat.cli.inspect import inspect_picture
from topcoat.cli.pairs import build, plan, specs
from topcoat.cli.presets import presets
from topcoat.cli.prompts import prompts
from topcoat.cli.push import push_command
from topcoat.cli.reproduce import reproduce
from topcoat.cli.serve import serve
from topcoat.cli.study import create, raters, result
from topcoat.cli.study import serve as study_serve
from topcoat.cli.train import train

app = typer.Typer(
    name="topcoat",
    cls=Commands,
    help="Baseline-quality portraits at the distilled model's price.",
    epilog="Start with:\n  topcoat demo\n  topcoat generate 'studio portrait of an old man, beard' -o portrait.png",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
pairs = typer.Typer(name="pairs", help="Build and look at datasets of pairs.", no_args_is_help=True)
study = typer.Typer(
    name="study", help="Let people compare pictures blindly, and see what their votes show.", no_args_is_help=True
)
_others = typer.Typer()
for _group, _commands in (
    (app, (demo, generate, enhance, inspect_picture, serve, init, presets)),
    (pairs, (specs, plan, build, import_command, inspect, dedupe, push, pull)),
    (study, (create, study_serve, result, raters)),
    (_others, (train, calibrate, export, push_command, evaluate, cost, frontier, reproduce, prompts, doctor)),
):
    for _register in _commands:
        _register(_group)
app.add_typer(pairs)
app.add_typer(study)
app.add_typer(_others)  # without a name: commands of `topcoat` itself, listed after the groups


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
    wait_passively()
    warnings.filterwarnings("ignore", module="PIL")  # of odd tags in picture files, which are read all the same
    gc.set_threshold(100_000)  # the default looks through all modules many times while the heavy libraries are imported
    atexit.register(gc.freeze)  # a process that ends need not look for cycles among the objects of all its modules
    app()
