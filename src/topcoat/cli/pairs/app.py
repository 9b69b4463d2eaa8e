"""The command group `topcoat pairs`."""

import typer

app = typer.Typer(name="pairs", help="Build and look at datasets of pairs.", no_args_is_help=True)
