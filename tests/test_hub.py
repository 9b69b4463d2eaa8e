from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from topcoat import hub
from topcoat.errors import DataError, ModelError, UsageError


class Response:
    def __init__(self, status_code: int) -> None:
        self.status_code = status_code


class FakeApi:
    """Stands in for `huggingface_hub.HfApi`; ``error`` is what every call raises."""

    endpoint = "https://hub.example"
    error: Exception | None = None
    uploads: ClassVar[list[dict[str, object]]] = []

    def __init__(self, *, token: str, endpoint: str | None) -> None:
        assert token == "hf_test" and endpoint is None

    def create_repo(self, name: str, **_: object) -> str:
        if FakeApi.error is not None:
            raise FakeApi.error
        return f"{self.endpoint}/{name}"

    def upload_folder(self, **options: object) -> None:
        FakeApi.uploads.append(options)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> type[FakeApi]:
    monkeypatch.setattr("huggingface_hub.HfApi", FakeApi)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_test")
    monkeypatch.setattr(FakeApi, "uploads", [])
    monkeypatch.setattr(FakeApi, "error", None)
    return FakeApi


def error(kind: str, text: str = "first line.\nsecond line", status: int | None = None) -> Exception:
    made: Exception = type(kind, (Exception,), {})(text)
    made.response = None if status is None else Response(status)  # pyright: ignore[reportAttributeAccessIssue]
    return made


@pytest.mark.parametrize("source", ["./missing", "/missing", "~/missing", "missing", "a/b/c", "a\\b/c"])
def test_a_mistyped_path_is_not_looked_up(source: str) -> None:
    with pytest.raises(
        ModelError, match=r"there is no folder .* for the head; give a folder, or a hub id like owner/n"
    ):
        hub.check_source(source, "the head")
    with pytest.raises(ModelError, match="there is no folder"):
        hub.download(source, ["config.json"], what="the head")


def test_folders_and_ids_are_sources(tmp_path: Path) -> None:
    hub.check_source(str(tmp_path), "the head")
    hub.check_source("owner/name", "the head")


def test_only_the_wanted_files_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(repo: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        assert (repo, revision, allow_patterns) == ("owner/name", "abc", ["a.json", "b.txt"])
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert hub.download("owner/name", ("a.json", "b.txt"), what="the head", revision="abc") == tmp_path


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (
            "GatedRepoError",
            "owner/name is gated; accept its licence (FLUX non-commercial) at https://huggingface.co/owner/name, then "
            "set HF_TOKEN to a token of that account",
        ),
        (
            "RepositoryNotFoundError",
            "owner/name is not on the Hugging Face hub or is private; check the id or set HF_TOKEN (see "
            "https://huggingface.co/owner/name)",
        ),
        (
            "LocalEntryNotFoundError",
            "owner/name is not on this machine and the Hugging Face hub cannot be reached; connect once to download it "
            "from https://huggingface.co/owner/name (set HF_TOKEN if it is gated), give a local folder, or use mini",
        ),
        (
            "ValueError",
            "the model cannot be loaded from owner/name (outer); see https://huggingface.co/owner/name for what it "
            "needs",
        ),
    ],
)
def test_loading_errors_are_told_apart_by_their_cause(kind: str, sentence: str) -> None:
    outer = OSError("outer")
    outer.__cause__ = error(kind)
    found = hub.load_error(outer, "the model", "owner/name", licence="FLUX non-commercial", otherwise="use mini")
    assert found == sentence


def test_a_damaged_folder_is_named(tmp_path: Path) -> None:
    found = hub.load_error(error("GatedRepoError"), "the model", str(tmp_path))
    assert found.startswith(f"the model cannot be loaded from {tmp_path} (first line); the folder is damaged")
    assert hub.load_error(error("GatedRepoError"), "it", str(tmp_path), "owner/name").startswith(f"{tmp_path} or owner")


def test_long_and_empty_reasons() -> None:
    assert len(hub.first_line(ValueError("word " * 100))) <= 200
    assert hub.first_line(ValueError("")) == "ValueError"


def test_a_folder_is_sent(api: type[FakeApi], tmp_path: Path) -> None:
    assert hub.upload(tmp_path, "owner/name", "why") == "https://hub.example/owner/name"
    assert api.uploads == [
        {
            "repo_id": "owner/name",
            "repo_type": "model",
            "folder_path": tmp_path,
            "commit_message": "why",
        }
    ]


@pytest.mark.parametrize(
    ("failure", "sentence"),
    [
        (error("HfHubHTTPError", status=401), "https://hub.example does not accept the token; set HF_TOKEN"),
        (error("HfHubHTTPError", status=403), "the token may not write to owner/name"),
        (error("RepositoryNotFoundError"), "owner/name is not on https://hub.example or this token may not see it"),
        (error("ConnectError"), "https://hub.example cannot be reached; check the network and run the same command"),
        (error("Odd"), r"owner/name could not be sent \(first line\); run the same command again, it continues"),
    ],
)
def test_sending_errors_are_one_sentence(api: type[FakeApi], tmp_path: Path, failure: Exception, sentence: str) -> None:
    api.error = failure
    with pytest.raises(ModelError, match=sentence):
        hub.upload(tmp_path, "owner/name", "why")
    with pytest.raises(DataError, match=sentence), hub.sending("owner/name", "dataset") as sender:
        sender.create_repo("owner/name")


def test_sending_needs_a_name_and_a_token(api: type[FakeApi], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"'\./here' is not the name of a repository; write owner/name"):
        hub.upload(tmp_path, "./here", "why")
    api.error = error("HFValidationError")
    with pytest.raises(UsageError, match="'bad/--name' is not the name of a repository"):
        hub.upload(tmp_path, "bad/--name", "why")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(ModelError, match=r"no Hugging Face token on this machine; set HF_TOKEN .* hf auth login"):
        hub.upload(tmp_path, "owner/name", "why")
