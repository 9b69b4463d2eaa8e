from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from topcoat.cli.options import TOY
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


def test_a_prompts_file_gives_seeds_and_ids(run_json: Any, pair_file: Path, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("id,prompt,seed\nada-01,old man,700\nada-02,young woman,\n")
    options = ("--pair", pair_file, "--head", "none", "--seed", 40, "-o", tmp_path / "out")
    images = run_json("generate", "--prompts", tmp_path / "p.csv", *options)["images"]
    assert [(item["id"], item["seed"]) for item in images] == [("ada-01", "700"), ("ada-02", "41")]
    assert png_text(tmp_path / "out" / "00000.png")["id"] == "ada-01"
    run_json("generate", "old man", "--seed", 700, *options[:4], "-o", tmp_path / "one.png")
    torch.testing.assert_close(
        read_image(tmp_path / "one.png"), read_image(tmp_path / "out" / "00000.png"), atol=1 / 255, rtol=0
    )
    assert "id" not in png_text(tmp_path / "one.png")


def test_a_seed_that_is_none_is_named_with_its_line(run: Any, pair_file: Path, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("prompt,seed\nold man,7\nold man,seven\n")
    result = run("generate", "--prompts", tmp_path / "p.csv", "--pair", pair_file, "--head", "none", code=2)
    assert "p.csv line 3: the seed 'seven' is no whole number from 0 to" in result.stderr


@pytest.mark.parametrize("marks", [(), ("--no-mark",)])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_second_run_makes_what_is_missing(
    run: Any, run_json: Any, pair_file: Path, tmp_path: Path, marks: tuple[str, ...], suffix: str
) -> None:
    (tmp_path / "p.txt").write_text("old man\nyoung woman\nred hair\n")
    command = ("generate", "--prompts", tmp_path / "p.txt", "--pair", pair_file, "--head", "none", "--compare", *marks)
    if suffix == "jpg":
        command = ("generate", "old man", *command[3:])
    folder = tmp_path / "out"
    output = ("-o", folder if suffix == "png" else folder / "a.jpg")
    first = run_json(*command, *output)["images"]
    assert all(item["made"] for item in first)
    paths = [Path(item[key]) for item in first for key in ("path", "comparison")]
    before = {path: path.read_bytes() for path in paths}
    times = {path: path.stat().st_mtime_ns for path in paths}
    paths[-1].unlink()
    again = run_json(*command, *output)["images"]
    assert [item["made"] for item in again] == [False] * (len(first) - 1) + [True]
    assert all(path.exists() for path in paths)
    assert {path: path.stat().st_mtime_ns for path in paths[:-2]} == {path: times[path] for path in paths[:-2]}
    assert "was there already" in run(*command, *output).stdout
    run_json(*command, *output, "--overwrite", "--batch-size", 8)
    if len(paths) > 2:  # in the batch of the first run, so to the same bytes
        assert {path: path.read_bytes() for path in paths} == before


@pytest.mark.parametrize("change", [("--seed", 1), ("--steps", 2), ("--strength", 0.5)])
def test_another_picture_is_not_replaced(
    run: Any, run_json: Any, pair_file: Path, head_folder: Path, tmp_path: Path, change: tuple[object, ...]
) -> None:
    command = ("generate", "old man", "--pair", pair_file, "--head", head_folder, "-o", tmp_path / "a.png")
    run(*command)
    before = (tmp_path / "a.png").read_bytes()
    refused = run(*command, *change, code=2)
    assert "a.png is there already and is of another prompt, seed or setting" in refused.stderr
    assert (tmp_path / "a.png").read_bytes() == before
    run(*command, *change, "--overwrite")
    assert (tmp_path / "a.png").read_bytes() != before
    run(*command, "--overwrite")
    assert run_json(*command, "--compare")["images"][0]["comparison"] is not None
    (tmp_path / "b-compare.png").write_bytes(before)
    assert "b-compare.png is there" not in run(*command[:-1], tmp_path / "b.png").stderr


def test_a_foreign_picture_is_not_replaced(run: Any, pair_file: Path, tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    run("generate", "man", "--pair", pair_file, "--head", "none", "-o", tmp_path / "a.png", code=2)
    assert (tmp_path / "a.png").read_bytes() == before


def test_the_batch_is_in_the_record_and_home_is_expanded(
    run: Any, pair_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    command = ("generate", "old man", "young woman", "red hair", "--pair", pair_file, "--head", "none")
    run(*command, "-o", "~/out", "--batch-size", 2)
    sizes = [png_text(tmp_path / "home" / "out" / f"0000{number}.png")["batch_size"] for number in range(3)]
    assert sizes == ["2", "2", "1"]
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_the_embedded_pair_is_called_a_toy_and_no_other(
    run: Any, pair_file: Path, head_folder: Path, tmp_path: Path
) -> None:
    prompt = "a portrait photo of a man"
    assert f"Note: {TOY}" in run("generate", prompt, "-o", tmp_path / "a.png", "--head", "none").stdout
    given = ("generate", prompt, "--pair", pair_file, "--head", head_folder, "-o", tmp_path / "b.png")
    assert "toy" not in run(*given).output
