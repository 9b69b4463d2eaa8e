"""`topcoat prompts`, and prompts files given to other commands."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from topcoat.pairs.dataset import PairDataset
from topcoat.prompts import read_prompts, sample_prompts, sample_style
from topcoat.prompts.photo import sample_photo_prompts


def test_prints_photo_prompts_by_default(run: Any, run_json: Any) -> None:
    prompts = sample_photo_prompts(4, 5)
    assert run("prompts", "--count", 4, "--seed", 5).stdout.splitlines() == [prompt.text for prompt in prompts]
    record = run_json("prompts", "--count", 4, "--seed", 5)
    assert record["style"] == "photo"
    expected = [{"id": p.id, "prompt": p.text, "split": p.split, **p.attributes} for p in prompts]
    assert record["prompts"] == expected


def test_prints_mini_prompts_on_request(run: Any, run_json: Any) -> None:
    texts = [prompt.text for prompt in sample_prompts(4, seed=5)]
    assert run("prompts", "--style", "mini", "--count", 4, "--seed", 5).stdout.splitlines() == texts
    record = run_json("prompts", "--style", "mini", "--count", 4, "--seed", 5)
    assert [item["prompt"] for item in record["prompts"]] == texts


@pytest.mark.parametrize("style", ["mini", "photo"])
@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_writes_what_is_read_back(run: Any, run_json: Any, tmp_path: Path, suffix: str, style: Any) -> None:
    path = tmp_path / "new" / f"p.{suffix}"
    printed = run("prompts", "--style", style, "--count", 30, "-o", path).stdout
    assert "30 prompts in" in printed and ("--style mini" in printed) == (style == "photo")
    assert read_prompts(path) == sample_style(style, 30)
    record = run_json("prompts", "--style", style, "--count", 30, "-o", path)
    assert record["file"] == str(path) and sum(record["splits"].values()) == 30
    assert record["attributes"] == list(dict.fromkeys(name for p in sample_style(style, 30) for name in p.attributes))


def test_writes_texts(run: Any, tmp_path: Path) -> None:
    run("prompts", "--count", 3, "-o", tmp_path / "p.txt")
    assert (tmp_path / "p.txt").read_text().splitlines() == [prompt.text for prompt in sample_photo_prompts(3)]


def test_own_sentences_and_names(run: Any, tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text('templates = ["{{ name }}: {{ age }}, {{ presentation }}"]')
    (tmp_path / "n.txt").write_text("Ada Lovelace\n")
    result = run("prompts", "--count", 2, "--templates", tmp_path / "t.toml", "--names-file", tmp_path / "n.txt")
    assert all(line.startswith("Ada Lovelace: ") for line in result.stdout.splitlines())
    assert "warning: if these are names of real people" in result.stderr


def test_the_licence_of_imdb_is_said_aloud(run: Any, tmp_path: Path) -> None:
    header = "nconst\tprimaryName\tbirthYear\tdeathYear\tprimaryProfession\tknownForTitles\n"
    rows = "nm1\tAda Test\t\\N\t\\N\tactress\t\\N\nnm2\tBo Test\t\\N\t\\N\tactor\t\\N\n"
    (tmp_path / "name.basics.tsv.gz").write_bytes(gzip.compress((header + rows).encode()))
    result = run("prompts", "--count", 3, "--names-file", tmp_path / "name.basics.tsv.gz", "--json")
    assert "personal and non-commercial use" in result.stderr
    assert "names of real people" in result.stderr
    assert {item["name"] for item in json.loads(result.stdout)["prompts"]} <= {"Ada Test", "Bo Test"}


def test_own_words(run_json: Any, tmp_path: Path) -> None:
    import topcoat.prompts.vocabulary as home

    text = Path(home.__file__).with_name("photo.toml").read_text(encoding="utf-8")
    (tmp_path / "v.toml").write_text(text.replace('"plain t-shirt"', '"spacesuit"'), encoding="utf-8")
    record = run_json("prompts", "--count", 12, "--vocabulary", tmp_path / "v.toml")
    assert sum(item["clothing"] == "spacesuit" for item in record["prompts"]) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--count", 0), "'--count' / '-n': input should be greater than or equal to 1; see"),
        (("--seed", -1), "'--seed': input should be greater than or equal to 0; see"),
        (("-o", "p.xml"), "use one of: .parquet, .csv, .jsonl, .txt"),
        (("--style", "oil"), "'--style': 'oil' is not one of 'photo', 'mini'"),
        (("--style", "mini", "--names-file", "n.txt"), "--names-file is of the photo style"),
        (("--style", "mini", "--templates", "n.toml"), "--templates is of the photo style"),
        (("--style", "mini", "--vocabulary", "n.toml"), "--vocabulary is of the photo style"),
        (("--templates", "nowhere.toml"), "nowhere.toml does not exist"),
        (("--vocabulary", "nowhere.toml"), "nowhere.toml does not exist"),
    ],
)
def test_wrong_use(run: Any, arguments: tuple[object, ...], says: str) -> None:
    result = run("prompts", *arguments, code=2)
    assert result.stderr.startswith("error: ") and says in result.stderr


def test_a_missing_names_file_is_a_failure(run: Any) -> None:
    assert "nowhere.txt cannot be read" in run("prompts", "--names-file", "nowhere.txt", code=1).stderr


@pytest.mark.parametrize("flag", ["--prompts", "--prompts-file"])
def test_pairs_keep_ids_attributes_and_splits(run: Any, pair_file: Path, tmp_path: Path, flag: str) -> None:
    run("prompts", "--count", 4, "-o", tmp_path / "p.parquet")
    run("pairs", "build", tmp_path / "pairs", "--pair", pair_file, flag, tmp_path / "p.parquet")
    records = PairDataset.open(tmp_path / "pairs").records
    for record, prompt in zip(records, sample_photo_prompts(4), strict=True):
        assert (record.prompt, record.split, record.attributes) == (prompt.text, prompt.split, prompt.attributes)
        assert record.id.startswith(prompt.id)


def test_a_column_by_name(run_json: Any, run: Any, pair_file: Path, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("words,mood\nan old man,calm\na young woman,glad\n")
    build = ("pairs", "build", tmp_path / "x", "--pair", pair_file, "--dry-run")
    assert run_json(*build, "--prompts", tmp_path / "p.csv", "--prompt-column", "words")["pairs"] == 2
    assert "name one with --prompt-column" in run(*build, "--prompts", tmp_path / "p.csv", code=2).stderr
    assert "no file is given" in run(*build, "--prompt-column", "words", code=2).stderr


def test_photo_prompts_for_the_mini_pair_are_warned_of(run: Any, tmp_path: Path) -> None:
    build = ("pairs", "build", tmp_path / "x", "--pair", "mini", "--dry-run", "--prompts")
    for style, warned in (("photo", True), ("mini", False)):
        run("prompts", "--style", style, "--count", 2, "-o", tmp_path / f"{style}.csv")
        assert ("--style mini" in run(*build, tmp_path / f"{style}.csv").stderr) is warned


def test_what_a_pair_does_not_read_is_said_and_listed(run: Any, run_json: Any, pair_file: Path, tmp_path: Path) -> None:
    """At `prompts`, `pairs build` (dry or not) and `generate`, in text and in JSON."""
    (tmp_path / "p.csv").write_text("id,prompt\nshort,old man\nlong," + "old man " * 30 + "\n")
    given = ("--prompts", tmp_path / "p.csv", "--pair", pair_file)
    for command in (
        ("pairs", "build", tmp_path / "x", *given, "--dry-run"),
        ("pairs", "build", tmp_path / "x", *given),
        ("generate", *given, "--head", "none", "-o", tmp_path / "o"),
    ):
        assert "longer than what" in (said := run(*command).stderr) and "long (62)" in said and "short" not in said
        assert {cut["id"] for cut in run_json(*command)["texts"]["cut"]} == {"long"}
    cut = run_json("prompts", "--count", 3, "--pair", pair_file)["texts"]["cut"]
    assert len({each["id"] for each in cut}) == 3
    assert "longer than what" in run("prompts", "--count", 3, "--pair", pair_file).stderr
    assert "longer than what" not in run("prompts", "--count", 200, "--pair", "sdxl").stderr


def test_count_takes_the_first_prompts_of_a_file(run: Any, run_json: Any, pair_file: Path, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("old man\nyoung woman\n")
    build = ("pairs", "build", tmp_path / "x", "--pair", pair_file, "--dry-run", "--prompts", tmp_path / "p.txt")
    assert run_json(*build, "--count", 1)["pairs"] == 1 and run_json(*build)["pairs"] == 2
    assert "holds 2 prompts, and --count asks for 10; all 2 are used" in run(*build, "--count", 10).stderr


def test_a_dry_run_knows_what_is_done_and_refuses_what_the_build_refuses(
    run: Any, run_json: Any, pair_file: Path, tmp_path: Path
) -> None:
    build = ("pairs", "build", tmp_path / "x", "--pair", pair_file, "--shard-size", 2)
    whole = run_json(*build, "--count", 6, "--dry-run")
    assert (whole["left"], (tmp_path / "x").exists()) == (6, False)
    run(*build, "--count", 4)
    before = {path: path.read_bytes() for path in (tmp_path / "x").rglob("*") if path.is_file()}
    rest = run_json(*build, "--count", 6, "--dry-run")
    assert rest["left"] == 2 and rest["tflop"] == pytest.approx(whole["tflop"] / 3)
    assert "4 pairs are there already, 2 are left" in run(*build, "--count", 6, "--dry-run").stdout
    for wrong in (("--distilled-steps", 2), ("--batch-size", 3), ("--filter", "pretty"), ("--seed", 1)):
        command = (*build, "--count", 4, *wrong)
        code = 2 if "--filter" in wrong else 1
        assert (
            run(*command, "--dry-run", code=code).stderr.splitlines()[-1]
            == run(*command, code=code).stderr.splitlines()[-1]
        )
    assert {path: path.read_bytes() for path in (tmp_path / "x").rglob("*") if path.is_file()} == before
