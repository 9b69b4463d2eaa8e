"""Heads, model pairs and datasets to a hub over HTTP and back, with cards that the hub accepts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import topcoat
from tests.fake_hub import TOKEN, FakeHub, serving
from topcoat.cli.app import app
from topcoat.embedded import MINI
from topcoat.errors import DataError, ModelError, UsageError
from topcoat.generators.base import ModelPair
from topcoat.generators.sharing import pair_card, push_pair
from topcoat.heads import Head
from topcoat.pairs import PairDataset, build_pairs
from topcoat.pairs.hub import push_pairs
from topcoat.prompts import sample_prompts
from topcoat.runtime.opening import open_runtime

# huggingface_hub's own upload of large files warns so with the HTTP library of now
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """The hub that this process uses, with an empty cache and a token that may write."""
    from huggingface_hub import constants

    with serving(FakeHub()) as fake:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(constants, "ENDPOINT", fake.address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", fake.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield fake


def other_head() -> Head:
    """The embedded head with one weight changed."""
    head = Head.default()
    with torch.no_grad():
        head.network.get_parameter("out.bias").add_(0.01)
    return head


def test_a_head_is_loaded_at_every_revision(hub: FakeHub) -> None:
    first, second = Head.default(), other_head()
    assert first.push_to_hub("me/head", private=False) == f"{hub.address}/me/head"
    assert hub.repos == {"me/head": False}
    contents = hub.contents["models/me/head"]
    contents.tags["v1"] = contents.history[-1][0]
    second.push_to_hub("me/head")
    assert contents.lfs == {"model.safetensors"}
    assert Head.from_pretrained("me/head").digest == second.digest != first.digest
    for revision in ("v1", contents.tags["v1"]):
        loaded = Head.from_pretrained("me/head", revision=revision)
        assert loaded.digest == first.digest and loaded.gates == first.gates and loaded.facts == first.facts
    assert Head.load("me/head@v1").digest == first.digest
    with pytest.raises(ModelError, match=r"me/head has no revision v2; give a branch, a tag or a commit of it"):
        Head.from_pretrained("me/head", revision="v2")
    with pytest.raises(ModelError, match=r"me/nothing is not on the Hugging Face hub or is private"):
        Head.from_pretrained("me/nothing")


def test_a_heads_card_says_figures_licences_and_where_it_is_from(hub: FakeHub) -> None:
    from huggingface_hub import ModelCard

    head = Head.default()
    head.push_to_hub("me/head")
    card = ModelCard(hub.contents["models/me/head"].files["README.md"].decode())
    data: Any = card.data
    assert data.library_name == "topcoat" and data.license == "apache-2.0"
    results: Any = data.eval_results
    assert {one.metric_type: one.metric_value for one in results}["psnr_db"] == head.facts["figures"]["psnr_db"]
    assert all(one.dataset_name == "mini" for one in results)
    assert 'topcoat.Head.from_pretrained("me/head")' in card.text
    for line in (f"- dataset digest: {head.facts['dataset_digest']}", "- pair: mini", "- distilled: Apache-2.0"):
        assert line in card.text
    licences = {"distilled": {"name": "Apache-2.0"}, "baseline": {"name": "FLUX.1 [dev] Non-Commercial"}}
    head.push_to_hub("me/bound", card={"licences": licences})
    bound: Any = ModelCard(hub.contents["models/me/bound"].files["README.md"].decode()).data
    assert (bound.license, bound.license_name) == ("other", "see-below")


def test_a_heads_graph_runs_from_the_hub(hub: FakeHub) -> None:
    Head.default().push_to_hub("me/head", folder=MINI / "head")
    assert hub.contents["models/me/head"].lfs == {"model.safetensors", "head.onnx"}
    images = np.random.default_rng(0).random((1, 3, 40, 24), dtype=np.float32)
    runtime = open_runtime("me/head", "onnx", revision="main")
    assert runtime.name.startswith("ONNX Runtime")
    assert np.array_equal(runtime(images), open_runtime("embedded", "onnx")(images))


def test_a_pair_comes_back_with_every_setting(hub: FakeHub) -> None:
    from huggingface_hub import ModelCard

    pair = topcoat.model_pair("sdxl-lightning")
    assert push_pair(pair, "me/pair") == f"{hub.address}/me/pair"
    contents = hub.contents["models/me/pair"]
    assert sorted(contents.files) == ["README.md", "pair.yaml"]
    assert topcoat.model_pair("me/pair") == pair
    contents.tags["v1"] = contents.history[-1][0]
    push_pair(topcoat.model_pair("flux1"), "me/pair")
    assert topcoat.model_pair("me/pair@v1") == pair != topcoat.model_pair("me/pair")
    card = ModelCard(contents.files["README.md"].decode())
    data: Any = card.data
    assert (data.library_name, data.license) == ("topcoat", "other")
    flux = topcoat.model_pair("flux1")
    for spec in (flux.distilled, flux.baseline):
        assert spec.licence.url in card.text and spec.model in card.text
    assert "topcoat pairs build --pair me/pair" in card.text
    assert "license: apache-2.0" in pair_card(topcoat.model_pair("flux2-klein"), "me/klein")


def test_a_pair_that_others_cannot_use_is_not_pushed_and_no_function_is_run(hub: FakeHub, fake_pair: ModelPair) -> None:
    with pytest.raises(UsageError, match=r"the pair mini names .*pipeline, which is on this machine alone"):
        push_pair(topcoat.model_pair("mini"), "me/pair")
    assert hub.repos == {}
    push_pair(fake_pair, "me/pair")
    contents = hub.contents["models/me/pair"]
    text = contents.files["pair.yaml"].decode()
    assert fake_pair.baseline.model in text
    changed = text.replace(fake_pair.baseline.model, "os:system").encode()
    contents.history.append(("f" * 40, {"pair.yaml": changed}))
    with pytest.raises(DataError, match="names a Python function, and none is run from the hub"):
        topcoat.model_pair("me/pair")
    Head.default().push_to_hub("me/head")
    with pytest.raises(DataError, match=r"me/head holds no model pair \(pair.yaml\)"):
        topcoat.model_pair("me/head")


def test_a_dataset_comes_back(hub: FakeHub, tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> None:
    first = build_pairs(tmp_path / "pairs", sample_prompts(6), fake_pair, shard_size=4, generators=fake_generators)
    before = first.digest
    push_pairs(first.folder, "me/pairs")
    contents = hub.contents["datasets/me/pairs"]
    contents.tags["v1"] = contents.history[-1][0]
    contents.files["data/train-00009.parquet"] = b"of another dataset"
    grown = build_pairs(tmp_path / "pairs", sample_prompts(9), fake_pair, shard_size=4, generators=fake_generators)
    push_pairs(grown.folder, "me/pairs")
    newest = PairDataset.from_pretrained("me/pairs")
    assert newest.digest == grown.digest != before
    assert torch.equal(newest[0].distilled, grown[0].distilled)
    pulled = PairDataset.from_pretrained("me/pairs", revision="v1", folder=tmp_path / "pulled")
    pulled.verify()
    assert pulled.digest == before and pulled.folder == tmp_path / "pulled"
    assert sorted(path.name for path in (tmp_path / "pulled" / "data").iterdir()) == [
        "train-00000.parquet",
        "train-00001.parquet",
    ]
    for name in ("me/nothing", "me/head"):
        with pytest.raises(DataError, match=rf"huggingface.co/datasets/{name}|holds no pairs"):
            Head.default().push_to_hub("me/head")
            PairDataset.from_pretrained(name)


def ran(*words: object, code: int = 0) -> str:
    """What `topcoat` prints for these words in this process, or the error that ends it."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout if code == 0 else result.stderr


def test_commands_take_a_head_at_a_revision(hub: FakeHub, tmp_path: Path) -> None:
    head, contents = other_head(), hub.contents["models/me/head"]
    head.push_to_hub("me/head")
    contents.tags["v1"] = contents.history[-1][0]
    Head.default().push_to_hub("me/head")
    picture, better = tmp_path / "picture.png", tmp_path / "better.png"
    topcoat.write_image(picture, torch.rand(3, 24, 40))
    for name, words in {"enhance": (picture, "-o", better), "generate": ("an old man", "-o", better)}.items():
        ran(name, *words, "--head", "me/head@v1")
        (record,) = json.loads(ran("inspect", better, "--json"))["topcoat"]
        assert (record["head"], record["head_digest"]) == ("me/head@v1", head.digest)
        better.unlink()
        assert "me/head has no revision v2; give a branch" in ran(name, *words, "--head", "me/head@v2", code=1)


def test_pairs_pull_fetches_and_goes_on(
    hub: FakeHub, tmp_path: Path, fake_pair: ModelPair, fake_generators: Any
) -> None:
    built = build_pairs(tmp_path / "pairs", sample_prompts(6), fake_pair, shard_size=4, generators=fake_generators)
    ran("pairs", "push", built.folder, "me/pairs")
    contents, pulled = hub.contents["datasets/me/pairs"], tmp_path / "pulled"
    contents.tags["v1"] = contents.history[-1][0]
    record = json.loads(ran("pairs", "pull", "me/pairs", "--revision", "v1", "-o", pulled, "--json"))
    assert record == {"folder": str(pulled), "pairs": 6, "pair": "fake", "digest": built.digest}
    (pulled / "data" / "train-00001.parquet").unlink()
    assert f"{pulled}: 6 pairs of fake" in ran("pairs", "pull", "me/pairs", "-o", pulled)
    assert PairDataset.open(pulled).digest == built.digest
    assert "me/pairs has no revision v2" in ran("pairs", "pull", "me/pairs@v2", "-o", tmp_path / "x", code=1)


def test_the_commands_use_the_hub_of_the_environment(hub: FakeHub, tmp_path: Path) -> None:
    """In processes of their own: nothing of this one is replaced there."""
    source = Path(topcoat.__file__).parents[1]
    env = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN}

    def started(*words: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", *words],
            env={**os.environ, **env, "PYTHONPATH": str(source)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    said = started("-m", "topcoat", "push", "embedded", "me/head", "--public")
    assert f"embedded is at {hub.address}/me/head; --head me/head loads it" in said and hub.repos == {"me/head": False}
    commit = hub.contents["models/me/head"].history[-1][0]
    load = f"import topcoat; print(topcoat.Head.from_pretrained('me/head', revision='{commit}').digest)"
    assert Head.default().digest in started("-c", load)
    assert "head.onnx" in hub.contents["models/me/head"].files
    assert "me/pair" in started("-m", "topcoat", "push", "flux1", "me/pair")
    (tmp_path / "manifest.json").write_text("{}")
    assert "topcoat pairs push" in started("-m", "topcoat", "push", str(tmp_path), "me/x", code=2)
