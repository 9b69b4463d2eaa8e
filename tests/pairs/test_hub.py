from __future__ import annotations

import email.utils
import hashlib
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fake_hub import TOKEN, FakeHub, serving
from topcoat.errors import DataError, UsageError
from topcoat.generators.base import ModelPair
from topcoat.pairs import PairDataset, build_pairs
from topcoat.pairs.hub import push_pairs
from topcoat.pairs.manifest import ShardEntry, write_card, write_manifest
from topcoat.prompts import sample_prompts

# huggingface_hub's own upload of large files warns so with the HTTP library of now
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True, raising=False)
    with serving(FakeHub()) as fake:
        yield fake


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
