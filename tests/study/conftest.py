"""Three folders of small pictures, and a study made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from topcoat.study.create import StudySettings, create_study, match_pictures, plan_study
from topcoat.study.plan import ARMS, Arm, StudyPlan

SUBJECTS = 8
SETTINGS = StudySettings(
    subjects=6, raters=10, votes_per_rater=6, checks_per_rater=2, seed=5, contact="ask@example.org"
)


@pytest.fixture(scope="session")
def arms(tmp_path_factory: pytest.TempPathFactory) -> dict[Arm, Path]:
    """A folder of eight pictures of 48 x 40 px for each arm; distilled is blurred, enhanced a little."""
    root = tmp_path_factory.mktemp("arms")
    random = np.random.default_rng(0)
    for number in range(SUBJECTS):
        sharp = Image.fromarray(random.integers(0, 256, (40, 48, 3), dtype=np.uint8))
        for arm, radius in (("distilled", 1.5), ("enhanced", 0.5), ("baseline", 0)):
            path = root / arm / f"person-{number}.png"
            path.parent.mkdir(exist_ok=True)
            sharp.filter(ImageFilter.GaussianBlur(radius)).save(path)
    return {arm: root / arm for arm in ARMS}


@pytest.fixture
def study(arms: dict[Arm, Path], tmp_path: Path) -> tuple[Path, StudyPlan]:
    """A study folder and its plan."""
    sources = match_pictures(arms)
    groups = {name: {"age": "young" if number % 2 else "old"} for number, name in enumerate(sources.files)}
    plan, notes = create_study(tmp_path / "study", sources, plan_study(sources, SETTINGS, groups))
    assert notes == []
    return tmp_path / "study", plan
