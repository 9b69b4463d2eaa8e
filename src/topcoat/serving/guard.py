"""What is refused before any work: strangers, other sites' pages, bodies that are too large or too slow."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from topcoat.errors import DataError
from topcoat.serving.problems import problem

OPEN_PATHS = ("/health", "/ready")
"""What is answered without a key."""
JSON_BYTES = 2**20
"""Of a body that is no form."""
BODY_SECONDS = 30.0
"""In which a body has to be sent."""
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_KEY_CHARACTERS = 16


def read_keys(path: Path) -> tuple[str, ...]:
    """The keys in a file, one a line; empty lines and those that start with # are no keys.

    Raises `DataError` if there are none, or one is too short.
    """
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a file of keys; give a text file with one key a line") from error
    keys = tuple(line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#"))
    if not keys:
        raise DataError(f"{path} holds no key; write one of {_KEY_CHARACTERS} characters or more a line")
    if any(len(key) < _KEY_CHARACTERS for key in keys):
        raise DataError(f"{path} holds a key of fewer than {_KEY_CHARACTERS} characters; use longer, random ones")
    return keys


class Guard:
    """ASGI middleware around the whole app, the page included.

    A key comes as ``Authorization: Bearer KEY``, or as the password of HTTP's basic scheme, for which browsers ask.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Sequence[str] = (),
        hosts: Sequence[str] | None = None,
        origins: Sequence[str] = (),
        max_bytes: int,
        max_bodies: int,
    ) -> None:
        """``hosts`` are the names by which the server may be called, None for any; ``origins`` other sites whose pages
        may call it. At most ``max_bodies`` are read at a time."""
        self._app = app
        self._keys = [_digest(key) for key in keys]
        self._hosts = None if hosts is None else {host.lower() for host in hosts}
        self._origins = set(origins)
        self._max_bytes, self._max_bodies = max_bytes, max_bodies
        self._bodies = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope, Headers(scope=scope))
        if refusal is not None:
            status, message, extra = refusal
            await problem(status, message, headers=extra)(scope, receive, send)
        elif scope["type"] == "http" and scope["method"] not in _SAFE_METHODS:
            await self._with_body(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str, dict[str, str]] | None:
        host = headers.get("host", "")
        if self._hosts is not None and _name_of(host) not in self._hosts:
            return 421, "the server is not called by this name; use the address that it printed", {}
        origin = headers.get("origin")
        is_safe = scope["type"] == "http" and scope["method"] in _SAFE_METHODS
        if origin is not None and not is_safe and origin not in self._origins and urlsplit(origin).netloc != host:
            return 403, "a page of another site may not call this server; start it with --cors-origin to allow that", {}
        is_preflight = is_safe and scope["method"] == "OPTIONS" and origin in self._origins
        if self._keys and scope["path"] not in OPEN_PATHS and not is_preflight:
            given = _digest(_key_in(headers.get("authorization", "")))
            if not sum(hmac.compare_digest(given, key) for key in self._keys):  # compared with every one
                ask = {"WWW-Authenticate": 'Basic realm="topcoat", charset="UTF-8"'}
                return 401, "the API key is missing or wrong; send Authorization: Bearer KEY", ask
        return None

    async def _with_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request whose body is bounded in bytes and in time."""
        headers = Headers(scope=scope)
        is_form = headers.get("content-type", "").lower().startswith("multipart/")
        limit = self._max_bytes if is_form else min(JSON_BYTES, self._max_bytes)
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > limit:
            await problem(413, _too_large(limit), code="too_large")(scope, receive, send)
            return
        if self._bodies >= self._max_bodies:
            busy = problem(429, "too many requests are being sent; try again in a moment", headers={"Retry-After": "1"})
            await busy(scope, receive, send)
            return
        body = _Body(receive, limit)
        self._bodies += 1
        body.on_end = self._one_less
        try:
            await self._app(scope, body.receive, send)
        finally:
            body.end()

    def _one_less(self) -> None:
        self._bodies -= 1


class _Body:
    """A request's body as it comes in."""

    def __init__(self, receive: Receive, limit_bytes: int) -> None:
        self._receive, self._limit, self._bytes = receive, limit_bytes, 0
        self._until = asyncio.get_running_loop().time() + BODY_SECONDS
        self._is_over = False
        self.on_end = lambda: None

    def end(self) -> None:
        """All of it is there, or no more will come."""
        if not self._is_over:
            self._is_over = True
            self.on_end()

    async def receive(self) -> Message:
        """See ASGI; raises `HTTPException` for a body that is too large or too slow."""
        if self._is_over:
            return await self._receive()
        left = self._until - asyncio.get_running_loop().time()
        try:
            message = await asyncio.wait_for(self._receive(), max(left, 0.001))
        except (asyncio.TimeoutError, TimeoutError):
            self.end()
            message = f"the body did not arrive within {BODY_SECONDS:g} s; send it faster, or make it smaller"
            raise HTTPException(408, message, {"Connection": "close"}) from None
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._limit:
            self.end()
            raise HTTPException(413, _too_large(self._limit), {"Connection": "close"})
        if not message.get("more_body", False):
            self.end()
        return message


def _too_large(limit_bytes: int) -> str:
    return f"the body is larger than {limit_bytes} bytes; make it smaller"


def _digest(key: str) -> bytes:
    """Of one length for all keys, so that comparing tells nothing of theirs."""
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()


def _key_in(authorization: str) -> str:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode("utf-8").partition(":")[2]
        except (binascii.Error, ValueError):
            return ""
    return ""


def _name_of(host: str) -> str:
    """A ``Host`` header without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()
