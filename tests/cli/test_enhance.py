from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from topcoat.heads import Head
from topcoat.images import read_image
from topcoat.pictures import read_picture
from topcoat.pictures.provenance import records_of


def test_enhances_one_file(run: Any, pictures: Path, head_folder: Path, tmp_path: Path) -> None:
    run("enhance", pictures / "0.png", "-o", tmp_path / "out.png", "--head", head_folder)
    expected = Head.from_pretrained(head_folder)(read_image(pictures / "0.png")[None])[0]
    torch.testing.assert_close(read_image(tmp_path / "out.png"), expected, atol=0.5 / 255 + 1e-6, rtol=0)


def test_strength_zero_changes_nothing(run: Any, pictures: Path, head_folder: Path, tmp_path: Path) -> None:
    run("enhance", pictures, "-o", tmp_path / "out", "--head", head_folder, "--strength", 0)
    for path in pictures.iterdir():
        torch.testing.assert_close(read_image(tmp_path / "out" / path.name), read_image(path))


def test_a_bad_file_is_listed_and_the_rest_goes_on(
    run: Any, run_json: Any, pictures: Path, head_folder: Path, tmp_path: Path
) -> None:
    (pictures / "3.png").write_bytes(b"not a picture")
    arguments = ("enhance", pictures, tmp_path / "missing.png", "-o", tmp_path / "out", "--head", head_folder)
    result = run(*arguments, code=1)
    assert "3.png" in result.stderr
    assert "missing.png" in result.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{n}.png" for n in (0, 1, 2, 4, 5)]
    record = run_json(*arguments, code=1)
    assert (len(record["enhanced"]), len(record["done"])) == (0, 5)
    assert [Path(item["input"]).name for item in record["failed"]] == ["3.png", "missing.png"]


def test_gates_hold_back_what_would_lose_the_person(
    run: Any, run_json: Any, pictures: Path, head_folder: Path, tiny_features: None, tmp_path: Path
) -> None:
    given = ("enhance", pictures, "-o", tmp_path / "out", "--head", head_folder)
    closed = run_json(*given, "--identity-floor", "1")["enhanced"]
    assert {item["decision"]["kept"] for item in closed} == {"distilled"}
    for path in pictures.iterdir():
        torch.testing.assert_close(read_image(tmp_path / "out" / path.name), read_image(path))
    (record,) = records_of(read_picture(tmp_path / "out" / "0.png").metadata.xmp)
    assert (record.gate, record.strength) == ("distilled", "0")
    opened = run_json(*given, "--identity-floor", "-1", "--overwrite")["enhanced"]
    assert {item["decision"]["kept"] for item in opened} == {"enhanced"}
    assert run_json(*given, "--overwrite")["enhanced"][0]["decision"] is None
    assert "gates: 0 enhanced" in run(*given, "--identity-floor", "1", "--overwrite").stdout


def test_gates_that_were_not_calibrated_are_refused(
    run: Any, pictures: Path, head_folder: Path, tmp_path: Path
) -> None:
    given = ("enhance", pictures, "-o", tmp_path / "out", "--head", head_folder)
    assert "topcoat calibrate" in run(*given, "--never-worse", code=2).stderr
    assert "no calibrated identity floor" in run(*given, "--identity-floor", "calibrated", code=2).stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("0.png", "-o", "0.png"), "over itself"),
        ((".", "-o", "."), "over itself"),
        (("0.png", "1.png", "-o", "both.png"), "give a folder"),
        (("0.png", "0.png", "-o", "out"), "would both become"),
        (("0.png", "-o", "out.png", "--head", "none"), "--head none"),
    ],
)
def test_wrong_use(
    run: Any, arguments: tuple[str, ...], says: str, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pictures)
    assert says in run("enhance", *arguments, code=2).stderr
    assert len(list(pictures.iterdir())) == 6
