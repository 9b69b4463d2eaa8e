"""README and pages are true: links lead somewhere, and what they name is there. `cli/test_pages.py` runs their code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = (*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md")), ROOT / "recipes" / "mini" / "README.md")


def test_make_has_the_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:^|`)make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


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
