from __future__ import annotations

import json
from pathlib import Path

import pytest

from topcoat.errors import DataError, UsageError
from topcoat.pairs.schema import default_seed, plan_records, read_layout, read_records, shard_schema
from topcoat.prompts import sample_prompts


def test_a_plan_keeps_order_and_attributes() -> None:
    prompts = sample_prompts(3)
    records = plan_records([*prompts, "my own words"], None)
    assert [record.prompt for record in records] == [*(prompt.text for prompt in prompts), "my own words"]
    assert [record.seed for record in records] == [default_seed(position) for position in range(4)]
    assert records[0].attributes == prompts[0].attributes and records[3].attributes == {}
    assert len({record.id for record in records}) == 4


def test_seeds_do_not_depend_on_how_many_prompts_there_are() -> None:
    assert plan_records(sample_prompts(9), None)[:4] == plan_records(sample_prompts(4), None)


def test_a_subject_is_in_one_split_whatever_its_seed() -> None:
    prompts = sample_prompts(40)
    splits = [{record.prompt: record.split for record in plan_records(prompts, range(k, k + 40))} for k in (0, 99)]
    assert splits[0] == splits[1]


def test_the_same_prompt_needs_other_seeds() -> None:
    assert len(plan_records(["a face", "a face"], [1, 2])) == 2
    with pytest.raises(UsageError, match="prompt 1 comes twice with seed 1"):
        plan_records(["a face", "a face"], [1, 1])


def test_the_schema_tells_datasets_what_is_an_image() -> None:
    features = json.loads(shard_schema().metadata[b"huggingface"])["info"]["features"]
    assert list(features) == shard_schema().names
    assert features["distilled"] == features["baseline"] == {"_type": "Image"}
    assert features["seed"] == {"dtype": "int64", "_type": "Value"}


def test_bad_shards_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 not really")
    for read in (read_records, read_layout):
        with pytest.raises(DataError, match="is damaged; delete it"):
            read(tmp_path / "x.parquet")
        with pytest.raises(DataError, match="is missing"):
            read(tmp_path / "absent.parquet")
