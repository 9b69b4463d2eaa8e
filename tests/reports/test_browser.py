"""The pages in a real browser: the slider moves, nothing is missing, and nothing overflows a phone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.reports.browser import NEEDS_BROWSER, Browser
from tests.reports.browser import browser as browser
from topcoat.features import FeatureNet
from topcoat.images import gaussian_blur
from topcoat.metrics.evaluate import evaluate
from topcoat.reports.evaluation import SubjectImages, write_report

pytestmark = NEEDS_BROWSER
COUNT = 60


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with everything in it: groups, gates, a floor, notes and flags."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2 * COUNT, 3, 6, 6, generator=generator)
    sharp = torch.nn.functional.interpolate(coarse, size=(64, 64), mode="bicubic").clamp(0, 1)
    sharp = (sharp + 0.06 * torch.randn(sharp.shape, generator=generator)).clamp(0, 1)
    baseline, floor = sharp.split(COUNT)
    sets = {"distilled": gaussian_blur(baseline, 1.2), "enhanced": gaussian_blur(baseline, 0.5), "baseline": baseline}
    words = ("young", "middle-aged and more", "old")
    found = evaluate(
        sets["enhanced"],
        reference=baseline,
        distilled=sets["distilled"],
        gated=torch.cat([sets["enhanced"][10:].flip(0), sets["distilled"][:10]]),
        floor=floor,
        features=FeatureNet.tiny(0),
        groups=[{"age": words[index % 3], "light": "left" if index % 2 else "right"} for index in range(COUNT)],
    )
    folder = tmp_path_factory.mktemp("report")

    def look_up(index: int) -> SubjectImages:
        return {name: images[index] for name, images in sets.items()}, f"subject {index}, " + "long " * 12

    write_report(folder, found, look_up, about="a dataset (test)", inputs={"strength": 1.0})
    return folder / "report.html"


SHOWN = """
return ["left", "right", "third"].map(id => {
    const image = document.getElementById(id);
    return image.alt + image.src;
});
"""
ROW = """
const images = document.querySelectorAll("#gallery figure")[arguments[0]].querySelectorAll("img");
return [...images].map(image => image.alt + image.src);
"""
TAGS = "return ['left-tag', 'right-tag', 'third-tag'].map(id => document.getElementById(id).textContent);"
OUTSIDE = """
return [...document.querySelectorAll("svg.drawn text")].filter(text => {
    const ours = text.getBoundingClientRect(), chart = text.closest("svg").getBoundingClientRect();
    return ours.width && (ours.left < chart.left - 2 || ours.right > chart.right + 2);
}).map(text => text.textContent);
"""
"""Words that leave their chart."""
SMALLEST = """
return Math.min(...[...document.querySelectorAll("svg.drawn text")].map(text => {
    const chart = text.closest("svg");
    const scale = chart.getBoundingClientRect().width / chart.viewBox.baseVal.width;
    return parseFloat(getComputedStyle(text).fontSize) * scale;
}));
"""
"""Size in px of the smallest words of all charts."""


def edge(browser: Browser) -> str:
    return browser.run("return getComputedStyle(document.querySelector('#compare .over')).clipPath;")


def test_the_slider_follows_the_pointer(browser: Browser, report: Path) -> None:
    browser.resize(1200, 900)
    browser.open(report)
    middle = edge(browser)
    browser.drag("#slider", 0.5, 0.2)
    value = float(browser.run("return document.getElementById('slider').value;"))
    assert value == pytest.approx(20, abs=6)
    assert edge(browser) != middle and edge(browser) == f"inset(0px {100 - value:g}% 0px 0px)"
    line = browser.run("return getComputedStyle(document.querySelector('#compare'), '::after').left;")
    assert float(line.removesuffix("px")) == pytest.approx(browser.box("#compare")["width"] * value / 100, abs=1)
    assert browser.complaints() == []


def test_other_subjects_and_other_sides_can_be_compared(browser: Browser, report: Path) -> None:
    browser.open(report)
    first = browser.run(SHOWN)
    assert first == browser.run(ROW, 0)
    browser.click("#thumbs button:nth-child(2)")
    assert browser.run(SHOWN) == browser.run(ROW, 1) != first
    caption = browser.run("return document.getElementById('caption').textContent;")
    assert caption == browser.run("return document.querySelectorAll('#gallery figcaption')[1].textContent;")
    browser.click("#choices button:nth-child(2)")
    one, two, three = browser.run(ROW, 1)
    assert browser.run(SHOWN) == [two, three, one]
    assert browser.run(TAGS) == ["enhanced", "baseline", "distilled"]
    pressed = browser.run("return [...document.querySelectorAll('[aria-pressed=true]')].map(b => b.parentNode.id);")
    assert sorted(pressed) == ["choices", "thumbs"]
    assert browser.complaints() == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width_px", [360, 1200], ids=["phone", "desk"])
def test_it_is_whole_at_every_width_and_in_the_dark(
    browser: Browser, report: Path, width_px: int, dark: bool, tmp_path: Path
) -> None:
    browser.resize(width_px, 800, dark=dark)
    browser.open(report)
    page = "document.documentElement"
    assert browser.run(f"return {page}.scrollWidth - {page}.clientWidth;") == 0  # nothing sticks out
    broken = "return [...document.images].filter(i => !i.complete || !i.naturalWidth).length;"
    assert browser.run(broken) == 0
    paper = browser.run("return getComputedStyle(document.body).backgroundColor;")
    light = sum(int(part) for part in paper.removeprefix("rgb(").removesuffix(")").split(",")) / 3
    assert light < 60 if dark else light > 200
    assert browser.run(OUTSIDE) == []
    assert browser.run(SMALLEST) >= 8
    assert browser.complaints() == []
    browser.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")


def test_the_console_is_listened_to(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "broken.html"
    page.write_text("<!doctype html><title>t</title><img src='nowhere.png'><script>undefinedFunction();</script>")
    browser.open(page)
    complaints = "\n".join(browser.complaints())
    assert "undefinedFunction" in complaints and "nowhere.png" in complaints
