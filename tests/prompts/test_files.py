"""Prompts to files and back, and every way in which a user's file can be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topcoat.errors import DataError, TopcoatError, UsageError
from topcoat.prompts import (
    Prompt,
    Style,
    prompt_from_text,
    read_prompts,
    sample_prompts,
    sample_style,
    split_of_id,
    write_prompts,
)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
@pytest.mark.parametrize("style", ["mini", "photo"])
@pytest.mark.parametrize("seed", [0, 3])
def test_a_table_is_read_back_equal(tmp_path: Path, suffix: str, style: Style, seed: int) -> None:
    prompts = sample_style(style, 40, seed)
    path = tmp_path / f"prompts{suffix}"
    write_prompts(path, prompts)
    prompts_read = read_prompts(path)
    assert prompts_read == prompts
    assert [prompt.attributes for prompt in prompts_read] == [prompt.attributes for prompt in prompts]
    assert [prompt.split for prompt in prompts_read] == [prompt.split for prompt in prompts]
    first = path.read_bytes()
    write_prompts(path, prompts_read)
    assert path.read_bytes() == first
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_text_keeps_the_texts(tmp_path: Path) -> None:
    prompts = sample_style("photo", 20)
    write_prompts(tmp_path / "p.txt", prompts)
    prompts_read = read_prompts(tmp_path / "p.txt")
    assert prompts_read == [prompt_from_text(prompt.text) for prompt in prompts]


def test_a_table_has_one_column_for_each_attribute(tmp_path: Path) -> None:
    prompts = sample_style("photo", 30)
    write_prompts(tmp_path / "p.parquet", prompts)
    table = pq.read_table(tmp_path / "p.parquet")
    assert table.column_names[:3] == ["id", "prompt", "split"]
    assert {"name", "age", "skin_tone", "locale", "facial_hair"} <= set(table.column_names)
    assert table.column("facial_hair").null_count == sum(p.attributes["presentation"] != "man" for p in prompts)


def test_datasets_and_pandas_read_it(tmp_path: Path) -> None:
    import csv

    import pandas

    prompts = sample_style("photo", 5)
    for suffix in ("parquet", "csv", "jsonl"):
        write_prompts(tmp_path / f"p.{suffix}", prompts)
    texts = [prompt.text for prompt in prompts]
    assert pandas.read_parquet(tmp_path / "p.parquet")["prompt"].tolist() == texts
    with open(tmp_path / "p.csv", encoding="utf-8", newline="") as file:
        assert [row["prompt"] for row in csv.DictReader(file)] == texts
    assert pandas.read_json(tmp_path / "p.jsonl", lines=True)["id"].tolist() == [prompt.id for prompt in prompts]


@pytest.mark.parametrize("column", ["prompt", "text", "caption"])
@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_a_users_own_table(tmp_path: Path, column: str, suffix: str) -> None:
    rows: list[dict[str, Any]] = [
        {column: "an old  man, laughing", "age": 71, "split": "validation", "note": None},
        {column: "Zażółć", "age": 20, "split": "test", "note": "two\nlines"},
    ]
    path = _written(tmp_path / f"own{suffix}", rows)
    prompts_read = read_prompts(path)
    assert [prompt.text for prompt in prompts_read] == ["an old man, laughing", "Zażółć"]
    assert [prompt.id for prompt in prompts_read] == [prompt_from_text(prompt.text).id for prompt in prompts_read]
    assert [prompt.split for prompt in prompts_read] == ["val", "test"]
    assert [dict(prompt.attributes) for prompt in prompts_read] == [{"age": "71"}, {"age": "20", "note": "two\nlines"}]


def test_a_column_by_name_and_numbers_as_ids(tmp_path: Path) -> None:
    rows = [{"prompt": "no", "words": "a man", "id": 7}, {"prompt": "no", "words": "a woman", "id": 8}]
    prompts_read = read_prompts(_written(tmp_path / "p.parquet", rows), "words")
    assert prompts_read[0] == Prompt(id="7", text="a man", attributes={"prompt": "no"})
    assert [prompt.split for prompt in prompts_read] == [split_of_id("7"), split_of_id("8")]
    write_prompts(tmp_path / "again.csv", prompts_read)
    assert [prompt.text for prompt in read_prompts(tmp_path / "again.csv")] == ["a man", "a woman"]


def test_what_is_no_value_is_no_attribute(tmp_path: Path) -> None:
    row = {"prompt": "a man", "age": float("nan"), "mood": None, "tags": ["x"], "happy": True, "score": 0.5}
    for name in ("p.parquet", "p.jsonl"):
        prompts_read = read_prompts(_written(tmp_path / name, [row]))
        assert prompts_read[0].attributes == {"happy": "True", "score": "0.5"}


def test_attributes_may_be_one_object(tmp_path: Path) -> None:
    prompt = sample_prompts(1)[0]
    row = {"id": prompt.id, "text": prompt.text, "attributes": dict(prompt.attributes)}
    assert read_prompts(_written(tmp_path / "p.jsonl", [row])) == [prompt]
    assert read_prompts(_written(tmp_path / "p.csv", [{**row, "attributes": json.dumps(row["attributes"])}])) == [
        prompt
    ]


def test_a_text_file_may_come_from_windows_and_hold_empty_lines(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes("\ufeffan old man\r\n\r\n  a young woman \r\n".encode())
    assert [prompt.text for prompt in read_prompts(tmp_path / "p.txt")] == ["an old man", "a young woman"]


def test_the_same_text_twice_is_allowed_where_ids_follow_from_texts(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("an old man\nan old man\n")
    assert len(read_prompts(tmp_path / "p.txt")) == 2


WRONG: list[tuple[str, bytes, str]] = [
    ("a.csv", b"id,prompt\nx,old\ny,new\nx,other\n", "a.csv line 4: the id 'x' is also that of line 2; give each"),
    ("a.jsonl", b'{"id":1,"text":"a"}\n\n{"id":1,"text":"b"}\n', "line 3: the id '1' is also that of line 1"),
    ("a.csv", b'prompt,age\n"two\nlines",1\n"",2\n', "a.csv line 4: the prompt is empty; describe a picture"),
    ("a.jsonl", b'{"prompt": null}\n', "line 1: the prompt is empty"),
    ("a.jsonl", b'{"prompt": ["a"]}\n', "line 1: the prompt is a list, not text; put it in quotes"),
    ("a.jsonl", b'{"prompt": "a"}\n{"promt": "b"}\n', "line 2: there is no column prompt, text or caption; of its"),
    ("a.jsonl", b'{"prompt": "a"}\n["b"]\n', "line 2: is no JSON object; write"),
    ("a.jsonl", b'{"prompt": "a"\n', "line 1: is no JSON object"),
    (
        "a.csv",
        b"sentence,age\nman,1\n",
        r"a.csv: there is no column prompt, text or caption; of its columns \(sentence",
    ),
    ("a.csv", b"prompt,age\nold man, laughing,1\n", "line 2: has 3 cells, but the first line names 2 columns; put a"),
    ("a.csv", b'prompt\nold\n"never closed\n', "line 3: is not valid CSV .*; correct that line"),
    ("a.csv", b"prompt,prompt\na,b\n", "two columns of the name 'prompt'"),
    ("a.csv", b"prompt,split\nold,holdout\n", "line 2: the split 'holdout' is unknown; use train, val or test"),
    ("a.csv", b"prompt,attributes\nold,{oops\n", "line 2: its attributes are not JSON"),
    ("a.txt", b"fine\n" + b"word " * 500, "a.txt line 2: the prompt has 500 words; at most 400"),
    ("a.txt", b"\n  \n", "a.txt is empty; write one prompt a line"),
    ("a.csv", b"", "a.csv is empty"),
    ("a.csv", b"prompt\n", "a.csv is empty"),
    ("a.jsonl", b"", "a.jsonl is empty"),
    ("a.txt", b"\xff\xfe\x00", "a.txt cannot be read .it is not UTF-8 text.; check the path and its type"),
    (
        "a.parquet",
        b"PAR1 not really",
        "a.parquet cannot be read .it is damaged, or no Parquet.; check the path and its type",
    ),
    ("a.xlsx", b"PK", "a.xlsx is of no type that holds prompts; use one of: .parquet, .csv, .jsonl, .txt"),
]


@pytest.mark.parametrize(("name", "content", "says"), WRONG, ids=[f"{n}-{says[:30]}" for n, _, says in WRONG])
def test_a_wrong_file_is_one_sentence_with_its_line(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TopcoatError, match=says) as caught:
        read_prompts(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_wrong_parquet_rows_and_columns(tmp_path: Path) -> None:
    path = _written(tmp_path / "p.parquet", [{"prompt": "a", "id": "1"}, {"prompt": "", "id": "2"}])
    with pytest.raises(UsageError, match="row 2: the prompt is empty"):
        read_prompts(path)
    with pytest.raises(UsageError, match=r"there is no column 'words'; of its columns .prompt, id. name one"):
        read_prompts(path, "words")
    _written(path, [{"prompt": "a", "id": "1"}, {"prompt": "b", "id": "1"}])
    with pytest.raises(UsageError, match="row 2: the id '1' is also that of row 1"):
        read_prompts(path)
    pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), path)
    with pytest.raises(DataError, match="is empty"):
        read_prompts(path)


@pytest.mark.parametrize("name", ["none.txt", "none.csv", "none.parquet"])
def test_a_missing_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"cannot be read .No such file or directory.; check the path"):
        read_prompts(tmp_path / name)


def test_a_text_file_has_no_columns(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("old man\n")
    with pytest.raises(UsageError, match="has lines, not columns"):
        read_prompts(tmp_path / "p.txt", "prompt")


def test_another_suffix_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"use one of: \.parquet, \.csv, \.jsonl, \.txt"):
        write_prompts(tmp_path / "p.xml", sample_prompts(1))


def _written(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A file as somebody else's tool would have written it."""
    import pandas

    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pandas.DataFrame(rows).to_csv(path, index=False)
    return path
