from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from topcoat.errors import DataError, UsageError
from topcoat.generators.base import Licence
from topcoat.images import encode_png, to_pil, write_image
from topcoat.pairs import PairDataset
from topcoat.pairs.duplicates import NAME, drop_pairs
from topcoat.pairs.filters import FilterResult
from topcoat.pairs.importing import import_pairs, open_source


def picture(seed: int, width: int = 40, height: int = 24) -> Tensor:
    values = torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))
    return (values * 255).round() / 255


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Seven good pairs in A/ and B/, two of them as JPEG in A, and five bad items."""
    root = tmp_path / "source"
    for number in range(7):
        suffix = "jpg" if number in (1, 4) else "png"
        write_image(root / "A" / f"{number}.{suffix}", picture(number))
        write_image(root / "B" / f"{number}.png", picture(100 + number))
    (root / "A" / "2.txt").write_text("an old man,\n beard\n")
    write_image(root / "A" / "lonely.png", picture(1))
    write_image(root / "B" / "orphan.png", picture(1))
    write_image(root / "A" / "unequal.png", picture(1))
    write_image(root / "B" / "unequal.png", picture(1, width=48))
    for side in "AB":
        write_image(root / side / "zz-large.png", picture(1, 64, 64))
        (root / side / "broken.png").write_bytes(b"\x89PNG no picture")
    return root


def test_imported_pairs_can_be_webp(folders: Path, tmp_path: Path) -> None:
    dataset = import_pairs(open_source(folders), tmp_path / "out", name="mine", image_format="webp")
    assert torch.equal(dataset.distilled[0], picture(0)) and dataset.encoded(0, "baseline")[0][8:12] == b"WEBP"
    assert PairDataset.open(tmp_path / "out").pairing.image_format == "webp"


def test_two_folders_become_a_dataset(folders: Path, tmp_path: Path) -> None:
    source = open_source(folders)
    assert source.count == 12
    reports: list[tuple[int, int]] = []
    out = tmp_path / "out"
    dataset = import_pairs(
        source,
        out,
        name="mine",
        licence=Licence(name="CC-BY-4.0", url="https://example.org/cc"),
        shard_size=3,
        on_progress=lambda done, total: reports.append((done, total)),
    )
    assert len(dataset) == 7 and [entry.rows for entry in dataset.manifest.shards] == [3, 3, 1]
    assert torch.equal(dataset.distilled[0], picture(0)) and torch.equal(dataset.baseline[6], picture(106))
    assert float((dataset.distilled[1] - picture(1)).abs().mean()) < 0.2  # a JPEG
    assert dataset.records[2].prompt == "an old man, beard" and dataset.records[0].prompt == ""
    assert len({record.id for record in dataset.records}) == 7
    reasons = {failure.id: failure.error for failure in dataset.manifest.failures}
    assert reasons == {
        "broken": "its distilled image is not a readable picture: it is damaged or of an unknown type",
        "lonely": "has no baseline image",
        "orphan": "has no distilled image",
        "unequal": "has two sizes, distilled 40 x 24 px and baseline 48 x 24 px; make them one",
        "zz-large": "is 64 x 64 px, the first pair is 40 x 24 px; resize it",
    }
    assert reports[-1] == (12, 12) and len(reports) == 12
    dataset.verify()
    assert str(tmp_path) not in (out / "manifest.json").read_text()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_an_import_is_the_same_bytes_again(folders: Path, tmp_path: Path) -> None:
    one, other = (import_pairs(open_source(folders), tmp_path / name, name="mine") for name in ("one", "other"))
    assert one.digest == other.digest


def test_the_card_says_the_licence_and_names_no_generator(folders: Path, tmp_path: Path) -> None:
    import_pairs(
        open_source(folders), tmp_path / "known", name="mine", licence=Licence(name="MIT", url="https://x.org")
    )
    import_pairs(open_source(folders), tmp_path / "unknown", name="mine")
    known, unknown = ((tmp_path / name / "README.md").read_text() for name in ("known", "unknown"))
    assert "[MIT](https://x.org)" in known and "folders A and B" in known and "40 x 24" in known
    assert "5 items could not be used" in known
    assert "The terms of use of these images are unknown" in unknown
    assert "steps" not in known and "synthetic" not in known


def test_an_imported_dataset_can_be_deduped(folders: Path, tmp_path: Path) -> None:
    dataset = import_pairs(open_source(folders), tmp_path / "out", name="mine")
    left = drop_pairs(tmp_path / "out", {dataset.records[3].id: FilterResult(False, "again", 0.99)}, NAME)
    assert len(left) == 6 and left.manifest.dropped[0].reason == "again"
    assert "Filters left out 1" in (tmp_path / "out" / "README.md").read_text()


def parquet(path: Path, names: tuple[str, str, str | None], cells: list[tuple[Any, Any, str]]) -> None:
    columns: dict[str, list[Any]] = {names[0]: [cell[0] for cell in cells], names[1]: [cell[1] for cell in cells]}
    if names[2] is not None:
        columns[names[2]] = [cell[2] for cell in cells]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def cell(seed: int) -> dict[str, Any]:
    return {"bytes": encode_png(picture(seed)), "path": None}


@pytest.mark.parametrize("whole", [True, False])
def test_hub_columns_are_known_by_name(tmp_path: Path, whole: bool) -> None:
    path = tmp_path / "hub" / "data" / "train-00000-of-00002.parquet"
    names = ("input_image", "edited_image", "edit_prompt")
    parquet(path, names, [(cell(n), cell(n + 50), f"portrait {n}") for n in range(3)])
    parquet(
        path.with_name("train-00001-of-00002.parquet"), names, [(cell(9), {"bytes": None, "path": "x.png"}, "gone")]
    )
    source = open_source(tmp_path / "hub" if whole else path)
    assert source.count == (4 if whole else 3)
    dataset = import_pairs(source, tmp_path / "out", name="hub")
    assert [record.prompt for record in dataset.records] == ["portrait 0", "portrait 1", "portrait 2"]
    assert torch.equal(dataset.baseline[2], picture(52))
    failures = [(failure.id, failure.error) for failure in dataset.manifest.failures]
    assert failures == ([("train-00001-of-00002-0000000", "has no baseline image")] if whole else [])


def test_any_columns_by_name_as_bytes_or_paths(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    to_pil(picture(3)).save(buffer, "WEBP", lossless=True)
    write_image(tmp_path / "hub" / "good.png", picture(4))
    parquet(tmp_path / "hub" / "x.parquet", ("soft", "sharp", None), [(buffer.getvalue(), None, "")])
    parquet(
        tmp_path / "hub" / "y.parquet",
        ("soft", "sharp", None),
        [({"bytes": None, "path": "good.png"}, {"bytes": encode_png(picture(5)), "path": None}, "")],
    )
    dataset = import_pairs(
        open_source(tmp_path / "hub", distilled="soft", baseline="sharp"), tmp_path / "out", name="columns"
    )
    assert len(dataset) == 1 and torch.equal(dataset.distilled[0], picture(4))
    assert dataset.manifest.failures[0].error == "has no baseline image"


def test_named_folders_and_the_usual_ones(tmp_path: Path) -> None:
    for left, right in (("train_A", "train_B"), ("raw", "done")):
        write_image(tmp_path / left / "x.png", picture(1))
        write_image(tmp_path / right / "x.png", picture(2))
    assert open_source(tmp_path).description == "folders train_A and train_B"
    assert open_source(tmp_path, distilled="raw", baseline="done").description == "folders raw and done"


def test_sources_that_are_none(tmp_path: Path, folders: Path) -> None:
    with pytest.raises(DataError, match="does not exist; give a folder"):
        open_source(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds neither A/ and B/ or train_A/ and train_B/.* nor Parquet files"):
        open_source(tmp_path / "empty")
    with pytest.raises(UsageError, match="name both sides, or none"):
        open_source(folders, distilled="A")
    with pytest.raises(UsageError, match=r"folders have none; put name\.txt beside"):
        open_source(folders, prompt="caption")
    parquet(tmp_path / "p" / "x.parquet", ("a", "b", "c"), [(b"", b"", "t")])
    with pytest.raises(UsageError, match="has no column input_image; name its columns, which are: a, b, c"):
        open_source(tmp_path / "p")
    with pytest.raises(UsageError, match="has no column text"):
        open_source(tmp_path / "p", distilled="a", baseline="b", prompt="text")
    (tmp_path / "p" / "y.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match=r"y\.parquet is not a readable Parquet file"):
        open_source(tmp_path / "p", distilled="a", baseline="b")
    write_image(folders / "A" / "0.webp", picture(0))
    with pytest.raises(DataError, match="one name twice; remove one"):
        open_source(folders)


def test_nothing_usable_leaves_nothing_behind(tmp_path: Path) -> None:
    parquet(tmp_path / "x.parquet", ("a", "b", None), [(b"no", b"picture", ""), (None, None, "")])
    source = open_source(tmp_path / "x.parquet", distilled="a", baseline="b")
    with pytest.raises(DataError, match=r"none of 2 items can be used; the last one: x-0000001 has no distilled image"):
        import_pairs(source, tmp_path / "out", name="none")
    assert [path.name for path in tmp_path.iterdir()] == ["x.parquet"]


def test_a_folder_in_use_is_left_alone(folders: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    dataset = import_pairs(open_source(folders), out, name="mine")
    with pytest.raises(DataError, match="is not an empty folder; choose another one, nothing was changed"):
        import_pairs(open_source(folders), out, name="mine")
    assert PairDataset.open(out).digest == dataset.digest
    with pytest.raises(UsageError, match="give a name, and 1 or more"):
        import_pairs(open_source(folders), tmp_path / "new", name=" ")


def test_a_stopped_import_starts_anew(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[int] = []

    def stop(done: int, total: int) -> None:
        stopped.append(done)
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_pairs(open_source(folders), tmp_path / "out", name="mine", shard_size=2, on_progress=stop)
    assert not (tmp_path / "out").exists() and stopped[-1] == 6
    (tmp_path / ".out.importing" / "data").mkdir(parents=True)  # what a kill leaves
    assert len(import_pairs(open_source(folders), tmp_path / "out", name="mine")) == 7
    assert not (tmp_path / ".out.importing").exists()
