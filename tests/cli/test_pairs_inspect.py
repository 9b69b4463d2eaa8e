"""`topcoat pairs inspect`, `dedupe`, `import` and `push` as a user gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from topcoat.images import write_image
from topcoat.pairs.dataset import PairDataset
from topcoat.pairs.similarity import read_calibration

SENTENCE = "error: "


@pytest.fixture
def pairs(run: Any, tmp_path: Path) -> Path:
    """26 imported pairs of noise; the last shows the subject of the first again."""
    generator = torch.Generator().manual_seed(0)
    pictures = [torch.rand(3, 32, 48, generator=generator) for _ in range(25)]
    for number, picture in enumerate([*pictures, pictures[0]]):
        write_image(tmp_path / "source" / "A" / f"{number:02d}.png", (picture + 0.02).clamp(0, 1))
        write_image(tmp_path / "source" / "B" / f"{number:02d}.png", picture)
    folder = tmp_path / "pairs"
    run("pairs", "import", tmp_path / "source", "-o", folder, "--name", "noise", "--licence", "CC0-1.0")
    return folder


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_inspecting_says_all_and_changes_nothing(
    run: Any, run_json: Any, pairs: Path, tmp_path: Path, tiny_features: None
) -> None:
    before = files_of(pairs)
    page = tmp_path / "pages" / "noise.html"
    text = run("pairs", "inspect", pairs, "--html", page, "--duplicates", 1).stdout
    assert "26 pairs of 48 x 32 px of noise, 0 failed, 0 dropped" in text
    assert "Near-duplicates: 1 (3.8%) at similarity 1 or more" in text and f"The page: {page}" in text
    assert "brightness, distilled" in text and "contrast, baseline" in text
    assert page.read_text().startswith("<!doctype html>")
    record = run_json("pairs", "inspect", pairs, "--duplicates", 1)
    assert record["pairs"] == 26 and record["near_duplicates"]["count"] == 1 and record["page"] is None
    assert record["digest"] == PairDataset.open(pairs).digest
    assert files_of(pairs) == before


def test_a_page_never_lies_among_the_shards(run: Any, pairs: Path, tiny_features: None) -> None:
    result = run("pairs", "inspect", pairs, "--html", pairs / "data" / "page.html", code=2)
    assert "lies among the shards" in result.stderr and not (pairs / "data" / "page.html").exists()


def test_calibrating_writes_what_the_filter_reads(
    run: Any, run_json: Any, pairs: Path, tmp_path: Path, tiny_features: None
) -> None:
    text = run("pairs", "inspect", pairs, "--calibrate", "--false-accept", 0.05).stdout
    assert "26 pairs of noise against 104 shuffled ones" in text
    assert "structural, different subjects" in text and "--filter same-subject --calibration" in text
    calibration = read_calibration(pairs / "same-subject.json")
    assert calibration.wanted_false_accept_rate == 0.05 and calibration.false_accept_rate <= 0.05
    elsewhere = tmp_path / "thresholds.json"
    record = run_json("pairs", "inspect", pairs, "--calibrate", "--false-accept", 0.05, "--calibration", elsewhere)
    assert record["file"] == str(elsewhere) and read_calibration(elsewhere) == calibration
    assert run_json("pairs", "inspect", pairs)["pairs"] == 26  # the file in the folder is no obstacle


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--calibrate", "--html", "x.html"), "run one after the other"),
        (("--calibration", "x.json"), "add --calibrate, or leave the file out"),
        (("--calibrate", "--false-accept", "2"), "more than 0 and less than 1"),
        (("--calibrate", "--false-accept", "0.0001"), "use more pairs or a rate above"),
        (("--duplicates", "0"), "use more than 0 and at most 1"),
    ],
)
def test_wrong_use_is_one_sentence(
    run: Any, pairs: Path, tiny_features: None, options: tuple[str, ...], message: str
) -> None:
    result = run("pairs", "inspect", pairs, *options, code=2)
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(SENTENCE) and message in last


def test_dedupe_drops_the_later_subject_and_says_so(
    run: Any, run_json: Any, pairs: Path, tiny_features: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from topcoat.features import FeatureNet
    from topcoat.pairs import duplicates

    monkeypatch.setattr(duplicates, "load_feature_net", lambda name: FeatureNet.tiny(0))
    before = files_of(pairs)
    first, last = (PairDataset.open(pairs).records[index].id for index in (0, 25))
    text = run("pairs", "dedupe", pairs, "--threshold", 1, "--dry-run").stdout
    assert f"{last}: near-duplicate of {first}" in text
    assert "1 of 26 pairs would be dropped; nothing was changed" in text
    assert files_of(pairs) == before
    record = run_json("pairs", "dedupe", pairs, "--threshold", 1)
    assert list(record["dropped"]) == [last] and record["left"] == 25
    dataset = PairDataset.open(pairs)
    dataset.verify()
    assert [record.id for record in dataset.records][-1] != last and len(dataset) == 25
    assert [(item.id, item.filter) for item in dataset.manifest.dropped] == [(last, "near-duplicates")]
    assert run_json("pairs", "dedupe", pairs, "--threshold", 1)["dropped"] == {}
    assert run_json("pairs", "inspect", pairs)["drop_reasons"] == {"near-duplicates": 1}


def test_an_import_with_bad_items_continues_and_says_so(run: Any, run_json: Any, tmp_path: Path) -> None:
    source = tmp_path / "s"
    for name in ("one", "two"):
        write_image(source / "raw" / f"{name}.png", torch.full((3, 8, 8), 0.5))
        write_image(source / "done" / f"{name}.png", torch.full((3, 8, 8), 0.6))
    (source / "done" / "two.png").unlink()
    options = ("--name", "mine", "--distilled", "raw", "--baseline", "done")
    result = run("pairs", "import", source, "-o", tmp_path / "out", *options, code=1)
    assert "1 pairs in" in result.stdout and "1 items left out; licence: unknown" in result.stdout
    assert "the licence of these images is unknown" in result.stderr
    assert "two was left out: has no baseline image" in result.stderr
    record = run_json("pairs", "import", source, "-o", tmp_path / "again", *options, "--licence", "MIT", code=1)
    assert record["failures"] == {"two": "has no baseline image"} and record["licence"] == "MIT"
    refused = run("pairs", "import", source, "-o", tmp_path / "out", *options, code=1)
    assert "is not an empty folder" in refused.stderr


def test_pushing_without_a_token(run: Any, pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    result = run("pairs", "push", pairs, "me/noise", code=1)
    assert result.stderr.strip().splitlines()[-1].startswith("error: no Hugging Face token on this machine")


def test_pushing_tells_what_was_sent(run: Any, run_json: Any, pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from topcoat.pairs import hub

    asked: list[dict[str, Any]] = []

    def pushed(folder: Path, repo: str, **options: Any) -> hub.Push:
        asked.append({"folder": folder, "repo": repo, **options})
        return hub.Push(
            "https://hub/me/noise", ("data/train-00000.parquet",), ("README.md",), ("data/old.parquet",), 2_000_000
        )

    monkeypatch.setattr(hub, "push_pairs", pushed)
    result = run("pairs", "push", pairs, "me/noise")
    assert "1 files sent (2.0 MB), 1 unchanged: https://hub/me/noise" in result.stdout
    assert "1 Parquet files in me/noise are not of this dataset: data/old.parquet" in result.stderr
    assert run_json("pairs", "push", pairs, "me/noise", "--public", "--dry-run")["dry_run"] is True
    assert [(item["private"], item["dry_run"]) for item in asked] == [(True, False), (False, True)]
    assert asked[0]["repo"] == "me/noise" and asked[0]["folder"] == pairs
