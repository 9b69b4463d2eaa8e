"""The documentation's site is whole and asks no other server for anything; its tutorials and the notebooks run."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

import topcoat
from topcoat.cli.app import app
from topcoat.features import FeatureNet
from topcoat.generators import presets
from topcoat.generators.base import ModelPair
from topcoat.images import write_image
from topcoat.metrics import c2st

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
SMALLER = {"60000": "8", "2000": "120", "1000": "8", "unet": "debug", "64": "4", "4,8": "1", "16": "8"}
"""Words of a tutorial -> what a test says in their place."""
SLOW = ("your-own-head",)
"""Every command once more, which the runbooks' test runs on a smaller pair."""
ELSEWHERE = ("ray", "presets", "doctor")
"""Ray, which tests/pairs runs; minutes of nothing to see; the state of this machine."""


class Requests(HTMLParser):
    """What a browser fetches of a page by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the addresses of all tags but links that a reader follows."""
        if tag != "a":
            self.found += [str(value) for name, value in attrs if name in ("src", "href", "srcset", "poster", "data")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_no_page_asks_another_server(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        requests = Requests()
        requests.feed(page.read_text(encoding="utf-8"))
        outside = [one for one in requests.found if re.match(r"(https?:)?//", one)]
        assert not outside, (page, outside)
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", sheet.read_text(encoding="utf-8")), sheet
    assert "fonts.g" not in (site / "index.html").read_text(encoding="utf-8")


def test_the_site_has_the_slider_the_reference_and_every_command(site: Path) -> None:
    start = (site / "index.html").read_text(encoding="utf-8")
    assert 'class="tc-slider"' in start and "assets/slider.js" in start
    reference = (site / "reference" / "python" / "index.html").read_text(encoding="utf-8")
    for name in ("build_pairs", "from_pretrained", "run_benchmark", "UsageError"):
        assert f"{name}</span>" in reference, name
    commands = (site / "reference" / "commands" / "index.html").read_text(encoding="utf-8")
    for name in ("topcoat init", "topcoat pairs build", "--baseline-from", "topcoat study create"):
        assert name in commands, name


def test_every_page_is_in_the_navigation() -> None:
    names = re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} <= set(names)


def test_the_slider_knows_the_sheet() -> None:
    from PIL import Image

    script = (DOCS / "assets" / "slider.js").read_text(encoding="utf-8")
    with Image.open(DOCS / "images" / "contact.png") as sheet:
        assert f"width: {sheet.width}, height: {sheet.height}," in script
        found = re.search(r"tile: (\d+), pitch: (\d+), left: (\d+), top: (\d+), subjects: (\d+)", script)
        assert found is not None
        tile, pitch, left, top, subjects = map(int, found.groups())
        assert left + pitch * (subjects - 1) + tile <= sheet.width and top + 2 * pitch + tile <= sheet.height
        grey = sheet.convert("L")
        for subject in range(subjects):  # white lies around every tile
            for row in range(3):
                x, y = left + subject * pitch, top + row * pitch
                assert grey.crop((x - 1, y, x, y + tile)).getextrema() == (255, 255)
                assert grey.crop((x + tile, y, x + tile + 1, y + tile)).getextrema() == (255, 255)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty working folder, a mini baseline of 2 steps, and feature nets of seconds."""
    whole = presets.model_pair

    def quick(name: str) -> ModelPair:
        pair = whole(name)
        return (
            pair.model_copy(update={"baseline": pair.baseline.model_copy(update={"steps": 2})})
            if name == "mini"
            else pair
        )

    for owner in (presets, topcoat):
        monkeypatch.setattr(owner, "model_pair", quick)
    import topcoat.features.pretrained as pretrained

    for module in (sys.modules["topcoat.features"], pretrained):
        monkeypatch.setattr(module, "load_feature_net", lambda name: FeatureNet.tiny(0))
    two_sample = c2st.two_sample
    monkeypatch.setattr(c2st, "two_sample", lambda *given, **named: two_sample(*given, **named | {"steps": 4}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "page",
    [pytest.param(path, marks=pytest.mark.slow) if path.stem in SLOW else path for path in TUTORIALS],
    ids=lambda path: path.stem,
)
def test_a_tutorial_runs(page: Path, small: Path) -> None:
    write_image(small / "portraits" / "0001.png", torch.rand(3, 40, 24))
    ran = 0
    for language, block in re.findall(r"```(\w+)\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
        if language == "python":
            exec(compile(block, str(page), "exec"), {})
            ran += 1
            continue
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] != ["topcoat"] or any(word in ELSEWHERE for word in words):
                continue
            result = CliRunner().invoke(app, [SMALLER.get(word, word) for word in words[1:]])
            assert result.exit_code == 0, (line, result.output, result.exception)
            ran += 1
    assert ran >= 1


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


def test_the_workflows_know_the_versions() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "check.yml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == ["3.10", "3.11", "3.12", "3.13"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(cited["version"]) == topcoat.__version__
