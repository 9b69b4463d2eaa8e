from __future__ import annotations

from pathlib import Path

import pydantic
import pytest

from topcoat.config import StrictModel, load_config
from topcoat.errors import UsageError


class Inner(StrictModel):
    depth: int = pydantic.Field(default=2, ge=1)


class Outer(StrictModel):
    name: str
    rate: float = 0.1
    inner: Inner = Inner()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("a.yaml", "name: x\nrate: 1e-4\ninner:\n  depth: 3\n"),
        ("a.toml", 'name = "x"\nrate = 1e-4\n[inner]\ndepth = 3\n'),
        ("a.json", '{"name": "x", "rate": 1e-4, "inner": {"depth": 3}}'),
    ],
)
def test_the_three_file_types_say_the_same(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).write_text(text)
    assert load_config(tmp_path / file, Outer) == Outer(name="x", rate=1e-4, inner=Inner(depth=3))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: x\nrat: 1\n", "rat: unknown key, did you mean rate"),
        ("name: x\nzzz: 1\n", "zzz: unknown key, use one of: name, rate, inner"),
        ("name: x\ninner:\n  dept: 1\n", "inner.dept: unknown key, did you mean depth"),
        ("name: x\ninner:\n  depth: 0\n", "inner.depth: input should be greater than or equal to 1, not 0"),
        ("rate: 1\n", "name: is missing"),
        ("name: x\nrate: .nan\n", "rate: input should be a finite number"),
        ("- 1\n", "it holds a list"),
        ("", "it holds nothing"),
        ("a: [\n", "is not valid YAML"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        load_config(path, Outer)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        load_config(tmp_path / "absent.yaml", Outer)
    with pytest.raises(UsageError, match=r"use one of: \.yaml"):
        load_config(tmp_path / "a.ini", Outer)
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot be read"):
        load_config(tmp_path / "x.toml", Outer)


def test_records_are_frozen() -> None:
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        Inner().depth = 3
