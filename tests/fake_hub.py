"""What the Hugging Face hub does with repositories of models and datasets, over HTTP on this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlparse

import yaml

TOKEN = "hf_test"
_LARGE = (".parquet", ".safetensors", ".onnx")


@dataclass
class Contents:
    """Files of one repository: now, and at each commit."""

    files: dict[str, bytes] = field(default_factory=dict)
    lfs: set[str] = field(default_factory=set)
    history: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit that a branch, tag or commit stands for, and its files."""
        if revision == "main":
            return (self.history[-1][0] if self.history else "0" * 40), self.files
        wanted = self.tags.get(revision, revision)
        return next((each for each in self.history if each[0] == wanted), None)


class FakeHub:
    """Repositories, LFS, commits, revisions, downloads."""

    def __init__(self) -> None:
        self.contents: dict[str, Contents] = defaultdict(Contents)
        """By ``models/owner/name`` and ``datasets/owner/name``."""
        self.blobs: dict[str, bytes] = {}
        self.repos: dict[str, bool] = {}
        """Name -> whether it is private."""
        self.commits: list[list[str]] = []
        self.uploads = 0
        self.read_only = False
        self.address = ""
        self.breaks_after: int | None = None
        """The number of uploads after which every further one fails."""
        self.commits_allowed: int | None = None
        """The number of commits after which every further one fails."""
        self.too_many: dict[str, int] = {}
        """Part of a request's path -> how many such requests are answered with 429."""
        self.wait: dict[str, str] = {"Retry-After": "7"}
        """What such an answer says of the wait."""

    @property
    def files(self) -> dict[str, bytes]:
        """Those of the dataset ``me/pairs``."""
        return self.contents["datasets/me/pairs"].files

    def handle(self, method: str, path: str, token: str | None, body: bytes) -> tuple[int, dict[str, str], bytes]:
        limited = next((part for part, left in self.too_many.items() if part in path and left), None)
        if limited is not None:
            self.too_many[limited] -= 1
            return 429, self.wait, b'{"error": "too many requests"}'
        if path.startswith("/lfs/") and method == "PUT":  # a signed address: no token
            if self.breaks_after is not None and self.uploads >= self.breaks_after:
                return 400, {}, b"storage says no"
            self.uploads += 1
            self.blobs[path.rsplit("/", 1)[1]] = body
            return 200, {}, b""
        if token != TOKEN:
            return 401, {"X-Error-Message": "Invalid credentials in Authorization header"}, b"{}"
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self._json({"errors": _card_errors(json.loads(body)["content"]), "warnings": []})
        found = re.fullmatch(r"(?:/api)?/(?:(models|datasets)/)?([^/]+/[^/]+?)(?:\.git)?(/.*)?", path)
        assert found is not None, f"the fake hub does not know {method} {path}"
        kind, name, rest = found[1] or "models", found[2], found[3] or ""
        if name not in self.repos:
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
        if self.read_only and method == "POST":
            return 403, {}, b'{"error": "forbidden"}'
        own = self.contents[f"{kind}/{name}"]
        if rest.startswith("/preupload/"):
            return self._json({"files": [self._mode(own, item) for item in json.loads(body)["files"]]})
        if rest == "/info/lfs/objects/batch":
            return self._json({"transfer": "basic", "objects": [self._action(x) for x in json.loads(body)["objects"]]})
        if rest.startswith("/commit/"):
            return self._commit(own, f"{kind}/{name}".removeprefix("models/"), body)
        return self._read(own, name, rest, f"{method} {path}")

    def _create(self, asked: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else f"me/{asked['name']}"
        url = f"{self.address}/{'datasets/' if asked.get('type') == 'dataset' else ''}{name}"
        if name in self.repos:
            return 409, {}, json.dumps({"error": "exists", "url": url}).encode()
        if self.read_only:
            return 403, {}, b'{"error": "forbidden"}'
        self.repos[name] = asked.get("visibility", "public") == "private" or bool(asked.get("private"))
        return self._json({"url": url})

    def _read(self, own: Contents, name: str, rest: str, request: str) -> tuple[int, dict[str, str], bytes]:
        action, _, more = rest.lstrip("/").partition("/")
        revision, _, file = (unquote(more) or "main").partition("/")
        at = own.at(revision)
        if at is None:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
        commit, files = at
        if action == "tree":
            return self._json([self._entry(own, path) for path in sorted(files)])
        if action == "resolve":
            data = files.get(file)
            if data is None:
                return 404, {"X-Error-Code": "EntryNotFound"}, b""
            return 200, {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": commit}, data
        assert action in ("", "revision"), f"the fake hub does not know {request}"
        return self._json({"id": name, "sha": commit, "tags": [], "siblings": [{"rfilename": path} for path in files]})

    def _mode(self, own: Contents, item: dict[str, Any]) -> dict[str, Any]:
        path, large = item["path"], item["path"].endswith(_LARGE)
        mode = {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
        return mode | ({"oid": self._entry(own, path)["oid"]} if path in own.files else {})

    def _action(self, item: dict[str, Any]) -> dict[str, Any]:
        if item["oid"] in self.blobs:
            return item
        return item | {"actions": {"upload": {"href": f"{self.address}/lfs/{item['oid']}"}}}

    def _commit(self, own: Contents, place: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if self.commits_allowed is not None and len(self.commits) >= self.commits_allowed:
            return 400, {}, b'{"error": "no more"}'
        touched: list[str] = []
        for line in body.decode().splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                own.files[value["path"]] = base64.b64decode(value["content"])
                touched.append(value["path"])
            elif operation["key"] == "lfsFile":
                own.files[value["path"]] = self.blobs[value["oid"]]
                own.lfs.add(value["path"])
                touched.append(value["path"])
        self.commits.append(touched)
        commit = f"{len(self.commits):040x}"
        own.history.append((commit, dict(own.files)))
        return self._json(
            {"commitUrl": f"{self.address}/{place}/commit/{commit}", "commitOid": commit, "hookOutput": ""}
        )

    def _entry(self, own: Contents, name: str) -> dict[str, Any]:
        data = own.files[name]
        blob = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
        entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": blob}
        if name in own.lfs:
            digest = hashlib.sha256(data).hexdigest()
            entry["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 130}
        return entry

    def _json(self, value: Any) -> tuple[int, dict[str, str], bytes]:
        return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()


def _card_errors(card: str) -> list[dict[str, str]]:
    """What the hub finds wrong with a card's header: the part of its rules that topcoat's cards meet."""
    header = yaml.safe_load(card.split("---", 2)[1])
    errors = []
    if header.get("license") == "other" and not header.get("license_name"):
        errors.append("license_name is required when license is other")
    for model in header.get("model-index", ()):
        for result in model["results"]:
            complete = {"type"} <= set(result["task"]) and {"type", "name"} <= set(result["dataset"])
            if not (model["name"] and complete and all({"type", "value"} <= set(one) for one in result["metrics"])):
                errors.append(f"model-index is incomplete: {result}")
    return [{"message": error} for error in errors]


@contextmanager
def serving(fake: FakeHub) -> Iterator[FakeHub]:
    """Serve ``fake`` at its ``address``."""

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(size)
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = self._chunks()
            bearer = self.headers.get("Authorization")
            token = bearer.removeprefix("Bearer ") if bearer else None
            status, headers, data = fake.handle(self.command, urlparse(self.path).path, token, body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def _chunks(self) -> bytes:
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        do_GET = do_POST = do_PUT = do_HEAD = _serve

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        from huggingface_hub.utils import close_session

        close_session()
        server.shutdown()
        server.server_close()
        thread.join()
