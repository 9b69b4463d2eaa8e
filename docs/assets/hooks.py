"""Pages of the site that lie elsewhere in the repository, or are made from the code: the reference of commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md", "CHANGELOG.md": "changelog.md"}
"""File in the repository -> page of the site."""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in docs/."""
    for source, page in PAGES.items():
        text = _links((ROOT / source).read_text(encoding="utf-8"), "docs/")
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, "reference/commands.md", content=commands()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to the repository's own pages lead to those of the site; other files of it are named, not linked."""
    for source, page in PAGES.items():
        markdown = markdown.replace(f"](../{source}", f"]({page}")
    return re.sub(r"\[([^\]]*)\]\(\.\./((?:integrations|recipes|src|examples)/[^)]*)\)", r"\1 (`\2`)", markdown)


def _links(text: str, folder: str) -> str:
    """Links of a page at the repository's root, as the same page of the site has them."""
    for source, page in PAGES.items():
        text = text.replace(f"]({source}", f"]({page}")
    text = text.replace(f"]({folder}", "](")
    return re.sub(r"\[([^\]]*)\]\(((?:recipes|src|examples|integrations)/[^)]*)\)", r"\1 (`\2`)", text)


def commands() -> str:
    """Every command with its options, from the commands themselves."""
    import typer.main

    from topcoat.cli.app import app

    lines = ["# Commands\n", "As `topcoat COMMAND --help` prints them.\n"]

    def walk(command: Any, path: str) -> None:
        inner = getattr(command, "commands", None)
        if inner:
            for name, one in inner.items():
                walk(one, f"{path} {name}")
            return
        lines.append(f"## {path}\n\n{_cell(command.help)}\n")
        lines.append("| option | what |\n|---|---|")
        for parameter in command.params:
            names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
            if parameter.param_type_name == "argument":
                names = f"`{(parameter.metavar or parameter.name).upper()}`"
            lines.append(f"| {names} | {_cell(getattr(parameter, 'help', None))} |")
        examples = [line.strip() for line in (command.epilog or "").splitlines()[1:]]
        lines.append("\n```\n" + "\n".join(examples) + "\n```\n")

    walk(typer.main.get_command(app), "topcoat")
    return "\n".join(lines)


def _cell(text: str | None) -> str:
    return " ".join((text or "").replace("|", "\\|").replace("<", "&lt;").split())
