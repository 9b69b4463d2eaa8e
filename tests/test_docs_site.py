"""The documentation's site is whole and asks no other server for anything."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

import topcoat

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


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
    pytest.importorskip("mkdocs", reason="the tools of the site need Python 3.11")
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


def test_the_workflows_know_the_versions() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "check.yml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == ["3.10", "3.11", "3.12", "3.13"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(cited["version"]) == topcoat.__version__
