from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from topcoat.errors import DataError
from topcoat.files import FolderLock, atomic_path, read_json, sha256_of, write_json, write_text


def test_a_file_appears_whole_and_alone(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "file.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("content")
        assert not target.exists() and temporary.parent == target.parent
    assert target.read_text() == "content"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(type(error)), atomic_path(target) as temporary:
        temporary.write_text("half of the n")
        raise error
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "permission")]
)
def test_a_disk_that_cannot_take_it_is_one_sentence(tmp_path: Path, number: int, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught, atomic_path(tmp_path / "file"):
        raise OSError(number, os.strerror(number))
    assert str(tmp_path / "file") in str(caught.value)


def test_a_path_through_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="a part of its path is a file"), atomic_path(tmp_path / "file" / "below"):
        pass
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="it is a folder"):
        write_text(tmp_path / "folder", "x")


def test_other_errors_keep_their_type(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "file"):
        (tmp_path / "absent").read_text()


def test_json_round_trip_and_refusals(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1, "ü"]})
    assert read_json(tmp_path / "a.json") == {"b": [1, "ü"]}
    assert (tmp_path / "a.json").read_bytes().endswith(b"\n")
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"b": float("nan")})
    assert read_json(tmp_path / "a.json") == {"b": [1, "ü"]}
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        read_json(tmp_path / "bad.json")
    with pytest.raises(DataError, match="is missing"):
        read_json(tmp_path / "absent.json")


def test_sha256(tmp_path: Path) -> None:
    data = bytes(range(256)) * 9000
    (tmp_path / "x").write_bytes(data)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(data).hexdigest()
    with pytest.raises(DataError, match="cannot be read"):
        sha256_of(tmp_path / "absent")


@pytest.fixture(params=[0o022, 0o027, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_every_file_gets_the_mode_that_the_umask_gives(tmp_path: Path, umask: int) -> None:
    write_text(tmp_path / "text", "x")
    with atomic_path(tmp_path / "weights") as temporary:
        save_file({"a": torch.zeros(1)}, temporary)  # makes it readable by its owner alone
    with atomic_path(tmp_path / "open") as temporary:
        temporary.touch()
        temporary.chmod(0o777)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o666 & ~umask}


HOLD = """
import sys
from pathlib import Path
from topcoat.files import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of ``tmp_path / "run"``."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_a_second_process_is_refused_and_told_who_is_first(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(DataError) as caught:
        FolderLock(tmp_path / "run")
    message = str(caught.value)
    assert f"host {socket.gethostname()}, pid {holder.pid}, since 2" in message and "delete" not in message


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    assert (tmp_path / "run" / ".topcoat.lock").exists()
    with FolderLock(tmp_path / "run") as lock:
        assert json.loads(lock.path.read_text())["pid"] == os.getpid()


def test_the_lock_of_another_machine_is_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / ".topcoat.lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "since": "2026-01-01 00:00:00"}))
    with pytest.raises(DataError, match=rf"host elsewhere, pid 1, since 2026.*delete {path}"):
        FolderLock(tmp_path)
    path.write_text("{ no JSON")
    FolderLock(tmp_path).release()


def test_a_lock_leaves_nothing_behind(tmp_path: Path) -> None:
    with FolderLock(tmp_path / "new" / "folder"), pytest.raises(DataError, match=f"pid {os.getpid()}"):
        FolderLock(tmp_path / "new" / "folder")
    assert not (tmp_path / "new" / "folder").exists()
    with FolderLock(tmp_path / "kept", beside=True):
        assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [".kept.lock"]
    with FolderLock(tmp_path / "full"):
        (tmp_path / "full" / "file").touch()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["file"]
    FolderLock(tmp_path / "full")  # dropped without a release
    FolderLock(tmp_path / "full").release()


def test_a_lock_through_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot write into .*a part of its path is a file"):
        FolderLock(tmp_path / "file")
