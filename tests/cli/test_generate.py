from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from topcoat.images import read_image
from topcoat.pictures import read_picture, xmp
from topcoat.pictures.provenance import GENERATED, records_of


def png_text(path: Path) -> dict[str, str]:
    with Image.open(path) as picture:
        return {str(key): str(value) for key, value in picture.info.items()}


def test_writes_an_image_that_says_how_it_was_made(
    run: Any, pair_file: Path, head_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "portrait.png"
    run("generate", "old man", "--seed", 7, "-o", path, "--pair", pair_file, "--head", head_folder, "--strength", 0.5)
    assert read_image(path).shape == (3, 32, 48)
    text = png_text(path)
    assert (text["prompt"], text["seed"], text["pair"], text["steps"]) == ("old man", "7", "tiny", "1")
    assert text["strength"] == "0.5"
    assert len(text["head"]) == 16


def test_an_image_depends_on_its_seed_not_on_its_batch(
    run: Any, pair_file: Path, head_folder: Path, tmp_path: Path
) -> None:
    options = ("--pair", pair_file, "--head", head_folder)
    run("generate", "old man", "young woman", "red hair", "--seed", 3, "-o", tmp_path / "all", *options)
    run("generate", "young woman", "--seed", 4, "-o", tmp_path / "one.png", *options)
    torch.testing.assert_close(
        read_image(tmp_path / "all" / "00001.png"), read_image(tmp_path / "one.png"), atol=1 / 255, rtol=0
    )


def test_compares_side_by_side(run_json: Any, pair_file: Path, head_folder: Path, tmp_path: Path) -> None:
    options = ("--pair", pair_file, "--head", head_folder, "-o", tmp_path / "a.png")
    two = run_json("generate", "old man", "--compare", *options)["images"][0]["comparison"]
    assert read_image(two).shape == (3, 32, 2 * 48 + 4)
    three = run_json("generate", "old man", "--compare-baseline", *options)["images"][0]["comparison"]
    assert read_image(three).shape == (3, 32, 3 * 48 + 2 * 4)
    assert png_text(three)["panels"] == "distilled | enhanced | baseline"
    torch.testing.assert_close(read_image(three)[:, :, 52:100], read_image(tmp_path / "a.png"))


def test_without_a_head_the_image_is_the_distilled_one(run: Any, pair_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    run("generate", "old man", "-o", path, "--pair", pair_file, "--head", "none", "--compare")
    both = read_image(tmp_path / "a-compare.png")
    torch.testing.assert_close(both[:, :, :48], both[:, :, 52:])


def test_reads_prompts_from_files(run: Any, run_json: Any, pair_file: Path, tmp_path: Path) -> None:
    run("prompts", "--count", 2, "-o", tmp_path / "p.jsonl")
    (tmp_path / "p.txt").write_text("old man\n\nyoung woman\n")
    for name in ("p.jsonl", "p.txt"):
        made = run_json(
            "generate",
            "--prompts-file",
            tmp_path / name,
            "--pair",
            pair_file,
            "--head",
            "none",
            "-o",
            tmp_path / name[2:],
        )
        assert [Path(item["path"]).name for item in made["images"]] == ["00000.png", "00001.png"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "no prompt was given"),
        (("",), "prompt is empty"),
        (("word " * 5000,), "5000 words"),
        (("man", "--seed", -1), "'--seed': input should be greater than or equal to 0"),
        (("man", "--pair", "flux9"), "flux9"),
        (("man", "--strength", 3), "--strength"),
        (("man", "--steps", 0), "--steps"),
        (("man", "woman", "-o", "one.png"), "give a folder"),
        (("man", "-o", "one.gif"), ".png"),
        (("man", "--pair", "PAIR"), "no head is shipped for the pair tiny"),
        (("man", "--prompts-file", "nowhere.txt", "--pair", "PAIR"), "nowhere.txt"),
    ],
)
def test_wrong_use_is_one_sentence(
    run: Any, arguments: tuple[object, ...], says: str, pair_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = 1 if "nowhere.txt" in arguments else 2
    result = run("generate", *(pair_file if item == "PAIR" else item for item in arguments), code=code)
    assert says in result.stderr
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_pickled_head_is_refused(run: Any, run_json: Any, pair_file: Path, tmp_path: Path) -> None:
    (tmp_path / "head").mkdir()
    (tmp_path / "head" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    arguments = ("generate", "man", "--pair", pair_file, "--head", tmp_path / "head", "-o", tmp_path / "a.png")
    result = run(*arguments, code=1)
    assert result.stderr.startswith("error: ")
    assert "pickled" in result.stderr
    assert result.stderr.count("\n") == 1
    assert run_json(*arguments, code=1)["error"]["type"] == "DataError"
    assert "Traceback" in run(*arguments, "--debug", code=1).stderr


def test_a_place_that_cannot_be_written_is_one_sentence(run: Any, pair_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "a.png"
    result = run("generate", "man", "--pair", pair_file, "--head", "none", "-o", target, code=1)
    assert "cannot write" in result.stderr


def test_a_model_that_cannot_be_had_is_one_sentence(
    run: Any, pair_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    spec = json.loads(pair_file.read_text())
    for side in ("distilled", "baseline"):
        spec[side] |= {"model": "example/not-there", "transformer": None}
    (tmp_path / "gone.json").write_text(json.dumps(spec))
    result = run("generate", "man", "--pair", tmp_path / "gone.json", "--head", "none", code=1)
    assert "example/not-there" in result.stderr
    assert "Traceback" not in result.output


def test_generated_pictures_are_marked(run: Any, pair_file: Path, head_folder: Path, tmp_path: Path) -> None:
    given = ("generate", "a face", "--pair", pair_file, "--head", head_folder, "--steps", 1)
    run(*given, "-o", tmp_path / "a.webp", "--strength", 0.5)
    packet = read_picture(tmp_path / "a.webp").metadata.xmp
    assert xmp.source_type(packet) == GENERATED
    (record,) = records_of(packet)
    assert (record.action, record.head, record.strength) == ("generate", head_folder.name, "0.5")
    assert record.generator and "/" not in record.generator, "a picture does not tell where its maker keeps files"
    run(*given, "-o", tmp_path / "b.png", "--no-mark")
    assert read_picture(tmp_path / "b.png").metadata.xmp is None
    run("enhance", tmp_path / "a.webp", "-o", tmp_path / "c.png", "--head", head_folder)
    enhanced = read_picture(tmp_path / "c.png").metadata.xmp
    assert [each.action for each in records_of(enhanced)] == ["generate", "enhance"]
    assert xmp.source_type(enhanced) == GENERATED
