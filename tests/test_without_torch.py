"""The base installation: what it may import, how soon it starts, and what it says where torch is needed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

import topcoat
from topcoat.config import read_mapping
from topcoat.embedded import MINI

SOURCE = Path(topcoat.__file__).parents[1]
MODELS = {"torch", "diffusers", "transformers", "accelerate", "safetensors", "huggingface_hub", "scipy", "pyarrow"}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((256, 200), Image.Resampling.BICUBIC).save(path)
    return path


def _modules(arguments: Sequence[str]) -> set[str]:
    """The top-level modules that a command has loaded when it ends."""
    script = f"import sys\nfrom topcoat.cli.app import app\napp({list(arguments)!r}, standalone_mode=False)\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{script}print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_enhance_imports_no_torch(picture: Path, tmp_path: Path) -> None:
    loaded = _modules(["enhance", str(picture), "-o", str(tmp_path / "new.png")])
    assert "onnxruntime" in loaded and not loaded & MODELS
    assert not loaded & {"onnx", "jinja2", "faker", "rich", "ray"}
    before, after = (np.asarray(Image.open(path)).astype(int) for path in (picture, tmp_path / "new.png"))
    assert before.shape == after.shape and 1 < np.abs(before - after).mean() < 60


def test_a_study_with_groups_imports_no_torch(tmp_path: Path) -> None:
    options = ["--pairs", "6", "--checks", "1", "--groups", str(tmp_path / "groups.csv"), "-o", str(tmp_path / "study")]
    for arm in ("distilled", "enhanced", "baseline"):
        (tmp_path / arm).mkdir()
        options += [f"--{arm}", str(tmp_path / arm)]
        for number in range(6):
            Image.new("RGB", (20, 24)).save(tmp_path / arm / f"{number}.png")
    (tmp_path / "groups.csv").write_text("name,age\n" + "".join(f"{number},old\n" for number in range(6)))
    assert _modules(["study", "create", *options]) & MODELS == {"scipy"}
    assert '"age": "old"' in (tmp_path / "study" / "study.json").read_text()


@pytest.mark.slow
def test_the_first_picture_is_there_within_a_second(picture: Path, tmp_path: Path) -> None:
    """Of processor time, so that a busy machine does not matter."""
    command = [sys.executable, "-m", "topcoat", "enhance", str(picture), "-o", str(tmp_path / "new.png"), "--overwrite"]
    seconds = []
    for _ in range(3):
        before = os.times()
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(SOURCE)})
        after = os.times()
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(seconds) < 1, seconds


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python in an environment of its own, with the packages that pyproject.toml's dependencies bring and no others."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    project = read_mapping(SOURCE.parent / "pyproject.toml")["project"]
    for distribution in _closure([Requirement(text) for text in project["dependencies"]]):
        for file in {Path(file.parts[0]) for file in distribution.files or () if file.parts[0] not in ("..", "bin")}:
            if not (packages / file).exists():
                (packages / file).symlink_to(Path(str(distribution.locate_file(file))))
    (packages / "topcoat.pth").write_text(str(SOURCE))
    return folder / "bin" / "python"


def _closure(requirements: list[Requirement]) -> list[metadata.Distribution]:
    found: dict[str, metadata.Distribution] = {}
    while requirements:
        requirement = requirements.pop()
        if requirement.name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found[requirement.name] = metadata.distribution(requirement.name)
        requirements += [Requirement(text) for text in found[requirement.name].requires or ()]
    return list(found.values())


def _run(python: Path, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    command = [str(python), "-m", "topcoat", *(str(argument) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == code, done.stderr
    return done


@pytest.mark.slow
def test_an_environment_without_torch_enhances(bare: Path, picture: Path, tmp_path: Path) -> None:
    missing = "import importlib.util as u; print(*[n for n in ('torch', 'safetensors', 'scipy') if u.find_spec(n)])"
    assert subprocess.run([bare, "-c", missing], capture_output=True, text=True, check=True).stdout.strip() == ""
    started = time.monotonic()
    _run(bare, "enhance", picture, "-o", tmp_path / "new.png")
    assert time.monotonic() - started < 60
    subprocess.run(
        [sys.executable, "-m", "topcoat", "enhance", picture, "-o", tmp_path / "torch.png", "--runtime", "torch"],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    ours, theirs = (np.asarray(Image.open(tmp_path / name)).astype(int) for name in ("new.png", "torch.png"))
    assert np.abs(ours - theirs).max() <= 1
    assert "topcoat" in _run(bare, "inspect", tmp_path / "new.png").stdout
    assert "ONNX Runtime on CPU" in _run(bare, "doctor").stdout
    for arguments in (
        ["generate", "an old man", "-o", tmp_path / "generated.png"],
        ["train", "unet", "--data", tmp_path, "-o", tmp_path / "run"],
        ["enhance", picture, "-o", tmp_path / "other.png", "--head", "embedded-refiner"],
        ["enhance", picture, "-o", tmp_path / "other.png", "--never-worse"],
        ["export", "embedded", "-o", tmp_path / "head.onnx"],
    ):
        said = _run(bare, *arguments, code=1).stderr
        assert "pip install 'topcoat[models]'" in said and "Traceback" not in said, arguments


def test_the_packages_own_files_are_small() -> None:
    assert sum(path.stat().st_size for path in MINI.rglob("*") if path.is_file()) < 50e6
