"""Making a study: names tell nothing, and folders that do not fit are refused before anything is written."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.study.conftest import SETTINGS
from topcoat.errors import DataError, UsageError
from topcoat.study.create import create_study, match_pictures, plan_study
from topcoat.study.pictures import read_rgb
from topcoat.study.plan import ARMS, Arm, StudyPlan


def test_names_times_and_sizes_tell_nothing(study: tuple[Path, StudyPlan]) -> None:
    folder, plan = study
    files = sorted((folder / "images").iterdir())
    assert len(files) == 3 * 6 + 2 == sum(len(subject.files) for subject in plan.subjects)
    assert all(re.fullmatch(r"[0-9a-f]{32}\.webp", path.name) for path in files)
    assert {path.stat().st_mtime for path in files} == {0}
    for subject in plan.subjects:
        assert len({(folder / "images" / name).stat().st_size for name in subject.files.values()}) == 1


def test_every_file_is_the_arm_that_the_plan_says(study: tuple[Path, StudyPlan], arms: dict[Arm, Path]) -> None:
    folder, plan = study
    for subject in plan.subjects:
        for arm in ARMS:
            shown = read_rgb(folder / "images" / subject.files[arm])
            assert shown.tolist() == read_rgb(arms[arm] / f"{subject.id}.png").tolist()
        assert (subject.width_px, subject.height_px) == (48, 40)
    assert sum("degraded" in subject.files for subject in plan.subjects) == 2


def test_a_seed_is_random_unless_it_is_given(arms: dict[Arm, Path]) -> None:
    sources = match_pictures(arms)
    free = SETTINGS.model_copy(update={"seed": None})
    assert plan_study(sources, free).seed != plan_study(sources, free).seed
    assert plan_study(sources, SETTINGS).subjects == plan_study(sources, SETTINGS).subjects


def test_groups_follow_their_subjects(study: tuple[Path, StudyPlan]) -> None:
    _, plan = study
    for subject in plan.subjects:
        assert subject.groups == {"age": "young" if int(subject.id[-1]) % 2 else "old"}


def copied(arms: dict[Arm, Path], tmp_path: Path) -> dict[Arm, Path]:
    return {arm: Path(shutil.copytree(folder, tmp_path / "copy" / arm)) for arm, folder in arms.items()}


def test_pictures_that_a_folder_lacks_are_named(arms: dict[Arm, Path], tmp_path: Path) -> None:
    folders = copied(arms, tmp_path)
    (folders["enhanced"] / "person-3.png").unlink()
    sources = match_pictures(folders)
    assert len(sources.files) == 7
    assert [("person-3" in note and "left out" in note) for note in sources.notes] == [True, True]


def _resize(folders: dict[Arm, Path]) -> None:
    for path in folders["enhanced"].iterdir():
        Image.new("RGB", (50, 40)).save(path)


def _rename(folders: dict[Arm, Path]) -> None:
    for path in folders["enhanced"].iterdir():
        path.rename(path.with_name(f"z-{path.name}"))


def _empty(folders: dict[Arm, Path]) -> None:
    for path in folders["enhanced"].iterdir():
        path.unlink()


def _double(folders: dict[Arm, Path]) -> None:
    Image.new("RGB", (48, 40)).save(folders["baseline"] / "person-1.webp")


def _same(folders: dict[Arm, Path]) -> None:
    folders["enhanced"] = folders["distilled"]


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        (_resize, UsageError, "differ in size, which tells them apart: distilled 48 x 40 px, enhanced 50 x 40 px"),
        (_rename, UsageError, "no picture is in all of the folders under one name"),
        (_empty, DataError, "holds no pictures"),
        (_double, DataError, "one name twice"),
        (_same, UsageError, "two of the folders are the same one"),
    ],
)
def test_folders_that_do_not_fit_are_refused(
    change: Callable[[dict[Arm, Path]], None],
    kind: type[Exception],
    sentence: str,
    arms: dict[Arm, Path],
    tmp_path: Path,
) -> None:
    folders = copied(arms, tmp_path)
    change(folders)
    with pytest.raises(kind, match=sentence):
        sources = match_pictures(folders)
        create_study(tmp_path / "study", sources, plan_study(sources, SETTINGS))
    assert not (tmp_path / "study" / "study.json").exists()


def test_too_few_pictures_are_refused(arms: dict[Arm, Path]) -> None:
    with pytest.raises(UsageError, match="9 subjects are asked for, and 8 have a picture"):
        plan_study(match_pictures(arms), SETTINGS.model_copy(update={"subjects": 9}))


def test_a_study_is_never_replaced_and_a_stopped_creation_is(
    study: tuple[Path, StudyPlan], arms: dict[Arm, Path]
) -> None:
    folder, _ = study
    sources = match_pictures(arms)
    with pytest.raises(UsageError, match="holds a study already"):
        create_study(folder, sources, plan_study(sources, SETTINGS))
    (folder / "study.json").unlink()  # the last file: as if it had been stopped before
    plan, _ = create_study(folder, sources, plan_study(sources, SETTINGS))
    assert len(list((folder / "images").iterdir())) == sum(len(subject.files) for subject in plan.subjects)


def test_arms_that_are_one_picture_are_named(arms: dict[Arm, Path], tmp_path: Path) -> None:
    folders = copied(arms, tmp_path)
    for path in folders["enhanced"].iterdir():
        shutil.copy(folders["distilled"] / path.name, path)
    sources = match_pictures(folders)
    _, notes = create_study(tmp_path / "study", sources, plan_study(sources, SETTINGS))
    assert notes and "same picture for 6 subjects" in notes[0]
