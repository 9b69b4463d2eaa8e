"""The options of every command: none is lost or renamed by accident."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer.main

from tests.oracles.golden import Golden
from topcoat.cli.app import app

# Adapters: change these with the library, never the golden values.


def options() -> dict[str, list[str]]:
    """Sorted option names and arguments (in capitals, in order) of every command."""
    return dict(_walk(typer.main.get_command(app), "topcoat"))


def _walk(command: Any, path: str) -> Iterator[tuple[str, list[str]]]:
    inner = getattr(command, "commands", {})
    named = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    places = [parameter.name.upper() for parameter in command.params if parameter.param_type_name == "argument"]
    yield path, [*places, *sorted(name for one in named for name in (*one.opts, *one.secondary_opts))]
    for name in sorted(inner):
        yield from _walk(inner[name], f"{path} {name}")


# Oracles


def test_options_of_every_command(golden: Golden) -> None:
    found = options()
    golden.exact("commands", list(found))
    for command, names in found.items():
        golden.exact(command, names)
