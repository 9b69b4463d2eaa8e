"""What the server refuses, what it survives, and how it ends; by plain HTTP over a real socket."""

from __future__ import annotations

import asyncio
import base64
import http.client
import io
import json
import os
import random
import signal
import socket
import threading
import time
import uuid
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import FakeGenerator
from tests.serving.conftest import MakeEngine, Served, png
from topcoat.errors import DataError
from topcoat.serving import guard, server
from topcoat.serving.app import create_app
from topcoat.serving.guard import read_keys
from topcoat.serving.server import serve_until_stopped
from topcoat.serving.sockets import open_socket

Serve = Callable[..., Served]
KEY = "a-key-of-more-than-16-characters"
GENERATE = b'{"prompt": "old man", "seed": 1}'


def _ask(
    served: Served, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, Any, Mapping[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        content = response.read()
        is_json = response.headers.get("content-type") == "application/json"
        return response.status, json.loads(content) if is_json else content, dict(response.headers)
    finally:
        connection.close()


def _generate(served: Served, headers: Mapping[str, str] | None = None, body: bytes = GENERATE) -> tuple[int, Any]:
    sent = {"content-type": "application/json", **(headers or {})}
    return _ask(served, "POST", "/v1/images/generations", body, sent)[:2]


def _edit(served: Served, picture: bytes, name: str = "image", file_name: str = "x.png") -> tuple[int, Any]:
    mark = uuid.uuid4().hex
    head = f'--{mark}\r\nContent-Disposition: form-data; name="{name}"; filename="{file_name}"\r\n\r\n'
    body = head.encode() + picture + f"\r\n--{mark}--\r\n".encode()
    return _ask(served, "POST", "/v1/images/edits", body, {"content-type": f"multipart/form-data; boundary={mark}"})[:2]


def test_a_key_is_asked_for_and_may_come_in_two_ways(serve: Serve) -> None:
    served = serve(keys=(KEY, KEY[::-1]))
    basic = base64.b64encode(f"any:{KEY}".encode()).decode()
    for given in (f"Bearer {KEY}", f"bearer {KEY[::-1]}", f"Basic {basic}"):
        assert _generate(served, {"Authorization": given})[0] == 200
    for given in ("", f"Bearer {KEY}x", "Bearer ", "Basic !", "Bearer schl\u00fcssel", f"Digest {KEY}"):
        status, body = _generate(served, {"Authorization": given})
        assert status == 401 and body["error"]["type"] == "authentication_error"
    for path in ("/metrics", "/v1/models", "/openapi.json", "/"):
        assert _ask(served, "GET", path)[0] == 401
    assert [_ask(served, "GET", path)[0] for path in ("/health", "/ready")] == [200, 200]


def test_other_names_and_other_sites_are_refused(serve: Serve) -> None:
    served = serve(hosts=("127.0.0.1", "::1"))
    assert _generate(served, {"Host": "evil.example"})[0] == 421
    assert _generate(served, {"Host": "[::1]:80"})[0] == 200
    for origin in ("https://evil.example", "null"):
        assert _generate(served, {"Origin": origin})[0] == 403
    assert _generate(served, {"Origin": served.url})[0] == 200
    _, _, headers = _ask(served, "GET", "/v1/models", headers={"Origin": "https://evil.example"})
    assert not any(name.lower().startswith("access-control") for name in headers)


def test_cors_is_for_the_sites_that_are_named(serve: Serve) -> None:
    served = serve(cors_origins=("https://studio.example",), keys=(KEY,))
    preflight = {"Origin": "https://studio.example", "Access-Control-Request-Method": "POST"}
    status, _, headers = _ask(served, "OPTIONS", "/v1/images/generations", headers=preflight)
    assert status == 200 and headers["access-control-allow-origin"] == "https://studio.example"
    allowed = {"Origin": "https://studio.example", "Authorization": f"Bearer {KEY}"}
    assert _generate(served, allowed)[0] == 200
    assert _generate(served, {**allowed, "Origin": "https://other.example"})[0] == 403


def test_a_body_that_is_too_large_is_refused_before_it_is_read(serve: Serve) -> None:
    served = serve({"max_upload_bytes": 2048})
    assert _edit(served, png(40))[0] == 413
    with socket.create_connection(("127.0.0.1", served.port)) as client:
        client.sendall(
            b"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n1000\r\n" + b" " * 4096 + b"\r\n"
        )
        assert client.recv(100).startswith(b"HTTP/1.1 413")


def test_a_body_or_head_that_is_too_slow_is_given_up(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.2)
    monkeypatch.setattr(server, "HEADER_SECONDS", 0.2)
    served = serve()
    head = b"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as client:
        client.sendall(head + b"Content-Length: 100\r\n\r\n{")
        assert client.recv(100).startswith(b"HTTP/1.1 408")
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as client:
        client.sendall(head)
        assert client.recv(100) == b""


def test_a_key_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    for text, says in (
        ("# none\n\n", "holds no key"),
        ("short\n", "fewer than 16"),
        ("schl\u00fcssel", "cannot be read"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=says):
            read_keys(path)
    path.write_text(f"# ours\n{KEY}\n\n{KEY[::-1]} \n")
    assert read_keys(path) == (KEY, KEY[::-1])


def _malformed(count: int) -> list[bytes]:
    """Files that are no pictures to take: cut, of other formats, or noise behind a true signature."""
    chance = random.Random(0)
    picture = Image.open(io.BytesIO(png(24)))
    whole: list[bytes] = []
    for name in ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "TIFF", "BMP"):
        buffer = io.BytesIO()
        picture.save(buffer, name)
        whole.append(buffer.getvalue())
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("x", b"0" * 10_000)
    others = [*whole[4:], archive.getvalue(), b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\x80\x04]."]
    made = list(others)
    while len(made) < count:
        source = chance.choice(whole[:4])
        kind = chance.randrange(3)
        if kind == 0:
            made.append(source[: chance.randrange(len(source) // 2)])
        elif kind == 1:
            made.append(source[:16] + chance.randbytes(chance.randrange(1, 400)))
        else:
            made.append(chance.randbytes(chance.randrange(400)))
    return made


def test_malformed_uploads_are_one_sentence_each_and_leave_nothing(serve: Serve) -> None:
    served = serve()
    for number, data in enumerate(_malformed(200)):
        status, body = _edit(served, data, file_name="../../../tmp/x.png" if number % 2 else "x.exe")
        assert status == 400, data[:40]
        assert body["error"]["message"].startswith("the picture is not a") and "\n" not in body["error"]["message"]
    assert served.engine.load.held == 0
    assert _edit(served, png())[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"prompt": NaN}',
        b'{"prompt": ["x"]}',
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "x", "strength": NaN}',
        b'{"prompt": "x", "seed": 1e400}',
        b'{"prompt": "x", "seed": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_body_that_is_no_request_is_400(serve: Serve, body: bytes) -> None:
    status, answer = _generate(serve(), body=body)
    assert status == 400 and "\n" not in answer["error"]["message"] and len(answer["error"]["message"]) < 400


def test_a_form_that_is_no_edit_is_400(serve: Serve) -> None:
    served = serve()
    assert _edit(served, png(), name="picture")[1]["error"]["message"].startswith("the file 'picture' has no place")
    assert _edit(served, png(), name="mask")[1]["error"]["message"].startswith("no picture was sent")
    fields = b"image=http%3A%2F%2Fexample.org%2Fx.png"
    status, body, _ = _ask(
        served, "POST", "/v1/images/edits", fields, {"content-type": "application/x-www-form-urlencoded"}
    )
    assert status == 400 and "no address is ever fetched" in body["error"]["message"]
    for kind in ("application/json", "multipart/form-data", "multipart/form-data; boundary=x"):
        assert _ask(served, "POST", "/v1/images/edits", b"{}", {"content-type": kind})[0] == 400


class Slow:
    """Holds a generator in its work until it is let go."""

    def __init__(self, generator: FakeGenerator) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self._generate = generator.generate_latents
        generator.generate_latents = self.generate

    def generate(self, *arguments: Any, **named: Any) -> Any:
        self.begun.set()
        assert self.go_on.wait(60)
        return self._generate(*arguments, **named)


def _start_request(port: int, body: bytes = GENERATE) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=60)
    head = "POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return client


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_clients_that_hang_up_leave_the_queue(
    serve: Serve, fake_generators: tuple[FakeGenerator, FakeGenerator]
) -> None:
    served = serve({"max_batch": 1, "max_queue": 300})
    generator, load = fake_generators[0], served.engine.load
    slow = Slow(generator)
    first = _start_request(served.port)
    assert slow.begun.wait(60)
    done = len(generator.calls)
    left = [_start_request(served.port) for _ in range(40)]
    _until(lambda: load.held == 41)
    for client in left:
        client.close()
    _until(lambda: load.held == 1 and load.waiting == 0)
    slow.go_on.set()
    assert first.recv(100).startswith(b"HTTP/1.1 200")
    first.close()
    _until(lambda: load.held == 0)
    assert len(generator.calls) == done + 1
    assert _generate(served)[0] == 200


def test_a_signal_ends_the_server_after_what_runs(
    make_engine: MakeEngine, fake_generators: tuple[FakeGenerator, FakeGenerator]
) -> None:
    engine = make_engine()
    bound = open_socket("127.0.0.1", 0)
    answered: list[bytes] = []
    asking: list[threading.Thread] = []

    def ask() -> None:
        slow = Slow(fake_generators[0])
        client = _start_request(bound.getsockname()[1])
        assert slow.begun.wait(60)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.3)  # the server is about to end
        slow.go_on.set()
        answered.append(client.recv(100))
        client.close()

    def on_ready() -> None:
        asking.append(threading.Thread(target=ask))
        asking[0].start()

    app = create_app(engine)
    asyncio.run(serve_until_stopped(app, engine, bound, grace_seconds=30, on_ready=on_ready))
    asking[0].join()
    assert answered[0].startswith(b"HTTP/1.1 200") and not engine.ready
