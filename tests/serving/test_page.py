"""The page's files, which of gradio's routes are open, and the parts that need no browser."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from tests.conftest import FakeGenerator
from topcoat.errors import DataError
from topcoat.prompts import sample_prompts
from topcoat.prompts.mini import mini_words
from topcoat.serving.page.confined import Confined
from topcoat.serving.page.figures import Figure, definitions, figures
from topcoat.serving.page.files import FOLDER_VARIABLE, PageFiles

PATHS = (
    ("GET", "/"),
    ("GET", "/config"),
    ("GET", "/assets/index.js"),
    ("GET", "/gradio_api/queue/data"),
    ("POST", "/gradio_api/queue/join"),
    ("POST", "/gradio_api/upload"),
)
CLOSED = (
    ("GET", "/monitoring"),
    ("GET", "/gradio_api/proxy=http://localhost/"),
    ("GET", "/gradio_api/runs"),
    ("GET", "/gradio_api/openapi.json"),
    ("POST", "/gradio_api/run/predict"),
    ("POST", "/gradio_api/call/predict"),
    ("POST", "/gradio_api/vibe-edit"),
    ("GET", "/gradio_api/stream/a/b/1/playlist-file"),
    ("PUT", "/"),
    ("GET", "/gradio_api/file=/etc/passwd"),
    ("GET", "/gradio_api/file=http://127.0.0.1/"),
    ("GET", "/gradio_api/file=pyproject.toml"),
)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = PageFiles()
    yield made
    made.close()
    assert not list(tmp_path.glob("topcoat-page-*")) and FOLDER_VARIABLE not in os.environ


@pytest.fixture
def client(files: PageFiles) -> TestClient:
    """An app that answers everything, behind the confinement."""
    return TestClient(Confined(PlainTextResponse("let through"), files))


def test_results_lie_by_session_under_safe_names(files: PageFiles) -> None:
    paths = [files.write("abc", name, b"1") for name in ("../../a b.png", "x/../../../etc/passwd", "…\0?.png", "..")]
    assert [path.name for path in paths] == ["a b.png", "passwd", "_.png", "picture"]
    assert all(files.holds(path) for path in paths) and len({path.parent for path in paths}) == 4
    other = files.write("../abcd", "a.png", b"2")
    files.end_session("abc")
    assert not any(path.exists() for path in paths) and files.holds(other)
    for path in ("/etc/passwd", files.folder, files.folder.parent / "x" / "y", files.folder / "a" / ".." / ".." / "b"):
        assert not files.holds(path)
    (files.folder / "link").symlink_to("/etc")
    assert not files.holds(files.folder / "link" / "passwd")


def test_an_upload_goes_with_the_last_session_that_has_it(files: PageFiles) -> None:
    mine, ours = (files.write("uploads", name, b"") for name in ("mine.png", "ours.png"))
    files.hold("a", [mine, ours])
    files.hold("b", [ours])
    files.hold("a", [ours])
    assert not mine.exists() and ours.exists()
    files.end_session("a")
    assert ours.exists()
    files.end_session("b")
    assert not ours.exists()
    files.end_session("never seen")


def test_old_files_go_and_kept_ones_stay(files: PageFiles, tmp_path: Path) -> None:
    outside = tmp_path / "outside" / "a.png"
    outside.parent.mkdir()
    outside.write_bytes(b"")
    old, new, kept = files.write("s", "old.png", b""), files.write("s", "new.png", b""), files.keep("kept.png", b"")
    for path in (old, old.parent, kept):
        os.utime(path, (0, time.time() - 100))
    files.remove_older(50)
    assert not old.exists() and new.exists() and kept.exists()
    files.remove([new, outside])
    assert not new.exists() and outside.exists()


def test_what_the_page_needs_is_open_and_nothing_else(client: TestClient, files: PageFiles) -> None:
    path = files.write("s", "ä b.png", b"")
    for method, address in (*PATHS, ("GET", f"/gradio_api/file={path}"), ("HEAD", "/")):
        answer = client.request(method, address, content=b"{}" if method == "POST" else None)
        assert answer.status_code == 200, address
        assert "default-src 'self'" in answer.headers["content-security-policy"]
    for method, address in (*CLOSED, ("GET", f"/gradio_api/file={files.folder}/a/../../../../etc/passwd")):
        answer = client.request(method, address, content=b"{}" if method == "POST" else None)
        assert answer.status_code == 404 and "there is nothing" in answer.json()["error"]["message"], address


def test_a_click_names_files_of_the_page_alone(client: TestClient, files: PageFiles) -> None:
    mine = files.write("s", "a.png", b"")

    def click(path: Any) -> int:
        data = {"data": [1, [{"path": path, "meta": {"_type": "gradio.FileData"}}]], "fn_index": 1}
        return client.post("/gradio_api/queue/join", content=json.dumps(data)).status_code

    assert click(str(mine)) == 200
    for path in ("/etc/passwd", "https://example.org/a.png", "a.png", None, f"{files.folder}/../x/y"):
        assert click(path) == 400
    assert client.post("/gradio_api/queue/join", content=b"[" * 300_000).status_code == 400


def test_a_stopping_server_hangs_up_on_open_pages(files: PageFiles) -> None:
    begun: list[bool] = []

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        begun.append(True)
        await asyncio.sleep(1000)

    async def nothing(*_: Any) -> Any:
        return None

    async def run() -> None:
        confined = Confined(endless, files)
        scope = {"type": "http", "method": "GET", "path": "/gradio_api/heartbeat/abc", "headers": []}
        page = asyncio.ensure_future(confined(scope, nothing, nothing))
        while not begun:
            await asyncio.sleep(0)
        confined.end()
        await asyncio.wait_for(page, 10)

    asyncio.run(run())


def test_figures_say_what_is_measured_and_escape(files: PageFiles) -> None:
    html = figures([Figure("<b>", "distilled", 0.25, 1.5, "4 steps"), Figure("B", "baseline", None, None)], "a < b")
    assert "&lt;b&gt;" in html and "250 ms" in html and "measured" in html and "1.50 TFLOP" in html
    assert "not made" in html and "a &lt; b" in html
    assert "&lt;i&gt;" in definitions([("<i>", "x")])


def test_attributes_and_prompt_say_the_same() -> None:
    for prompt in sample_prompts(20, seed=3):
        assert mini_words().text(prompt.attributes) == prompt.text
        assert prompt.attributes.keys() == mini_words().attributes.keys()


@pytest.fixture
def context(files: PageFiles) -> Any:
    pytest.importorskip("gradio", reason="the extra serve is not installed")
    from topcoat.serving.page.context import Context

    return Context(None, files)  # type: ignore[arg-type]


def test_a_reports_subjects_are_cut_from_its_contact_sheets(
    context: Any, files: PageFiles, tmp_path: Path, fake_generators: tuple[FakeGenerator, FakeGenerator]
) -> None:
    import numpy as np
    import torch
    from PIL import Image

    from topcoat.benchmark.arms import Subjects
    from topcoat.benchmark.record import Evidence
    from topcoat.generators.base import Licence
    from topcoat.reports.benchmark import write_evidence
    from topcoat.serving.page.compare import read_subjects

    pictures = {name: torch.randint(0, 256, (10, 3, 16, 24), dtype=torch.uint8) for name in ("distilled", "enhanced")}
    terms = Licence(name="MIT", url="https://example.org")
    subjects = Subjects(tuple(f"prompt {number}" for number in range(10)), tuple(range(10)))
    with pytest.raises(DataError, match="holds no report"):
        read_subjects(tmp_path, context)
    report = tmp_path / "report"
    report.mkdir()
    (report / "report.json").write_text("{}")
    write_evidence(report, Evidence(pictures, subjects, (terms, terms)), 2)
    shown = read_subjects(report, context)
    assert len(shown) == 10 and shown[9].title == "10. prompt 9 (seed 9)"
    for number, subject in enumerate(shown):
        for name, images in pictures.items():
            cut = torch.from_numpy(np.array(Image.open(subject.pictures[name])))
            assert torch.equal(cut[::2, ::2].permute(2, 0, 1), images[number])
    with Image.open(report / "contact-1.png") as sheet:
        sheet.load()
        sheet.info.clear()
        sheet.save(report / "contact-1.png")
    with pytest.raises(DataError, match="run the report again"):
        read_subjects(report, context)
