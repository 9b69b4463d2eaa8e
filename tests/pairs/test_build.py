from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from huggingface_hub import DatasetCard

from tests.pairs.building import PROMPTS, all_bytes, build
from topcoat.errors import DataError, ModelError, UsageError
from topcoat.generators.base import ModelPair
from topcoat.images import decode_image
from topcoat.pairs import PairDataset, build_pairs
from topcoat.pairs.schema import PairingConfig, default_seed


def test_what_is_built_can_be_read_back(tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> None:
    reports: list[tuple[int, int]] = []
    dataset = build(tmp_path / "pairs", fake_pair, fake_generators, on_progress=lambda *at: reports.append(at))
    assert len(dataset) == 11
    assert reports[-1] == (11, 11) and reports == sorted(reports)
    for index, generator in enumerate(fake_generators):
        wanted = generator.generate([p.text for p in PROMPTS], [default_seed(i) for i in range(11)])
        found = torch.stack(list((dataset.distilled, dataset.baseline)[index]))
        assert torch.allclose(found, wanted, atol=0.5 / 255 + 1e-6)
    names = sorted(all_bytes(tmp_path / "pairs"))
    assert names == ["README.md", *(f"data/train-0000{i}.parquet" for i in range(3)), "manifest.json"]


def test_shards_have_the_layout_of_hugging_face_datasets(
    tmp_path: Path, fake_pair: ModelPair, fake_generators: Any
) -> None:
    build(tmp_path, fake_pair, fake_generators)
    table = pq.read_table(tmp_path / "data" / "train-00000.parquet")
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["distilled"] == {"_type": "Image"}
    row = table.to_pylist()[1]
    assert list(row) == ["id", "prompt", "seed", "split", "attributes", "distilled", "baseline"]
    assert row["prompt"] == PROMPTS[1].text and json.loads(row["attributes"]) == PROMPTS[1].attributes
    assert row["split"] == PROMPTS[1].split and row["seed"] == default_seed(1)
    assert row["baseline"]["bytes"].startswith(b"\x89PNG") and row["baseline"]["path"].endswith("-baseline.png")
    assert decode_image(row["baseline"]["bytes"]).shape == (3, 32, 32)


def test_webp_files_hold_the_same_pixels(tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> None:
    png = build(tmp_path / "png", fake_pair, fake_generators)
    settings: dict[str, Any] = {"pairing": PairingConfig(image_format="webp")}
    webp = build(tmp_path / "webp", fake_pair, fake_generators, **settings)
    assert all(torch.equal(webp[index].baseline, png[index].baseline) for index in range(len(png)))
    assert all(torch.equal(webp[index].distilled, png[index].distilled) for index in range(len(png)))
    cell = pq.read_table(tmp_path / "webp" / "data" / "train-00000.parquet")["baseline"][0].as_py()
    assert cell["bytes"][8:12] == b"WEBP" and cell["path"].endswith("-baseline.webp")
    assert "lossless WebP images" in (tmp_path / "webp" / "README.md").read_text()
    again = all_bytes(tmp_path / "webp")
    build(tmp_path / "webp", fake_pair, fake_generators, **settings)
    assert all_bytes(tmp_path / "webp") == again
    with pytest.raises(DataError, match="image_format"):
        build(tmp_path / "webp", fake_pair, fake_generators)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_batch_size_changes_no_byte(
    tmp_path: Path, fake_pair: ModelPair, fake_generators: Any, batch_size: int
) -> None:
    build(tmp_path / "a", fake_pair, fake_generators)
    build(tmp_path / "b", fake_pair, fake_generators, batch_size=batch_size)
    one, other = all_bytes(tmp_path / "a"), all_bytes(tmp_path / "b")
    manifests = [json.loads(files.pop("manifest.json")) for files in (one, other)]
    assert one == other
    assert manifests[0] == manifests[1] | {"batch_size": 3}, "which it is stays in the manifest alone"


class Crash(BaseException):
    """A kill in the middle, which nothing may swallow."""


def test_a_crash_at_any_batch_resumes_to_the_same_bytes(
    tmp_path: Path, fake_pair: ModelPair, fake_generators: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(tmp_path / "whole", fake_pair, fake_generators)
    for crash_at in range(1, 6):
        folder, calls = tmp_path / f"crash-{crash_at}", [0]
        original = fake_generators[1].generate

        def generate(
            *given: Any, at: int = crash_at, count: list[int] = calls, run: Any = original, **named: Any
        ) -> Any:
            count[0] += 1
            if count[0] == at:
                raise Crash
            return run(*given, **named)

        with monkeypatch.context() as patch:
            patch.setattr(fake_generators[1], "generate", generate)
            with pytest.raises(Crash):
                build(folder, fake_pair, fake_generators)
        assert not list(folder.glob("data/.*"))
        build(folder, fake_pair, fake_generators)
        assert all_bytes(folder) == all_bytes(tmp_path / "whole")


def test_a_crash_between_shard_and_manifest_resumes_to_the_same_bytes(
    tmp_path: Path, fake_pair: ModelPair, fake_generators: Any
) -> None:
    build(tmp_path / "whole", fake_pair, fake_generators)
    build(tmp_path / "cut", fake_pair, fake_generators)
    manifest = json.loads((tmp_path / "cut" / "manifest.json").read_text())
    manifest["shards"].pop()
    (tmp_path / "cut" / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "cut" / "data" / ".train-00002.parquet.abc.tmp").write_bytes(b"half")
    build(tmp_path / "cut", fake_pair, fake_generators)
    assert all_bytes(tmp_path / "cut") == all_bytes(tmp_path / "whole")


def test_a_complete_folder_generates_nothing_again(tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> None:
    build(tmp_path, fake_pair, fake_generators)
    before = all_bytes(tmp_path)
    for generator in fake_generators:
        generator.calls.clear()
    assert len(build(tmp_path, fake_pair, fake_generators)) == 11
    assert len(build(tmp_path, fake_pair, fake_generators, prompts=PROMPTS[:6])) == 11
    assert len(build(tmp_path, fake_pair, None)) == 11, "models are not even loaded"
    assert fake_generators[0].calls == fake_generators[1].calls == []
    assert all_bytes(tmp_path) == before


def test_more_prompts_continue_where_the_last_shard_ends(
    tmp_path: Path, fake_pair: ModelPair, fake_generators: Any
) -> None:
    build(tmp_path / "whole", fake_pair, fake_generators)
    build(tmp_path / "grown", fake_pair, fake_generators, prompts=PROMPTS[:6])
    fake_generators[0].calls.clear()
    build(tmp_path / "grown", fake_pair, fake_generators)
    assert sum(fake_generators[0].calls) < 11, "existing pairs are not generated again"
    assert all_bytes(tmp_path / "grown") == all_bytes(tmp_path / "whole")


def test_a_deleted_shard_is_restored(tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> None:
    build(tmp_path, fake_pair, fake_generators)
    before = all_bytes(tmp_path)
    (tmp_path / "data" / "train-00001.parquet").unlink()
    with pytest.raises(DataError, match="is missing; build the pairs again"):
        PairDataset.open(tmp_path)
    build(tmp_path, fake_pair, fake_generators)
    assert all_bytes(tmp_path) == before


def test_other_settings_are_refused_and_nothing_is_overwritten(
    tmp_path: Path, fake_pair: ModelPair, fake_generators: Any
) -> None:
    build(tmp_path, fake_pair, fake_generators)
    before = all_bytes(tmp_path)
    more_steps = fake_pair.model_copy(update={"distilled": fake_pair.distilled.model_copy(update={"steps": 4})})
    with pytest.raises(DataError, match=r"other settings \(distilled\.steps: 2, not 4\)"):
        build(tmp_path, more_steps, fake_generators)
    with pytest.raises(DataError, match="has shard_size 4, not 5; use 4"):
        build(tmp_path, fake_pair, fake_generators, shard_size=5)
    with pytest.raises(DataError, match="other prompts or seeds"):
        build(tmp_path, fake_pair, fake_generators, prompts=PROMPTS[1:])
    with pytest.raises(DataError, match="other prompts or seeds"):
        build(tmp_path, fake_pair, fake_generators, seeds=range(11))
    elsewhere = fake_pair.model_copy(
        update={"distilled": fake_pair.distilled.model_copy(update={"device": "cuda", "offload": "model"})}
    )
    build(tmp_path, elsewhere, fake_generators)
    assert all_bytes(tmp_path) == before


def test_a_folder_of_something_else_is_refused(tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="is not an empty folder"):
        build(tmp_path, fake_pair, fake_generators)
    with pytest.raises(DataError, match="is not an empty folder"):
        build(tmp_path / "thesis.txt", fake_pair, fake_generators)
    assert all_bytes(tmp_path) == {"thesis.txt": b"mine"}


def test_a_failing_pair_is_listed_and_the_rest_continues(
    tmp_path: Path, fake_pair: ModelPair, fake_generators: Any
) -> None:
    fake_generators[1].fails_on = default_seed(5)
    dataset = build(tmp_path / "gap", fake_pair, fake_generators)
    assert len(dataset) == 10
    (failure,) = dataset.manifest.failures
    assert failure.seed == default_seed(5) and "cannot be painted" in failure.error
    assert failure.prompt == PROMPTS[5].text
    assert "1 pair could not be made" in (tmp_path / "gap" / "README.md").read_text()
    build(tmp_path / "gap", fake_pair, fake_generators)
    assert len(PairDataset.open(tmp_path / "gap").manifest.failures) == 1, "tried again, listed once"
    fake_generators[1].fails_on = None
    build(tmp_path / "gap", fake_pair, fake_generators)
    build(tmp_path / "whole", fake_pair, fake_generators)
    assert all_bytes(tmp_path / "gap") == all_bytes(tmp_path / "whole")


def test_a_failure_that_passes_leaves_no_trace(tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> None:
    original, calls = fake_generators[0].generate, []

    def flaky(prompts: Any, seeds: Any, **named: Any) -> Any:
        calls.append(len(seeds))
        if len(calls) == 1:
            return torch.full((len(seeds), 3, 32, 32), float("nan"))
        return original(prompts, seeds, **named)

    fake_generators[0].generate = flaky
    dataset = build(tmp_path, fake_pair, fake_generators)
    assert calls[:4] == [3, 1, 1, 1]
    assert len(dataset) == 11 and dataset.manifest.failures == ()


def test_a_model_that_always_fails_stops_the_build(tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("kernel image is invalid")

    fake_generators[0].generate = broken
    with pytest.raises(ModelError, match="none of 4 pairs could be made; the last reason was: kernel image"):
        build(tmp_path, fake_pair, fake_generators)
    assert not list(tmp_path.glob("data/*"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompts": []}, "no prompts"),
        ({"prompts": "a face"}, "not one text"),
        ({"seeds": [1]}, "11 prompts came with 1 seeds"),
        ({"seeds": [-1] * 11}, "out of range"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"shard_size": 0}, "shard_size 0"),
        ({"pair": "flux9"}, "no model pair is called"),
    ],
)
def test_wrong_use_leaves_no_folder(
    tmp_path: Path, fake_pair: ModelPair, fake_generators: Any, changes: dict[str, Any], words: str
) -> None:
    settings: dict[str, Any] = {"prompts": PROMPTS, "pair": fake_pair, "generators": fake_generators} | changes
    with pytest.raises(UsageError, match=words):
        build_pairs(tmp_path / "pairs", **settings)
    assert not (tmp_path / "pairs").exists()


def test_the_card_names_both_licences(tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> None:
    noted = fake_pair.baseline.licence.model_copy(update={"note": "For looking at only."})
    pair = fake_pair.model_copy(update={"baseline": fake_pair.baseline.model_copy(update={"licence": noted})})
    build(tmp_path, pair, fake_generators)
    card = (tmp_path / "README.md").read_text()
    header = DatasetCard(card).data.to_dict()  # as the hub reads it
    assert (header["license"], header["pretty_name"]) == ("other", "fake portrait pairs")
    assert header["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    assert "[plastic licence](https://example.org/plastic)" in card
    assert "[good licence](https://example.org/good). For looking at only." in card
    assert "2 steps" in card and "8 steps" in card and "11 portrait pairs" in card


def test_real_pipelines_build_pairs_that_resume_to_the_same_bytes(
    tmp_path: Path, flux_pair: ModelPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embedded pair's own path: specs in, models loaded here, images through diffusers and PNG."""
    whole = build_pairs(tmp_path / "a", PROMPTS[:5], flux_pair, batch_size=2, shard_size=3)
    build_pairs(tmp_path / "b", PROMPTS[:4], flux_pair, batch_size=2, shard_size=3)
    build_pairs(tmp_path / "b", PROMPTS[:5], flux_pair, batch_size=2, shard_size=3)
    assert all_bytes(tmp_path / "a") == all_bytes(tmp_path / "b")
    assert whole[0].baseline.shape == (3, 32, 48)
    manifest = (tmp_path / "a" / "manifest.json").read_text()
    assert str(Path(flux_pair.baseline.model).parent) not in manifest, "no path of this machine"
    assert whole.manifest.distilled["model"] == "pipeline"
    assert whole.manifest.distilled["transformer_digest"]
