"""A rater in a real browser: votes through a whole study by keys, pointer and touch-sized buttons."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn

from tests.reports.browser import NEEDS_BROWSER, Browser
from tests.reports.browser import browser as browser
from topcoat.study.app import create_app
from topcoat.study.plan import StudyPlan
from topcoat.study.store import Rater, read_raters

pytestmark = NEEDS_BROWSER
READY = "document.querySelector('[data-choice=\"1\"]:enabled')"
DONE = "document.querySelector('#delete')"
COUNT = "return document.getElementById('count').textContent;"


@dataclass
class Site:
    """A study that is served."""

    address: str
    folder: Path
    plan: StudyPlan
    server: uvicorn.Server

    def raters(self) -> list[Rater]:
        return read_raters(self.folder, self.plan)[0]


@pytest.fixture
def site(study: tuple[Path, StudyPlan]) -> Iterator[Site]:
    server = uvicorn.Server(uvicorn.Config(create_app(study[0]), port=0, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield Site(f"http://127.0.0.1:{port}", *study, server)
    server.should_exit = True
    thread.join(30)


def begin(browser: Browser, site: Site) -> None:
    browser.open(site.address)
    browser.click("input[name=consent]")
    browser.click("form[action='/start'] button")
    browser.wait_until(READY)


def outside(browser: Browser) -> list[str]:
    """Addresses that the page has asked for, but for the study's own."""
    names = browser.run("return performance.getEntriesByType('resource').map(entry => entry.name);")
    own = browser.run("return location.origin;")
    return [name for name in names if not name.startswith(own)]


def test_keys_vote_through_a_whole_study(browser: Browser, site: Site, tmp_path: Path) -> None:
    browser.resize(1280, 800)
    begin(browser, site)
    for position, key in enumerate("12021201"):
        browser.wait_until(READY)
        assert browser.run(COUNT) == f"{position + 1} of 8"
        shown = browser.run("return [...document.querySelectorAll('#pictures img')].map(i => new URL(i.src).pathname);")
        assert [path.rsplit("/", 2)[1:] for path in shown] == [[str(position), "1"], [str(position), "2"]]
        browser.press(key)
        if position == 3:
            assert outside(browser) == []
            browser.screenshot(tmp_path / "vote.png")
        end = DONE if position == 7 else f"document.getElementById('count').textContent.startsWith('{position + 2} ')"
        browser.wait_until(end)
    assert "Thank you" in browser.run("return document.body.textContent;")
    (rater,) = site.raters()
    assert "".join(vote.choice for vote in rater.votes) == "12021201"
    assert all(0.25 <= vote.dwell_seconds < 60 and vote.width_px == 1280 for vote in rater.votes)
    assert browser.complaints() == []


def test_a_phone_shows_one_picture_above_the_other_and_nothing_sticks_out(browser: Browser, site: Site) -> None:
    browser.resize(360, 740)
    browser.open(site.address)
    root = "document.documentElement"
    assert browser.run(f"return {root}.scrollWidth - {root}.clientWidth;") == 0
    begin(browser, site)
    first, second = browser.box("figure:first-child"), browser.box("figure:last-child")
    assert second["y"] >= first["y"] + first["height"] and first["width"] == second["width"] > 200
    assert browser.run(f"return [{root}.scrollWidth - {root}.clientWidth, {root}.scrollHeight - innerHeight];") == [
        0,
        0,
    ]
    for place in (1, 2, 3):
        box = browser.box(f".answers button:nth-child({place})")
        assert box["height"] >= 44 and box["y"] + box["height"] <= 740  # large enough for a thumb, and in the window
    for choice in "0121":
        browser.wait_until(READY)
        count = browser.run(COUNT)
        browser.click(f"[data-choice='{choice}']")
        browser.wait_until(f"document.getElementById('count').textContent != '{count}'")
    assert [vote.choice for vote in site.raters()[0].votes] == list("0121")
    assert browser.complaints() == []


def test_pictures_are_loaded_before_they_are_shown(browser: Browser, site: Site) -> None:
    browser.resize(1000, 800)
    begin(browser, site)
    loaded = browser.run(
        "return performance.getEntriesByType('resource').map(e => e.name.split('/').slice(-2).join('/'));"
    )
    assert {f"{position}/{place}" for position in range(3) for place in "12"} <= set(loaded)


def test_both_pictures_are_enlarged_at_the_same_place(browser: Browser, site: Site) -> None:
    browser.resize(1000, 800)
    begin(browser, site)
    before = browser.run("return document.querySelector('#first').getBoundingClientRect().width;")
    browser.click("figure:last-child")
    sizes = browser.run(
        "return [...document.querySelectorAll('#pictures img')].map(i => i.getBoundingClientRect().width);"
    )
    assert sizes[0] == sizes[1] > 2 * before
    browser.press("z")
    assert browser.run("return document.querySelector('#first').getBoundingClientRect().width;") == before
    assert site.raters()[0].votes == ()


def test_a_rater_goes_on_with_the_link_and_sees_what_is_stored(browser: Browser, site: Site) -> None:
    browser.resize(1000, 800)
    begin(browser, site)
    browser.press("1")
    browser.wait_until("document.getElementById('count').textContent.startsWith('2 ')")
    browser.click(".later summary")
    link = browser.run("return document.getElementById('link').value;")
    assert link.startswith(site.address)
    browser.open(site.address)
    assert "1 of 8" in browser.run("return document.querySelector('.notice').textContent;")
    browser.open(link)
    browser.wait_until(READY)
    assert browser.run(COUNT) == "2 of 8"
    browser.open(f"{link}/own")
    browser.click("#delete button")
    assert len(site.raters()) == 1  # it asks once more
    browser.click("#delete button")
    browser.wait_until("location.pathname == '/deleted'")
    assert site.raters() == []


def test_an_answer_waits_for_a_server_that_is_away(browser: Browser, site: Site) -> None:
    browser.resize(1000, 800)
    begin(browser, site)
    # the first two attempts find no connection
    browser.run("""
        const ordinary = window.fetch;
        let failures = 2;
        window.sent = [];
        window.fetch = (...given) => {
            window.sent.push(given[0]);
            return failures-- > 0 ? Promise.reject(new TypeError("no connection")) : ordinary(...given);
        };
    """)
    browser.press("2")
    browser.wait_until("!document.getElementById('trouble').hidden")
    browser.wait_until("document.getElementById('count').textContent.startsWith('2 ')")
    assert len(browser.run("return window.sent;")) == 3
    assert [vote.choice for vote in site.raters()[0].votes] == ["2"]


def test_time_in_which_the_page_is_hidden_is_not_counted(browser: Browser, site: Site) -> None:
    browser.resize(1000, 800)
    begin(browser, site)
    browser.run("""
        const start = shownAt;
        document.addEventListener("keydown", () => { window.pressedAt = (performance.now() - start) / 1000; });
        let hidden = true;
        Object.defineProperty(document, "hidden", {get: () => hidden, configurable: true});
        document.dispatchEvent(new Event("visibilitychange"));
        const showAgain = () => {
            hidden = false;
            document.dispatchEvent(new Event("visibilitychange"));
            window.back = true;
        };
        setTimeout(showAgain, 3000);
    """)
    browser.wait_until("window.back")
    shown = browser.run("return (performance.now() - shownAt) / 1000;")  # a top-level name of the script
    browser.press("1")
    browser.wait_until("document.getElementById('count').textContent.startsWith('2 ')")
    latest = browser.run("return window.pressedAt;")
    (vote,) = site.raters()[0].votes
    assert shown >= 3 and vote.dwell_seconds <= latest - 2.9
