from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from topcoat.cli.app import app


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--host", "0.0.0.0"], "give --api-key-file, or say --without-key"),
        (["--api-key-file", "nothing"], "nothing cannot be read as a file of keys"),
        (["--pair", "sdxl"], "no head is shipped for the pair sdxl"),
        (["--pair", "sdxl", "--head", "embedded"], "the head embedded is the mini pair's own"),
        (["--pair", "none", "--head", "none"], "there is nothing to serve"),
        (["--size", "large"], "--size large is no size"),
        (["--host", "203.0.113.1", "--without-key"], "cannot listen on 203.0.113.1:8000"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["serve", *words])
    assert result.exit_code in (1, 2)
    assert says in result.stderr and result.stderr.count("\n") == 1


def test_edits_are_served_without_torch_until_a_signal(tmp_path: Path) -> None:
    script = "import sys; sys.modules['torch'] = None; from topcoat.cli.app import main; main()"
    command = [sys.executable, "-c", script, "serve", "--pair", "none", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            text = ""
            while "}" not in text:
                line = process.stdout.readline()
                assert line, process.stderr.read()
                text += line
            url = json.loads(text)["url"]
            with urllib.request.urlopen(f"{url}/v1/models") as response:
                assert [model["id"] for model in json.load(response)["data"]] == ["embedded"]
            os.kill(process.pid, signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert not list(tmp_path.iterdir())
