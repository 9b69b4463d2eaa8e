"""What of gradio's routes is open: what the page itself needs, and no file but the page's own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from topcoat.serving.page.files import PageFiles

_READ = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/login_check/?|/logout|/(assets|static)/.+"
    r"|/gradio_api/(queue/data|upload_progress|startup-events|app_id/?|login_check/?|theme\.css|info/?)"
    r"|/gradio_api/heartbeat/[\w-]+"
)
_WRITE = re.compile(r"/login/?|/gradio_api/(queue/join/?|upload|cancel|reset/?)")
_FILE, _HEARTBEAT = "/gradio_api/file=", "/gradio_api/heartbeat/"
_JOIN_BYTES = 256 * 1024
"""Of what a click sends; pictures come by upload."""
_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; font-src 'self' data:; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'; connect-src 'self'; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'self'"
)


class Confined:
    """Lets through what the page asks for; anything else is 404, and a file of another place 400.

    Answers forbid the browser to ask another machine for anything.
    """

    def __init__(self, app: ASGIApp, files: PageFiles) -> None:
        self.app, self.files = app, files
        self._open_pages: set[asyncio.Task[None]] = set()

    def end(self) -> None:
        """Hang up on pages that are open: a server that stops would wait for them, and they never end by themselves."""
        for task in self._open_pages:
            task.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
        if not self._is_open(scope["method"], path):
            await _answer(404, f"there is nothing at {path[:100]}")(scope, receive, send)
            return
        if path.startswith("/gradio_api/queue/join"):
            body = await _body(receive)
            if body is None or not all(self.files.holds(each) for each in _paths(body)):
                await _answer(400, "a picture comes by upload alone, and a click sends little")(scope, receive, send)
                return
            receive = _again(body, receive)
        work = self.app(scope, receive, _with_headers(send))
        if path.startswith(_HEARTBEAT):
            task = asyncio.ensure_future(work)
            self._open_pages.add(task)
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self._open_pages.discard(task)
        else:
            await work

    def _is_open(self, method: str, path: str) -> bool:
        if method == "POST":
            return _WRITE.fullmatch(path) is not None
        if method not in ("GET", "HEAD"):
            return False
        if path.startswith(_FILE):
            return self.files.holds(unquote(path.removeprefix(_FILE)))
        return _READ.fullmatch(path) is not None


def _paths(body: bytes) -> Iterator[str]:
    """Every value that gradio would take for the path of a file."""
    try:
        waiting: list[Any] = [json.loads(body)]
    except ValueError:
        return
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            path = value.get("path")
            if isinstance(path, str) or "meta" in value:
                yield str(path)
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


async def _body(receive: Receive) -> bytes | None:
    """The body of a request; None where it is too large."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > _JOIN_BYTES:
            return None
        if not message.get("more_body", False):
            return body


def _again(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["content-security-policy"] = _POLICY
            headers["x-content-type-options"] = "nosniff"
            headers["referrer-policy"] = "no-referrer"
        await send(message)

    return sending


def _answer(status: int, message: str) -> JSONResponse:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return JSONResponse({"error": error}, status)
