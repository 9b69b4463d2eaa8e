from __future__ import annotations

from pathlib import Path

import pytest

from topcoat.errors import DataError
from topcoat.pictures.folders import list_pictures


def test_listing_a_folder(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", ".hidden.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "c.png").mkdir()
    assert [path.name for path in list_pictures(tmp_path)] == ["a.JPG", "b.png"]
    with pytest.raises(DataError, match="holds no pictures"):
        list_pictures(tmp_path / "c.png")
    with pytest.raises(DataError, match="is not a folder"):
        list_pictures(tmp_path / "absent")
