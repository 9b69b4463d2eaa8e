"""Fifty raters at once lose no vote, and a server that is killed has every vote that it acknowledged."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.study.conftest import SETTINGS
from topcoat.study.create import create_study, match_pictures, plan_study
from topcoat.study.plan import Arm, StudyPlan
from topcoat.study.store import Store, read_raters

pytestmark = pytest.mark.slow

RATERS = 50
KILLS = 20


class NotFollowed(urllib.request.HTTPRedirectHandler):
    """Redirects come back as answers."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any) -> None:
        return None


OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), NotFollowed)


def call(url: str, body: bytes | None = None, kind: str = "application/json") -> tuple[int, bytes, str]:
    request = urllib.request.Request(url, body, {"Content-Type": kind})
    try:
        with OPENER.open(request, timeout=60) as answer:
            return answer.status, answer.read(), ""
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers.get("location", "")


def begin(server: str) -> str:
    """The address of a new rater."""
    status, _, path = call(f"{server}/start", b"consent=yes", "application/x-www-form-urlencoded")
    assert status == 303 and path.startswith("/r/")
    return server + path


def vote(page: str, position: int, choice: str) -> int:
    answer = {"position": position, "choice": choice, "dwell_seconds": 1.0, "width_px": 1, "height_px": 1}
    status, body, _ = call(f"{page}/vote", json.dumps(answer).encode())
    assert status == 200, body
    return json.loads(body)["answered"]


@contextmanager
def served(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server of its own process, once it answers."""
    words = [sys.executable, "-m", "topcoat", "study", "serve", str(folder), "--port", str(port)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while True:
            try:
                if call(f"http://127.0.0.1:{port}/health")[0] == 200:
                    break
            except OSError:
                assert process.poll() is None and time.monotonic() < until
                time.sleep(0.1)
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(60)


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def large_study(arms: dict[Arm, Path], tmp_path: Path) -> tuple[Path, StudyPlan]:
    """With 20 comparisons for each rater."""
    sources = match_pictures(arms)
    settings = SETTINGS.model_copy(update={"votes_per_rater": 18})
    plan, _ = create_study(tmp_path / "study", sources, plan_study(sources, settings))
    return tmp_path / "study", plan


def test_fifty_raters_at_once_lose_no_vote(large_study: tuple[Path, StudyPlan], port: int) -> None:
    folder, plan = large_study
    server = f"http://127.0.0.1:{port}"
    together = threading.Barrier(RATERS)
    seconds: list[float] = []

    def rate(number: int) -> tuple[str, str]:
        draw = random.Random(number)
        together.wait()
        page = begin(server)
        choices = ""
        for position in range(20):
            for place in "12":
                assert call(f"{page}/{position}/{place}")[1].startswith(b"RIFF")
            choice = draw.choice("120")
            started = time.monotonic()
            assert vote(page, position, choice) == position + 1
            seconds.append(time.monotonic() - started)
            choices += choice
        return page, choices

    with served(folder, port), ThreadPoolExecutor(RATERS) as pool:
        started = time.monotonic()
        given = sorted(choices for _, choices in pool.map(rate, range(RATERS)))
        took = time.monotonic() - started
    raters, _ = read_raters(folder, plan)
    assert sorted("".join(vote.choice for vote in rater.votes) for rater in raters) == given
    seconds.sort()
    median, slowest = seconds[len(seconds) // 2], seconds[int(len(seconds) * 0.99)]
    print(f"{RATERS} raters, {len(seconds)} votes in {took:.1f} s; a vote {median:.3f} s, 99 % under {slowest:.3f} s")


def test_a_killed_server_has_every_acknowledged_vote(large_study: tuple[Path, StudyPlan], port: int) -> None:
    folder, plan = large_study
    server = f"http://127.0.0.1:{port}"
    draw = random.Random(0)
    acknowledged: dict[str, str] = {}
    total = 0
    for _ in range(KILLS):
        with served(folder, port) as process:
            stop = time.monotonic() + draw.uniform(0.05, 1.0)
            killer = threading.Timer(stop - time.monotonic(), os.kill, (process.pid, signal.SIGKILL))
            killer.start()
            with suppress(OSError, urllib.error.URLError, ConnectionError):
                while True:  # until the server is gone
                    page = begin(server)
                    acknowledged[page] = ""
                    for position in range(20):
                        choice = draw.choice("120")
                        vote(page, position, choice)
                        acknowledged[page] += choice
            killer.join()
            process.wait(60)
            assert process.returncode == -signal.SIGKILL
        with closing(Store(folder, plan)) as store:
            for page, choices in acknowledged.items():
                rater = store.rater(page.rpartition("/")[2])
                assert rater is not None
                stored = "".join(vote.choice for vote in rater.votes)
                # one vote may be ahead of its acknowledgement, which the kill cut off
                assert stored.startswith(choices) and len(stored) <= len(choices) + 1
        total = sum(map(len, acknowledged.values()))
    assert total > 0
    print(f"{KILLS} kills, {len(acknowledged)} raters, {total} acknowledged votes, none lost")
