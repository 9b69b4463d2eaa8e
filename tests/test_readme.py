"""README and pages are true: the README's Python runs (at a small size), commands parse, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
import yaml

import topcoat
from topcoat.cli.app import app
from topcoat.generators.base import ModelPair

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = (*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md")), ROOT / "recipes" / "mini" / "README.md")


def _blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def _commands() -> list[str]:
    blocks = [block for page in PAGES for block in _blocks("(?:bash)?", page.read_text(encoding="utf-8"))]
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("topcoat ")]
    return list(dict.fromkeys(line.partition(" #")[0].strip() for line in lines))


def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    topcoat.write_image("portrait.png", torch.rand(3, 40, 24))
    sample_prompts, train = topcoat.sample_prompts, topcoat.train

    def few_prompts(count: int, seed: int = 0) -> Any:
        return sample_prompts(min(count, 12), seed)

    def short_training(run: str, dataset: Any, output: Any, *, images: int) -> Any:
        return train("debug", dataset, output, images=8)

    monkeypatch.setattr(topcoat, "sample_prompts", few_prompts)
    monkeypatch.setattr(topcoat, "train", short_training)
    blocks = _blocks("python")
    assert len(blocks) == 2
    for block in blocks:
        scope: dict[str, Any] = {}
        exec(compile(block, "README.md", "exec"), scope)
        if "images" in scope:
            assert scope["images"].shape == (8, 3, 128, 128)
            assert scope["report"].n == 8
    assert topcoat.read_image("better.png").shape == (3, 40, 24)


@pytest.mark.parametrize("line", _commands())
def test_a_command_parses(line: str) -> None:
    words = shlex.split(line)[1:]
    command: Any = typer.main.get_command(app)
    context = command.make_context("topcoat", list(words), resilient_parsing=False)
    while hasattr(command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, list(rest), parent=context)
    assert context.args == []


def test_make_has_the_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for block in [*_blocks("bash"), README]:
        for target in re.findall(r"(?:^|`)make (\w+)", block, flags=re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_the_example_of_a_pair_is_a_pair() -> None:
    (block,) = _blocks("yaml")
    assert ModelPair.model_validate(yaml.safe_load(block)).baseline.steps == 28


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", page.read_text(encoding="utf-8"))
    for target, heading in links:
        path = page.parent / target if target else page
        assert path.exists(), target
        assert not heading or heading in _anchors(path), f"{target}#{heading}"


def test_what_design_names_is_in_the_package() -> None:
    text = re.sub(r"```.*?```", "", (ROOT / "docs" / "design.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    package = ROOT / "src" / "topcoat"
    code = "\n".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    for name in re.findall(r"`([^`\n]+)`", text):
        if "NAME" in name or name.startswith(("-", "topcoat ", "make ")):
            continue
        if re.fullmatch(r"[\w./]+(\.py|\.toml|\.j2|/)", name):
            assert (package / name).exists() or (ROOT / name).exists(), name
        elif re.fullmatch(r"[A-Za-z]\w+(\.\w+)*(\(.*\))?", name):
            last = name.partition("(")[0].rpartition(".")[2]
            assert re.search(rf"\b{last}\b", code) or (package / name).exists() or list(package.rglob(name)), name


def _anchors(page: Path) -> list[str]:
    """The headings of a page as links name them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_the_page_when_not_quotes_the_frontier() -> None:
    text = (ROOT / "docs" / "when-not.md").read_text(encoding="utf-8")
    results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8").replace("**", "")
    rows = [line.strip("|").split("|") for line in text.splitlines() if re.match(r"\| (1 step|baseline)", line)]
    assert len(rows) == 6
    for row in rows:
        name, gap, interval, frechet, tflop, seconds = (re.escape(cell.strip()) for cell in row)
        pattern = rf"\| {name} \| {gap} \| {interval} \| {frechet} \| [\d.]+ \| {tflop} \| {seconds} \|"
        assert re.search(pattern, results), name
