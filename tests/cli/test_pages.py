"""Every block of code in the README and the pages runs, small and offline, or says in the page why it does not.

A page runs from top to bottom in one empty folder. Files that it speaks of and does not make are put there. Every
command is parsed by the real program, Python is compiled and what it imports of topcoat looked up. A block that cannot
run here has ``<!-- not run: why -->`` above it.
"""

from __future__ import annotations

import ast
import asyncio
import functools
import importlib
import inspect
import json
import re
import shlex
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
import yaml
from PIL import Image

import topcoat
from topcoat.cli.app import app
from topcoat.embedded import MINI
from topcoat.generators import presets
from topcoat.generators.base import ModelPair
from topcoat.metrics import c2st
from topcoat.pairs import build_pairs
from topcoat.prompts import sample_prompts, write_prompts

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"(?:^<!-- not run: ([^\n]+) -->\n)?^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md")), ROOT / "recipes" / "mini" / "README.md"]
PAGES = [page for page in PAGES if "```" in page.read_text(encoding="utf-8")]
RUN = [page for page in PAGES if page == ROOT / "README.md" or ROOT / "docs" in page.parents]
NAMES = ("0001", "0002", "0003", "0004", "0005", "portrait")
"""Of the pictures in a folder that a page speaks of."""
LANGUAGES = ("bash", "python", "yaml", "toml", "text")
NOT_RUN = ("serve", "result", "push", "pull", "doctor", "presets")
"""They run until stopped, need votes or the hub, tell of this machine, or take minutes; other tests run them."""


def parsed(words: list[str]) -> typer.Context:
    """What the program makes of a command line; it raises for what it does not know."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("topcoat", list(words))
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, list(rest), parent=context)
    assert context.args == []
    return context


@pytest.fixture(scope="session")
def shelf(pair_file: Path, head_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``pairs`` (120 of the tiny pair), a ``head`` with gates, and a ``decoder`` for the mini pair."""
    folder = tmp_path_factory.mktemp("shelf")
    build_pairs(folder / "pairs", sample_prompts(120), presets.model_pair(str(pair_file)))
    shutil.copytree(head_folder, folder / "head")
    shutil.copyfile(MINI / "head" / "gates.json", folder / "head" / "gates.json")
    shutil.copytree(MINI / "decoder", folder / "decoder")
    return folder


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty working folder; a mini baseline of 2 steps, short classifiers, few prompts and images in Python."""
    whole, sampled, trained = presets.model_pair, topcoat.sample_prompts, topcoat.train

    def quick(name: str) -> ModelPair:
        pair = whole(name)
        steps = {"steps": 2} if name == "mini" else {}
        return pair.model_copy(update={"baseline": pair.baseline.model_copy(update=steps)})

    for owner in (presets, topcoat):
        monkeypatch.setattr(owner, "model_pair", quick)
    monkeypatch.setattr(topcoat, "sample_prompts", lambda count, seed=0: sampled(min(count, 60), seed))
    monkeypatch.setattr(topcoat, "train", lambda run, data, output, images: trained("debug", data, output, images=8))
    monkeypatch.setattr(c2st, "two_sample", functools.partial(c2st.two_sample, steps=4))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """Why a block is not run (empty where it is), its language and its text."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def commands(block: str) -> list[list[str]]:
    """The words of each `topcoat` line of a block of shell, without the first."""
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    return [words[1:] for words in lines if words[:1] == ["topcoat"]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_is_sound(page: Path) -> None:
    assert page.read_text(encoding="utf-8").count("```") == 2 * len(blocks(page))
    for _, language, block in blocks(page):
        assert language in LANGUAGES, block
        if language == "python":
            checked_python(block, page.name)
        if language == "bash":
            for words in commands(block):
                parsed(words)
            check_shell(block)


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page: Path, small: Path, shelf: Path, pair_file: Path, run: Any) -> None:
    scope: dict[str, Any] = {"__name__": page.stem}
    for why, language, block in blocks(page):
        if language == "python" and not why and (code := checked_python(block, page.name)) is not None:
            given = eval(code, scope)
            if inspect.iscoroutine(given):
                asyncio.run(given)
        for words in commands(block) if language == "bash" and not why else ():
            context = parsed(words)
            if context.info_name not in NOT_RUN and context.params.get("engine") != "ray":
                stand_in(context, shelf)
                run(*smaller(context, words, pair_file))


def checked_python(block: str, name: str) -> Any:
    """The compiled block, None where a package that it imports is not installed; its names of topcoat are there."""
    modules = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Import | ast.ImportFrom)]
    for node in modules:
        names = [str(node.module)] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
        if not all(find_spec(each.split(".")[0]) for each in names):
            return None
    for node in modules:
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("topcoat"):
            for each in node.names:
                assert hasattr(importlib.import_module(str(node.module)), each.name), (node.module, each.name)
    for used in re.findall(r"\btopcoat\.(\w+)", re.sub(r"^(from|import) .*", "", block, flags=re.MULTILINE)):
        assert hasattr(topcoat, used), used
    return compile(block, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def check_shell(block: str) -> None:
    """What lines of other programs say of this repository: targets of make, extras of the package."""
    makefile, project = ((ROOT / name).read_text(encoding="utf-8") for name in ("Makefile", "pyproject.toml"))
    for target in re.findall(r"^make (\w+)", block, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    for extra in re.findall(r"\w+", " ".join(re.findall(r"(?:topcoat|\.)\[([\w,]+)\]", block))):
        assert re.search(rf"^{extra} = \[", project, flags=re.MULTILINE), extra


def smaller(context: typer.Context, words: list[str], pair_file: Path) -> list[str]:
    """The command line with less work, a tiny pair and nets that are here: of an option said twice the last counts."""
    name, given = str(context.info_name), context.params
    said = {key for key in given if getattr(context.get_parameter_source(key), "name", "") == "COMMANDLINE"}
    added: dict[str, object] = {f"--{net}": "embedded" for net in ("features", "identity") if given.get(net)}
    computes = name in ("plan", "specs", "init") or (name == "cost" and not given["measure"])
    if name == "build" or ("pair" in said and given["pair"] != "mini" and not computes):
        added["--pair"] = pair_file
    if given.get("count") and name != "plan":
        added["--count"] = min(given["count"], 120 if name in ("build", "prompts") else 8)
    added |= {"--style": "mini"} if name == "prompts" else {}
    if name == "frontier":  # no untrained head closes a gap, but all of them are cheap
        words = ["--max-cost" if word == "--target-gap" else word for word in words]
        added["--baseline-steps"] = 1
    added |= {"--pairs": 4} if name == "create" else {}
    if name == "train" and not said & {"changes", "init_from", "teacher", "target"}:
        words = ["debug" if word == given["run"] else word for word in words]
        added["--images"] = 8
    elif name in ("train", "reproduce"):
        words = [*words, "--dry-run"]
    return [*words, *(str(word) for option in added.items() for word in option)]


def stand_in(context: typer.Context, shelf: Path) -> None:
    """Put there what a command reads and the page did not make: pairs, heads, prompts, pictures."""
    for name, value in context.params.items():
        for each in value if isinstance(value, list | tuple) else [value]:
            path = Path(each) if isinstance(each, str | Path) else Path()
            if path.exists() or name == "output" or context.info_name == "init" or list(Path().glob(str(path))):
                continue
            if name in ("data", "calibrate", "folder") and not context.params.get("target"):
                shutil.copytree(shelf / "pairs", path)
            elif name in ("head", "heads", "init_from"):
                shutil.copytree(shelf / ("decoder" if path.name == "decoder" else "head"), path)
            elif name == "prompts_file":
                write_prompts(path, sample_prompts(4))
            elif name == "groups":
                path.write_text("\n".join(["name,kind", *(f"{each},a" for each in NAMES)]))
            elif name in ("data", "inputs", "mask", "source", "distilled", "enhanced", "baseline", "floor", "target"):
                folders = [path / "A", path / "B"] if name == "source" else [path]
                for file in [path] if path.suffix else [each / f"{i}.png" for each in folders for i in NAMES]:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    pixels = torch.rand(40, 24, 3).mul(255).byte().numpy()
                    Image.fromarray(pixels).save(str(file).replace("*", "0001"))


def test_the_example_of_a_pair_is_a_pair() -> None:
    (block,) = [block for _, language, block in BLOCK.findall((ROOT / "README.md").read_text()) if language == "yaml"]
    assert ModelPair.model_validate(yaml.safe_load(block)).baseline.steps == 28


@pytest.mark.parametrize(
    ("name", "settings"),
    [("portraits", "COUNT = 2"), ("own_head", 'PAIRS = 60\nIMAGES = 8\nRUN = "debug"\nFOLDER = "notebook"')],
)
def test_a_notebook_runs(name: str, settings: str, small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notebook = json.loads((ROOT / "examples" / f"{name}.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] for cell in notebook["cells"] if cell["cell_type"] == "code")
    given = {line.partition(" = ")[0] for line in settings.splitlines()}
    assert given <= {line.partition(" = ")[0] for line in cells[0].splitlines()}
    scope: dict[str, Any] = {}
    for cell in [cells[0], settings, *cells[1:]]:
        exec(compile(cell, f"{name}.ipynb", "exec"), scope)
    assert ("strength 1" if name == "portraits" else "Fréchet") in capsys.readouterr().out
