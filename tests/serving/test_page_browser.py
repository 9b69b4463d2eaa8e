"""The page in headless Chromium: generate, enhance, drag the divider, download; and what must not happen."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from tests.conftest import FakeGenerator, fake_spec
from topcoat.pictures import read_picture
from topcoat.pictures.provenance import ENHANCED, GENERATED, records_of
from topcoat.pictures.xmp import source_type

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed (Debian: apt install chromium)"),
    pytest.mark.filterwarnings("default"),  # of gradio's own
]
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
SHOTS = os.environ.get("TOPCOAT_SCREENSHOTS")
"""A folder for pictures of the pages, to be looked at."""


@dataclass
class Opened:
    """A page and what went wrong in it."""

    page: Any
    complaints: list[str] = field(default_factory=list[str])

    def shot(self, name: str) -> None:
        if SHOTS:
            self.page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of fake generators and the embedded head, in a thread of its own."""
    pytest.importorskip("gradio", reason="the extra serve is not installed")
    pytest.importorskip("prometheus_client", reason="the extra serve is not installed")
    from topcoat.serving.app import create_app
    from topcoat.serving.backend import LocalBackend
    from topcoat.serving.engine import Engine
    from topcoat.serving.models import Models
    from topcoat.serving.page.mount import mount_page
    from topcoat.serving.server import make_server
    from topcoat.serving.settings import ServeConfig
    from topcoat.serving.sockets import open_socket

    config = ServeConfig(baseline=True)
    models = Models(
        config,
        {
            "distilled": FakeGenerator(fake_spec("fast", 1), plastic=True),
            "baseline": FakeGenerator(fake_spec("good", 4), plastic=False),
        },
    )
    engine = Engine(config, LocalBackend(config, models))

    app = create_app(engine, hosts=("127.0.0.1",))
    report = tmp_path_factory.mktemp("report")
    _write_report(report)
    page = mount_page(app, engine, report=report)
    bound = open_socket("127.0.0.1", 0)
    server = make_server(app, 10, page.end)

    async def serve() -> None:
        async with engine:
            await server.serve([bound])

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        while not server.started and thread.is_alive():
            thread.join(0.05)
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
    assert not page.files.folder.exists()


def _write_report(folder: Path) -> None:
    import json

    import torch

    from topcoat.benchmark.arms import Subjects
    from topcoat.benchmark.record import Evidence
    from topcoat.generators.base import Licence
    from topcoat.reports.benchmark import write_evidence

    pictures = {name: torch.full((3, 3, 32, 32), 80 * number, dtype=torch.uint8) for number, name in enumerate("abc")}
    terms = Licence(name="MIT", url="https://example.org")
    write_evidence(folder, Evidence(pictures, Subjects(("p", "q", "r"), (1, 2, 3)), (terms, terms)), 1)
    size = {"width": 32, "height": 32}
    record = {"kind": "demo", "pair": "mini", "n": 3, "size_px": size, "heads": {}, "scores": []}
    (folder / "report.json").write_text(json.dumps(record))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(params=SIZES)
def opened(request: pytest.FixtureRequest, chromium: Any, url: str) -> Iterator[Opened]:
    """The page at a size; at the end nothing may have gone wrong, nor anything been asked of another machine."""
    width, height = SIZES[request.param]
    phone = request.param == "phone"
    context = chromium.new_context(
        viewport={"width": width, "height": height}, is_mobile=phone, has_touch=phone, accept_downloads=True
    )
    page = context.new_page()
    page.set_default_timeout(120_000)
    made = Opened(page)
    page.on("console", lambda said: made.complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: made.complaints.append(str(error)))
    page.on("response", lambda got: made.complaints.append(f"{got.status} {got.url}") if got.status >= 400 else None)
    page.on(
        "request",
        lambda asked: None if asked.url.startswith((url, "data:", "blob:")) else made.complaints.append(asked.url),
    )
    page.goto(url)
    page.wait_for_selector("#generate")
    yield made
    assert made.complaints == []
    assert page.evaluate("document.documentElement.scrollWidth - screen.width") <= 0
    context.close()


def tab(opened: Opened, name: str) -> None:
    opened.page.get_by_role("tab", name=name).first.click()


def saved(opened: Opened, button: str) -> tuple[str, bytes]:
    """What a download button gives."""
    with opened.page.expect_download() as download:
        opened.page.locator(button).click()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def divider(opened: Opened, slider: str) -> float:
    """Where the divider stands, as a share of the slider's width."""
    script = """(slider) => {
      const wrap = document.querySelector(slider + ' .slider-wrap .wrap').getBoundingClientRect();
      const grip = document.querySelector(slider + ' [data-testid=slider]').getBoundingClientRect();
      return (grip.left + grip.width / 2 - wrap.left) / wrap.width;
    }"""
    return opened.page.evaluate(script, slider)


def test_generate_and_save(opened: Opened, tmp_path: Path) -> None:
    page = opened.page
    page.locator("#attribute-age input").click()
    page.get_by_role("option", name="old", exact=True).click()
    page.wait_for_function("document.querySelector('#prompt textarea').value.includes('an old')")
    page.locator("#generate").click()
    page.wait_for_selector("#generated img")
    page.wait_for_selector("#took .figure.enhanced")
    assert "not made" in page.locator("#took .figure.baseline").inner_text()
    assert "ms" in page.locator("#took .figure.distilled").inner_text()
    for side in ("distilled", "enhanced"):
        name, content = saved(opened, f"#save-{side}")
        (tmp_path / name).write_bytes(content)
        picture = read_picture(tmp_path / name)
        assert name == f"7-{side}.png" and "an old" in picture.metadata.texts["prompt"]
        assert source_type(picture.metadata.xmp) == GENERATED
    page.locator("#make-baseline").click()
    page.wait_for_selector("#baseline img")
    page.wait_for_function("!document.querySelector('#took .figure.baseline').innerText.includes('not made')")
    opened.shot(f"generate-{page.viewport_size['width']}")


def test_enhance_and_save_with_all_that_the_file_carries(opened: Opened, tmp_path: Path) -> None:
    page = opened.page
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "woman\nSteps: 4, Seed: 77")
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        pixels = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png", pnginfo=info, dpi=(300, 300))
    tab(opened, "Enhance")
    page.locator("#uploads input[type=file]").set_input_files([tmp_path / "one.png", tmp_path / "two.png"])
    page.wait_for_selector("#enhanced img")
    page.wait_for_selector("text=two.png: 80 x 60 px, strength 1")
    name, content = saved(opened, "#save")
    (tmp_path / name).write_bytes(content)
    picture = read_picture(tmp_path / name)
    assert name == "two-enhanced.png" and picture.metadata.texts["parameters"] == "woman\nSteps: 4, Seed: 77"
    assert round(Image.open(io.BytesIO(content)).info["dpi"][0]) == 300
    assert source_type(picture.metadata.xmp) == ENHANCED and records_of(picture.metadata.xmp)[0].strength == "1"
    number = page.locator("#enhance-strength input[type=number]")
    number.fill("0")
    number.press("Tab")
    page.wait_for_selector("text=two.png: 80 x 60 px, strength 0,")
    _, content = saved(opened, "#save")
    np.testing.assert_array_equal(Image.open(io.BytesIO(content)), Image.open(tmp_path / "two.png"))
    (tmp_path / "bad.png").write_text("no picture")
    page.locator("#uploads input[type=file]").set_input_files([tmp_path / "bad.png"])
    page.wait_for_selector("#said .problem")
    assert "bad.png" in page.locator("#said .problem").inner_text()
    opened.shot(f"enhance-{page.viewport_size['width']}")


def test_the_divider_is_dragged_and_moved_by_keys(opened: Opened) -> None:
    page = opened.page
    tab(opened, "Compare")
    page.wait_for_selector("#compared img")
    handle = page.locator("#compared [data-testid=slider]")
    handle.scroll_into_view_if_needed()
    assert divider(opened, "#compared") == pytest.approx(0.5, abs=0.05)
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y, steps=4)
    page.mouse.up()
    dragged = divider(opened, "#compared")
    assert dragged > 0.55
    handle.focus()
    assert handle.get_attribute("role") == "slider" and "divider" in handle.get_attribute("aria-label")
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(100)
    assert divider(opened, "#compared") == pytest.approx(dragged - 0.15, abs=0.04)
    first = page.locator("#compared img").first.get_attribute("src")
    page.locator("#next").click()
    page.wait_for_function("(before) => document.querySelector('#compared img').src !== before", arg=first)
    opened.shot(f"compare-{page.viewport_size['width']}")


def test_everything_is_reached_by_the_tab_key(opened: Opened) -> None:
    page = opened.page
    reached: set[str] = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement.closest('[id]:not(gradio-app)')?.id || document.activeElement.role")
        )
    assert {"prompt", "generate", "surprise", "generate-strength"} <= reached, reached


def test_about_names_models_licences_and_the_head(opened: Opened) -> None:
    tab(opened, "About")
    opened.page.wait_for_selector("#about:has-text('Head embedded')")  # it is filled once the page has loaded
    text = opened.page.locator("#about").inner_text()
    for words in ("fast", "good licence", "Head embedded", "measured", "computed"):
        assert words in text
    opened.shot(f"about-{opened.page.viewport_size['width']}")
