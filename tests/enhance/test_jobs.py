from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from topcoat.enhance.jobs import PIPE, Found, check_output, find, plan
from topcoat.errors import DataError, UsageError


@pytest.fixture
def shoot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as people have it: pictures, subfolders, links, other files."""
    folder = tmp_path / "shoot"
    (folder / "day1" / "raw").mkdir(parents=True)
    for name in ("a.png", "b.TIF", "day1/c.jpg", "day1/raw/d.webp", "day1/raw/e.nef", "f.gif", ".hidden.png"):
        Image.new("RGB", (8, 8)).save(folder / name, "PNG")
    (folder / "notes.txt").write_text("x")
    (folder / "link.png").symlink_to("a.png")
    (folder / "lost.png").symlink_to("nowhere")
    (folder / "day2").symlink_to("day1")
    monkeypatch.chdir(tmp_path)
    return folder


def names(found: Found) -> list[str]:
    return [str(name) for _, name in found.pictures]


def test_a_folder_and_what_is_left_out(shoot: Path) -> None:
    found = find(["shoot"], recursive=False, output=Path("out"))
    assert names(found) == ["a.png", "b.TIF", "link.png"]
    assert [str(each.path) for each in found.left_out] == ["shoot/f.gif", "shoot/lost.png"]
    assert [str(path) for path in found.folders] == ["shoot/day1", "shoot/day2"]
    assert [path.name for path in found.other_files] == ["notes.txt"]


def test_subfolders_keep_their_structure(shoot: Path) -> None:
    found = find(["shoot"], recursive=True, output=Path("out"))
    assert names(found) == ["a.png", "b.TIF", "day1/c.jpg", "day1/raw/d.webp", "link.png"]
    reasons = {each.path.name: each.reason for each in found.left_out}
    assert set(reasons) == {"f.gif", "e.nef", "lost.png", "day2"} and "not followed" in reasons["day2"]
    jobs = plan(found, Path("out"), one_file=False, format_name="keep")
    assert [str(job.target) for job in jobs][:3] == ["out/a.png", "out/b.TIF", "out/day1/c.jpg"]
    jobs = plan(found, Path("out"), one_file=False, format_name="webp")
    assert [str(job.target) for job in jobs][2:4] == ["out/day1/c.webp", "out/day1/raw/d.webp"]


def test_an_output_inside_the_input_is_no_input(shoot: Path) -> None:
    (shoot / "out").mkdir()
    Image.new("RGB", (8, 8)).save(shoot / "out" / "a.png")
    assert "out/a.png" not in names(find(["shoot"], recursive=True, output=Path("shoot/out")))


def test_patterns(shoot: Path) -> None:
    assert names(find(["shoot/*.png"], recursive=False, output=Path("out"))) == ["a.png"]  # and its link is not another
    assert names(find(["shoot/**/*.webp"], recursive=False, output=Path("out"))) == ["day1/raw/d.webp"]
    found = find(["shoot/*"], recursive=False, output=Path("out"))
    assert names(found) == ["a.png", "b.TIF"] and [path.name for path in found.folders] == ["day1"]
    assert names(find(["shoot/d*"], recursive=True, output=Path("out"))) == ["day1/c.jpg", "day1/raw/d.webp"]
    (odd,) = find(["shoot/*.bmp"], recursive=False, output=Path("out")).left_out
    assert "matches no file" in str(odd)
    Image.new("RGB", (8, 8)).save("shoot/a[1].png")  # a name before it is a pattern
    assert names(find(["shoot/a[1].png"], recursive=False, output=Path("out"))) == ["a[1].png"]


def test_a_home_folder_is_expanded(shoot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(shoot))
    found = find(["~/a.png"], recursive=False, output=Path("out"))
    assert found.pictures == [(shoot / "a.png", Path("a.png"))]
    (job,) = plan(found, Path("~/results/x.png"), one_file=True, format_name="keep")
    assert job.target == shoot / "results" / "x.png"


@pytest.mark.parametrize(
    ("inputs", "says"), [(["empty"], "these are read"), (["parent"], "add --recursive for its 1 subfolders")]
)
def test_folders_without_pictures(inputs: Sequence[str], says: str, shoot: Path) -> None:
    Path("empty").mkdir()
    Path("parent/child").mkdir(parents=True)
    found = find(inputs, recursive=False, output=Path("out"))
    assert says in str(found.left_out[0]) and found.pictures == []


def test_one_file_to_a_file_or_a_folder(shoot: Path) -> None:
    found = find(["shoot/a.png"], recursive=False, output=Path("x"))
    for output, target in (
        ("x.tif", "x.tif"),
        ("x", "x/a.png"),
        ("x.v2", "x.v2/a.png"),
        ("shoot/day1", "shoot/day1/a.png"),
    ):
        (job,) = plan(found, Path(output), one_file=True, format_name="keep")
        assert str(job.target) == target and job.format is not None


def test_a_name_without_a_type_becomes_png(shoot: Path) -> None:
    (shoot / "a.png").rename(shoot / "scan")
    (job,) = plan(find(["shoot/scan"], recursive=False, output=Path("x")), Path("x"), one_file=True, format_name="keep")
    assert str(job.target) == "x/scan.png"


@pytest.mark.parametrize(
    ("inputs", "output", "format_name", "says"),
    [
        (["shoot/a.png"], "x.gif", "keep", "no picture type"),
        (["shoot/a.png"], "x.pdf", "keep", "no picture type"),
        (["shoot/a.png"], "x.png", "jpeg", "--format says jpeg"),
        (["shoot/a.png", "shoot/b.TIF"], "x.png", "keep", "give a folder"),
        (["shoot"], "shoot", "keep", "over itself"),
        (["shoot/a.png"], "shoot/a.png", "keep", "over itself"),
        (["shoot/a.png", "shoot/day1/c.jpg", "shoot/a.png"], "x", "keep", "would both become"),
        (["shoot/a.png", "other/a.jpg"], "x", "png", "would both become x/a.png"),
        (["shoot"], "-", "keep", "one picture to standard output"),
        (["-"], "x", "keep", "standard input has no name"),
        (["-", "shoot"], "x", "keep", "give it alone"),
    ],
)
def test_wrong_use(inputs: Sequence[str], output: str, format_name: str, says: str, shoot: Path) -> None:
    Path("other").mkdir()
    Image.new("RGB", (8, 8)).save("other/a.jpg")
    one_file = len(inputs) == 1 and inputs[0] != "shoot"
    with pytest.raises(UsageError, match=says):
        plan(
            find(inputs, recursive=False, output=Path(output)), Path(output), one_file=one_file, format_name=format_name
        )


def test_a_link_to_the_source_is_the_source(shoot: Path) -> None:
    Path("elsewhere").symlink_to("shoot")
    with pytest.raises(UsageError, match="over itself"):
        plan(find(["shoot"], recursive=False, output=Path("x")), Path("elsewhere"), one_file=False, format_name="keep")


def test_standard_streams() -> None:
    (job,) = plan(find(["-"], recursive=False, output=PIPE), PIPE, one_file=True, format_name="keep")
    assert (job.source, job.target, job.format) == (PIPE, PIPE, None)
    (job,) = plan(find(["-"], recursive=False, output=Path("x.png")), Path("x.png"), one_file=True, format_name="keep")
    assert job.source == PIPE and job.target == Path("x.png")


@pytest.mark.parametrize("make", [False, True])
def test_outputs_that_cannot_be_written(make: bool, shoot: Path) -> None:
    found = find(["shoot/a.png"], recursive=False, output=Path("x"))
    Path("afile").write_text("x")
    Path("taken/a.png").mkdir(parents=True)
    for output, says in (
        ("afile", "a part of its path is a file"),
        ("afile/deep", "is a file"),
        ("taken", "is a folder"),
    ):
        with pytest.raises(DataError, match=says):
            check_output(plan(found, Path(output), one_file=True, format_name="keep"), make=make)
    check_output(plan(found, Path("new/folder"), one_file=True, format_name="keep"), make=make)
    assert Path("new/folder").is_dir() == make
    if make:
        assert list(Path("new/folder").iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(shoot: Path) -> None:
    Path("locked").mkdir(mode=0o500)
    found = find(["shoot/a.png"], recursive=False, output=Path("x"))
    for make in (False, True):
        with pytest.raises(DataError, match="permission"):
            check_output(plan(found, Path("locked"), one_file=True, format_name="keep"), make=make)
