from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from topcoat.errors import DataError
from topcoat.files import atomic_path, read_json, sha256_of, write_json, write_text


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
