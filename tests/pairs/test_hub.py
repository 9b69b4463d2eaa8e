from __future__ import annotations

import base64
import email.utils
import hashlib
import json
import threading
import time
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest

from topcoat.errors import DataError, UsageError
from topcoat.generators.base import ModelPair
from topcoat.pairs import PairDataset, build_pairs
from topcoat.pairs.hub import push_pairs
from topcoat.pairs.manifest import ShardEntry, write_card, write_manifest
from topcoat.prompts import sample_prompts

# huggingface_hub's own upload of large files warns so with the HTTP library of now
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")

TOKEN = "hf_test"
COMMIT = "c" * 40


class FakeHub:
    """What the Hugging Face hub does with a dataset repository, over HTTP: repositories, LFS, commits, downloads."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.lfs: set[str] = set()
        self.blobs: dict[str, bytes] = {}
        self.repos: dict[str, bool] = {}
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
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else f"me/{asked['name']}"
            if name in self.repos:
                return 409, {}, json.dumps({"error": "exists", "url": f"{self.address}/datasets/{name}"}).encode()
            if self.read_only:
                return 403, {}, b'{"error": "forbidden"}'
            self.repos[name] = asked.get("visibility", "public") == "private" or bool(asked.get("private"))
            return self._json({"url": f"{self.address}/datasets/{name}"})
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if "me/pairs" not in self.repos:
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
        if self.read_only and method == "POST":
            return 403, {}, b'{"error": "forbidden"}'
        rest = path.removeprefix("/api/datasets/me/pairs").removeprefix("/datasets/me/pairs")
        if rest.startswith("/preupload/"):
            return self._json({"files": [self._mode(item) for item in json.loads(body)["files"]]})
        if rest == ".git/info/lfs/objects/batch":
            return self._json({"transfer": "basic", "objects": [self._action(x) for x in json.loads(body)["objects"]]})
        if rest.startswith("/commit/"):
            return self._commit(body)
        if rest.startswith("/tree/"):
            return self._json([self._entry(name) for name in sorted(self.files)])
        if rest.startswith("/resolve/"):
            data = self.files.get(unquote(rest.split("/", 3)[3]))
            if data is None:
                return 404, {"X-Error-Code": "EntryNotFound"}, b""
            etag = hashlib.sha1(data).hexdigest()
            return 200, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, data
        if rest == "" or rest.startswith("/revision/"):
            return self._json({"id": "me/pairs", "sha": COMMIT, "tags": [], "siblings": []})
        raise AssertionError(f"the fake hub does not know {method} {path}")

    def _mode(self, item: dict[str, Any]) -> dict[str, Any]:
        path, large = item["path"], item["path"].endswith(".parquet")
        mode = {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
        return mode | ({"oid": self._entry(path)["oid"]} if path in self.files else {})

    def _action(self, item: dict[str, Any]) -> dict[str, Any]:
        if item["oid"] in self.blobs:
            return item
        return item | {"actions": {"upload": {"href": f"{self.address}/lfs/{item['oid']}"}}}

    def _commit(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if self.commits_allowed is not None and len(self.commits) >= self.commits_allowed:
            return 400, {}, b'{"error": "no more"}'
        touched: list[str] = []
        for line in body.decode().splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
                touched.append(value["path"])
            elif operation["key"] == "lfsFile":
                self.files[value["path"]] = self.blobs[value["oid"]]
                self.lfs.add(value["path"])
                touched.append(value["path"])
        self.commits.append(touched)
        return self._json(
            {"commitUrl": f"{self.address}/datasets/me/pairs/commit/{COMMIT}", "commitOid": COMMIT, "hookOutput": ""}
        )

    def _entry(self, name: str) -> dict[str, Any]:
        data = self.files[name]
        blob = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
        entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": blob}
        if name in self.lfs:
            digest = hashlib.sha256(data).hexdigest()
            entry["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 130}
        return entry

    def _json(self, value: Any) -> tuple[int, dict[str, str], bytes]:
        return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    fake = FakeHub()

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
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True, raising=False)
    yield fake
    from huggingface_hub.utils import close_session

    close_session()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def dataset(tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> PairDataset:
    return build_pairs(tmp_path / "pairs", sample_prompts(10), fake_pair, shard_size=4, generators=fake_generators)


SHARDS = [f"data/train-0000{number}.parquet" for number in range(3)]


def test_everything_arrives_byte_for_byte(hub: FakeHub, dataset: PairDataset) -> None:
    done = push_pairs(dataset.folder, "me/pairs", token=TOKEN, endpoint=hub.address)
    assert hub.repos == {"me/pairs": True}  # private
    assert list(done.sent) == [*SHARDS, "README.md", "manifest.json"] and done.unchanged == () and done.foreign == ()
    assert hub.files == {name: (dataset.folder / name).read_bytes() for name in done.sent}
    assert [sorted(commit) for commit in hub.commits] == [SHARDS, ["README.md", "manifest.json"]]
    assert done.url == f"{hub.address}/datasets/me/pairs"
    assert done.bytes == sum(len(data) for data in hub.files.values())


def test_a_second_push_sends_nothing(hub: FakeHub, dataset: PairDataset) -> None:
    push_pairs(dataset.folder, "me/pairs", token=TOKEN, endpoint=hub.address)
    before = (hub.uploads, len(hub.commits))
    again = push_pairs(dataset.folder, "me/pairs", token=TOKEN, endpoint=hub.address)
    assert again.sent == () and len(again.unchanged) == 5 and again.bytes == 0
    assert (hub.uploads, len(hub.commits)) == before


def test_appending_sends_what_is_new_and_renames_nothing(
    hub: FakeHub, dataset: PairDataset, fake_pair: ModelPair, fake_generators: Any
) -> None:
    push_pairs(dataset.folder, "me/pairs", token=TOKEN, endpoint=hub.address)
    first = dict(hub.files)
    build_pairs(dataset.folder, sample_prompts(16), fake_pair, shard_size=4, generators=fake_generators)
    more = push_pairs(dataset.folder, "me/pairs", token=TOKEN, endpoint=hub.address)
    assert list(more.sent) == [SHARDS[2], "data/train-00003.parquet", "README.md", "manifest.json"]
    assert set(first) <= set(hub.files) and hub.files[SHARDS[0]] == first[SHARDS[0]]


def test_an_interrupted_push_continues(hub: FakeHub, dataset: PairDataset) -> None:
    hub.breaks_after = 1
    with pytest.raises(DataError, match=r"me/pairs could not be sent .*run the same command again, it continues"):
        push_pairs(dataset.folder, "me/pairs", token=TOKEN, endpoint=hub.address)
    assert hub.uploads == 1 and "manifest.json" not in hub.files
    hub.breaks_after = None
    push_pairs(dataset.folder, "me/pairs", token=TOKEN, endpoint=hub.address)
    assert hub.uploads == 3  # the shard that had arrived was not sent again
    assert hub.files == {name: (dataset.folder / name).read_bytes() for name in (*SHARDS, "README.md", "manifest.json")}


def test_a_dry_run_only_looks(hub: FakeHub, dataset: PairDataset) -> None:
    done = push_pairs(dataset.folder, "me/pairs", token=TOKEN, endpoint=hub.address, dry_run=True)
    assert len(done.sent) == 5 and hub.repos == {} and hub.files == {}


def test_a_repository_may_be_public(hub: FakeHub, dataset: PairDataset) -> None:
    push_pairs(dataset.folder, "me/pairs", token=TOKEN, endpoint=hub.address, private=False)
    assert hub.repos == {"me/pairs": False}


def test_other_pairs_are_not_overwritten(
    hub: FakeHub, dataset: PairDataset, fake_pair: ModelPair, fake_generators: Any, tmp_path: Path
) -> None:
    push_pairs(dataset.folder, "me/pairs", token=TOKEN, endpoint=hub.address)
    before = dict(hub.files)
    other = fake_pair.model_copy(update={"distilled": fake_pair.distilled.model_copy(update={"steps": 1})})
    build_pairs(tmp_path / "other", sample_prompts(2), other, generators=fake_generators)
    with pytest.raises(
        DataError, match=r"holds pairs of other settings \(distilled.steps: 2, not 1\); nothing was sent"
    ):
        push_pairs(tmp_path / "other", "me/pairs", token=TOKEN, endpoint=hub.address)
    assert hub.files == before


def test_foreign_shards_are_named_and_left_alone(hub: FakeHub, dataset: PairDataset) -> None:
    hub.repos["me/pairs"] = False
    hub.files["data/train-00009.parquet"] = b"older"
    done = push_pairs(dataset.folder, "me/pairs", token=TOKEN, endpoint=hub.address)
    assert done.foreign == ("data/train-00009.parquet",) and hub.files["data/train-00009.parquet"] == b"older"


def test_what_the_hub_refuses_is_one_sentence(
    hub: FakeHub, dataset: PairDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="does not accept the token; set HF_TOKEN to a valid one that may write"):
        push_pairs(dataset.folder, "me/pairs", token="hf_wrong", endpoint=hub.address)
    hub.read_only = True
    with pytest.raises(DataError, match="the token may not write to me/pairs"):
        push_pairs(dataset.folder, "me/pairs", token=TOKEN, endpoint=hub.address)
    hub.repos["me/pairs"] = True
    with pytest.raises(DataError, match="the token may not write to me/pairs"):
        push_pairs(dataset.folder, "me/pairs", token=TOKEN, endpoint=hub.address)
    with pytest.raises(UsageError, match="'no/good/name' is not the name of a repository; write owner/name"):
        push_pairs(dataset.folder, "no/good/name", token=TOKEN, endpoint=hub.address)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(DataError, match="no Hugging Face token on this machine; set HF_TOKEN"):
        push_pairs(dataset.folder, "me/pairs", endpoint=hub.address)


def test_no_network_is_one_sentence(dataset: PairDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # huggingface_hub tries again for half a minute
    with pytest.raises(DataError, match=r"http://127.0.0.1:9 cannot be reached; check the network"):
        push_pairs(dataset.folder, "me/pairs", token=TOKEN, endpoint="http://127.0.0.1:9")


def test_a_damaged_shard_is_not_sent(hub: FakeHub, dataset: PairDataset) -> None:
    path = dataset.folder / SHARDS[1]
    path.write_bytes(path.read_bytes()[:-9] + b"x" * 9)
    with pytest.raises(DataError, match="is damaged"):
        push_pairs(dataset.folder, "me/pairs", token=TOKEN, endpoint=hub.address)
    assert hub.repos == {}


@pytest.fixture
def many(dataset: PairDataset, tmp_path: Path) -> Path:
    """A dataset of 1,120 shards, as 280,000 pairs are by default; all are copies of one, with a byte of their own."""
    folder = tmp_path / "many"
    shard = (dataset.folder / SHARDS[2]).read_bytes()
    (folder / "data").mkdir(parents=True)
    entries: list[ShardEntry] = []
    rows = dataset.manifest.shards[2].rows
    at = shard.index(b"IEND")  # in a picture that is not decoded here
    for number in range(1120):
        own = shard[: at - 8] + number.to_bytes(4, "big") + shard[at - 4 :]
        name = f"train-{number:05d}.parquet"
        (folder / "data" / name).write_bytes(own)
        entries.append(ShardEntry(name=name, rows=rows, sha256=hashlib.sha256(own).hexdigest(), size_bytes=len(own)))
    manifest = dataset.manifest.model_copy(update={"shards": tuple(entries)})
    write_manifest(folder, manifest)
    write_card(folder, manifest)
    return folder


def test_many_shards_are_few_commits_and_a_break_in_the_middle_is_continued(hub: FakeHub, many: Path) -> None:
    hub.commits_allowed = 5
    with pytest.raises(DataError, match="run the same command again, it continues"):
        push_pairs(many, "me/pairs", token=TOKEN, endpoint=hub.address)
    arrived = {name for commit in hub.commits for name in commit}
    assert len(hub.commits) == 5 and 0 < len(arrived) < 1120 and "manifest.json" not in hub.files
    uploads = hub.uploads
    hub.commits_allowed = None
    progress: list[tuple[int, int]] = []
    done = push_pairs(
        many, "me/pairs", token=TOKEN, endpoint=hub.address, on_progress=lambda *each: progress.append(each)
    )
    assert arrived <= set(done.unchanged) and not arrived & set(done.sent)
    assert len(hub.commits) <= 20 and hub.commits[-1] == ["README.md", "manifest.json"]
    assert hub.uploads <= 1120 and hub.uploads > uploads  # nothing is uploaded twice, not even what was not committed
    assert progress[0] == (0, len(done.sent)) and progress[-1] == (len(done.sent), len(done.sent))
    assert hub.files == {name: (many / name).read_bytes() for name in (*done.sent, *done.unchanged)}


@pytest.mark.parametrize("request_", ["/repos/create", "/commit/", "/preupload/", "/tree/", "/lfs/", "objects/batch"])
@pytest.mark.parametrize("asked", ["seconds", "date", "nothing"])
def test_too_many_requests_are_waited_for(
    hub: FakeHub, dataset: PairDataset, monkeypatch: pytest.MonkeyPatch, request_: str, asked: str
) -> None:
    """More often than huggingface_hub itself tries again, and in those requests too that it makes once."""
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    hub.repos["me/pairs"] = True
    hub.too_many = {request_: 8}
    soon = email.utils.formatdate(time.time() + 7, usegmt=True)
    hub.wait = {"seconds": {"Retry-After": "7"}, "date": {"Retry-After": soon}, "nothing": {}}[asked]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        push_pairs(dataset.folder, "me/pairs", token=TOKEN, endpoint=hub.address)
    assert "manifest.json" in hub.files and hub.too_many == {request_: 0}
    own = [str(each.message) for each in said if "takes no more requests for now; going on in" in str(each.message)]
    assert own
    if asked == "seconds":
        assert min(waits) >= 7
    elif asked == "nothing":
        assert max(waits) >= 30


def test_a_hub_that_never_answers_is_given_up(
    hub: FakeHub, dataset: PairDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    hub.too_many, hub.wait = {"/repos/create": 10_000}, {"Retry-After": "3000"}
    with (
        pytest.warns(UserWarning, match="going on in 3001 s"),
        pytest.raises(DataError, match="takes no more requests for now; run the same command again in an hour"),
    ):
        push_pairs(dataset.folder, "me/pairs", token=TOKEN, endpoint=hub.address)
    assert waits == [3001, 3001]
