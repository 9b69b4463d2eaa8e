"""`topcoat evaluate` on folders and on a dataset, with the files that a user may really have."""

from __future__ import annotations

import json
import re
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import ExifTags, Image
from torch import Tensor

from tests.cli.conftest import scores_of
from topcoat.errors import UsageError
from topcoat.images import gaussian_blur, write_image
from topcoat.metrics.sources import from_folders

N = 22


def smooth(seed: int, count: int = N) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    images = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bicubic").clamp(0, 1)
    return (images + 0.06 * torch.randn(images.shape, generator=generator)).clamp(0, 1)


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    y = smooth(0)
    sets = {"distilled": gaussian_blur(y, 1.2), "enhanced": gaussian_blur(y, 0.5), "baseline": y, "floor": smooth(1)}
    for name, images in sets.items():
        for number, image in enumerate(images):
            write_image(tmp_path / name / f"{number:02}.png", image)
    return {name: tmp_path / name for name in sets}


def arguments(folders: dict[str, Path], *names: str) -> list[object]:
    return [part for name in names for part in (f"--{name}", folders[name])]


def huge_png(path: Path, side_px: int) -> None:
    """A PNG of the given size in a few bytes: a header and no pixels to speak of."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side_px, side_px, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b""))


def test_folders_with_groups_and_a_cache(
    run: Any, run_json: Any, folders: dict[str, Path], tiny_features: None, tmp_path: Path
) -> None:
    people = tmp_path / "people.csv"
    lines = [f"{number:02}.png,{'old' if number % 2 else 'young'},{number % 3 or ''}" for number in range(N)]
    people.write_text("\n".join(["name,age,light", *lines]) + "\n")
    given = arguments(folders, "distilled", "enhanced", "baseline", "floor")
    report = tmp_path / "report"
    options = (*given, "--groups", people, "--cache", tmp_path / "cache", "-o", report)
    text = run("evaluate", *options).stdout
    for word in ("baseline, other seeds", "identity baseline", "FD-infinity", "age = old", f"Report: {report}"):
        assert word in text
    assert sorted(path.name for path in report.iterdir()) == ["contact.png", "report.html", "report.json", "report.md"]
    record = json.loads((report / "report.json").read_text())
    assert record["features"]["net"] == "embedded" and record["n"] == N and record["left_out"] == []
    assert {score["attribute"] for score in record["groups"]["scores"]} == {"age", "light"}
    assert (report / "report.md").read_text() in text
    again = run_json("evaluate", *given, "--cache", tmp_path / "cache", "--metrics", "distances,paired")
    one, other = scores_of(again), scores_of(record)
    assert one["frechet", "enhanced"] == pytest.approx(other["frechet", "enhanced"], rel=1e-6)
    assert ("recall", "enhanced") in other and ("recall", "enhanced") not in one and again["groups"] is None


def test_bad_files_are_listed_and_the_rest_goes_on(
    run: Any, folders: dict[str, Path], tiny_features: None, tmp_path: Path
) -> None:
    whole = (folders["enhanced"] / "03.png").read_bytes()
    (folders["enhanced"] / "03.png").write_bytes(whole[: len(whole) // 2])
    (folders["baseline"] / "05.png").write_text("no picture")
    huge_png(folders["distilled"] / "07.png", 50_000)
    given = arguments(folders, "distilled", "enhanced", "baseline")
    result = run("evaluate", *given, "-o", tmp_path / "report", code=1)
    warnings = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 3
    for path, reason in (("enhanced/03", "cut off"), ("baseline/05", "text file"), ("distilled/07", "megapixels")):
        assert any(path in line and reason in line for line in warnings), (path, warnings)
    record = json.loads((tmp_path / "report" / "report.json").read_text())
    assert record["n"] == record["n_reference"] == N - 3
    assert len(record["left_out"]) == 3
    psnr = {arm: scores_of(record)["psnr", arm] for arm in ("distilled", "enhanced")}
    assert psnr["enhanced"] > psnr["distilled"]  # the others are still paired with their own


def test_sets_of_other_numbers_are_compared_as_sets(
    run_json: Any, folders: dict[str, Path], tiny_features: None
) -> None:
    (folders["baseline"] / "00.png").unlink()
    record = run_json("evaluate", *arguments(folders, "enhanced", "baseline"))
    assert (record["n"], record["n_reference"]) == (N, N - 1) and ("psnr", "enhanced") not in scores_of(record)


def test_the_page_shows_what_the_figures_chose(
    run: Any, folders: dict[str, Path], tiny_features: None, tmp_path: Path
) -> None:
    write_image(folders["enhanced"] / "11.png", torch.zeros(3, 32, 32))  # another person, far from the baseline
    (folders["baseline"] / "02.png").write_text("no picture")
    options = arguments(folders, "distilled", "enhanced", "baseline", "floor")
    run("evaluate", *options, "-o", tmp_path / "report", code=1)
    page = (tmp_path / "report" / "report.html").read_text()
    record = json.loads((tmp_path / "report" / "report.json").read_text())
    examples = record["examples"]
    worst = [one["index"] for one in examples if one["place"] == "worst"]
    assert worst.count(10) == 2  # picture 11, of which one before it is missing; by both figures
    captions = re.findall(r"<figcaption><b>([^<]*)</b> ([^<]*)</figcaption>", page)
    by_name = {name: reason for reason, name in captions}
    assert by_name["11"].startswith("worst by identity") and "worst by perceptual distance" in by_name["11"]
    assert len(by_name) == len({one["index"] for one in examples})
    for word in ("Power spectra", "Distance to the baseline", "Left out", "Inputs and settings", "&#34;floor&#34;"):
        assert word in page, word


def test_gates_are_measured_beside_the_head_alone(
    run: Any, run_json: Any, pair_file: Path, head_folder: Path, tiny_features: None, tmp_path: Path
) -> None:
    run("pairs", "build", tmp_path / "pairs", "--pair", pair_file, "--count", 30, "--batch-size", 16)
    given = ("evaluate", "--data", tmp_path / "pairs", "--head", head_folder, "--split", "train")
    options = ("--metrics", "identity", "-o", tmp_path / "report")
    record = run_json(*given, "--identity-floor", "1", *options)  # nothing keeps the identity to the last bit
    closed = scores_of(record)
    assert closed["distilled_share", "gated"] == 1 and closed["identity_p05", "gated"] == pytest.approx(1)
    assert closed["frechet", "gated"] == pytest.approx(closed["frechet", "distilled"])
    assert record["inputs"]["gates"]["identity_floor"] == 1
    opened = scores_of(run_json(*given, "--identity-floor", "-1", *options))
    assert opened["enhanced_share", "gated"] == 1
    assert opened["frechet", "gated"] == pytest.approx(opened["frechet", "enhanced"])
    half = scores_of(run_json(*given, "--identity-floor", closed["identity_mean", "enhanced"], *options))
    shares = [half[f"{name}_share", "gated"] for name in ("enhanced", "weakened", "distilled")]
    assert sum(shares) == pytest.approx(1) and 0 < shares[0] < 1
    assert half["identity_p05", "gated"] >= half["identity_mean", "enhanced"] - 1e-6
    text = (tmp_path / "report" / "report.md").read_text()
    assert "What gates did" in text and "enhanced, with gates" in text


def test_a_head_on_a_dataset(
    run: Any, run_json: Any, pair_file: Path, head_folder: Path, tiny_features: None, tmp_path: Path
) -> None:
    run("pairs", "build", tmp_path / "pairs", "--pair", pair_file, "--count", 30, "--batch-size", 16)
    given = ("evaluate", "--data", tmp_path / "pairs", "--head", head_folder, "--split", "train")
    record = run_json(*given)
    assert record["n"] == record["n_reference"] > 20
    assert len({score["attribute"] for score in record["groups"]["scores"]}) >= 5
    nothing = run_json(*given, "--strength", 0)
    assert scores_of(nothing)["identity_mean", "enhanced"] == pytest.approx(1, abs=1e-6)
    assert [flag["name"] for flag in nothing["flags"]] == ["identity map"]


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (("--features", "dino"), 2, "did you mean dinov2?"),
        (("--features", "inception"), 1, "pip install 'topcoat[inception]'"),
        (("--features", "clip:./nowhere"), 1, "there is no folder ./nowhere"),
        (("--metrics", "distances,magic"), 2, "no metric is called 'magic'"),
        (("--groups", "nowhere.csv"), 1, "groups file nowhere.csv cannot be read"),
        (("--groups", "other.csv"), 1, "has no column 'name'"),
        (("--groups", "short.csv"), 2, "no line for the picture 01"),
        (("--head", "somewhere"), 2, "are for --data"),
        (("--never-worse",), 2, "are for --data"),
        (("--quality", "niqe"), 2, "no quality net is called 'niqe'"),
        (("--quality", "clip:./nowhere"), 1, "there is no folder ./nowhere"),
        (("--floor", "nowhere"), 1, "nowhere is not a folder"),
    ],
)
def test_wrong_use(
    run: Any,
    folders: dict[str, Path],
    tiny_features: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: tuple[str, ...],
    code: int,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.csv").write_text("file,age\n00.png,old\n")
    Path("short.csv").write_text("name,age\n00.png,old\n")
    result = run("evaluate", *arguments(folders, "distilled", "enhanced", "baseline"), *change, code=code)
    assert says in result.stderr and "Traceback" not in result.output
    assert len([line for line in result.stderr.splitlines() if line.startswith("error: ")]) == 1


def test_unequal_and_mixed_folders(run: Any, folders: dict[str, Path], tiny_features: None) -> None:
    write_image(folders["floor"] / "03.png", torch.rand(3, 32, 40))
    sets = arguments(folders, "enhanced", "baseline", "floor")
    assert f"{folders['floor'] / '03.png'} is 40 x 32 px" in run("evaluate", *sets, code=2).stderr
    given = arguments(folders, "distilled", "enhanced", "baseline")
    write_image(folders["baseline"] / "21.png", torch.rand(3, 40, 40))
    odd = run("evaluate", *given, code=2).stderr
    assert f"{folders['baseline'] / '21.png'} is 40 x 40 px, and {N - 1} of {N} pictures in" in odd
    (folders["baseline"] / "21.png").unlink()
    fewer = run("evaluate", *given, code=2).stderr
    assert f"holds {N - 1} pictures" in fewer and f"only in {folders['enhanced']}: 21" in fewer
    (folders["distilled"] / "04.png").unlink()
    assert f"only in {folders['enhanced']}: 04" in run("evaluate", *given, code=2).stderr


def test_names_that_agree_in_part_are_named(folders: dict[str, Path]) -> None:
    z, y = folders["enhanced"], folders["baseline"]
    (y / "03.png").rename(y / "x.png")
    with pytest.raises(UsageError, match=f"only in {z}: 03; only in {y}: x; rename or remove these"):
        from_folders(z, y)
    (y / "x.png").unlink()
    (note,) = from_folders(z, y).notes
    assert f"(only in {z}: 03); they are compared as sets" in note
    for path in list(y.iterdir()):
        path.rename(y / f"b{path.name}")
    assert from_folders(z, y).notes == [], "other names and another number: plainly two sets"
    write_image(y / "b99.png", smooth(5, 1)[0])
    (note,) = from_folders(z, y).notes
    assert "paired in sorted order, b00.png with 00.png first" in note


def test_the_same_pictures_are_said(folders: dict[str, Path], run: Any, tiny_features: None, tmp_path: Path) -> None:
    z, y = folders["enhanced"], folders["baseline"]
    assert from_folders(z, y).notes == []
    (note,) = from_folders(z, z).notes
    assert f"{z} and {z} are the same folder" in note
    shutil.copytree(z, tmp_path / "copy")
    (note,) = from_folders(z, tmp_path / "copy").notes
    assert f"all of {N} pictures of {z} are the same pictures as in {tmp_path / 'copy'}, such as 00.png" in note
    shutil.copy(z / "05.png", y / "05.png")
    assert any(f"1 of {N} pictures of {z} are the same" in note for note in from_folders(z, y).notes)
    shutil.copy(z / "06.png", y / "07.png")  # under another name
    assert any(f"2 of {N} pictures" in note for note in from_folders(z, y, folders["distilled"]).notes)
    given = ("--enhanced", z, "--baseline", y, "--floor", y, "--metrics", "distances")
    assert f"{y} and {y} are the same folder" in run("evaluate", *given).stderr


def test_a_turned_picture_counts_as_it_is_seen(folders: dict[str, Path]) -> None:
    z, y = folders["enhanced"], folders["baseline"]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for number, path in enumerate([*z.iterdir(), *y.iterdir()]):
        turned = number % 2 == 0
        picture = Image.new("RGB", (32, 24) if turned else (24, 32), (number, 9, 9))
        picture.save(path, exif=exif if turned else None)
    assert from_folders(z, y).count == N
