from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import topcoat
from topcoat.embedded import MINI
from topcoat.images import write_image

HEAVY = {
    "torch",
    "numpy",
    "scipy",
    "PIL",
    "pydantic",
    "yaml",
    "pyarrow",
    "safetensors",
    "transformers",
    "diffusers",
    "accelerate",
    "huggingface_hub",
}


def _loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh Python holds after ``code``, which is run with the standard output thrown away."""
    script = f"import sys, io\nout, sys.stdout = sys.stdout, io.StringIO()\n{code}\nprint(*sys.modules, file=out)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_a_bare_import_loads_nothing_but_the_standard_library() -> None:
    before = _loaded_by("pass")
    loaded = _loaded_by("import topcoat") - before
    assert loaded <= {"topcoat"} | set(sys.stdlib_module_names)


def test_help_loads_nothing_heavy() -> None:
    code = "import topcoat.cli.app as a\ntry:\n    a.app(['--help'])\nexcept SystemExit:\n    pass"
    assert not _loaded_by(code) & HEAVY


def test_prompts_need_nothing_heavy() -> None:
    code = "import topcoat.cli.app as a\ntry:\n    a.app(['prompts', '--count', '1'])\nexcept SystemExit:\n    pass"
    assert not _loaded_by(code) & (HEAVY - {"pydantic"})  # typer itself checks values with pydantic


def test_enhance_loads_neither_a_pipeline_nor_tables_nor_pages(tmp_path: Path) -> None:
    source, target = tmp_path / "x.png", tmp_path / "y.png"
    write_image(source, torch.rand(3, 32, 32))
    arguments = ["enhance", str(source), "-o", str(target)]
    loaded = _loaded_by(f"import topcoat.cli.app as a\na.app({arguments}, standalone_mode=False)")
    assert "onnxruntime" in loaded and target.is_file()
    unused = {
        "torch",
        "diffusers",
        "transformers",
        "accelerate",
        "scipy",
        "pyarrow",
        "matplotlib",
        "jinja2",
        "faker",
        "rich",
    }
    assert not loaded & unused


def test_what_generate_imports_waits_for_the_heavy_libraries_until_a_model_is_loaded() -> None:
    loaded = _loaded_by("import topcoat.generators.diffusers, topcoat.pipeline, topcoat.heads, topcoat.prompts.styles")
    assert not loaded & {"diffusers", "transformers", "accelerate", "scipy", "pyarrow", "matplotlib", "jinja2", "faker"}


def test_training_loads_no_report_page() -> None:
    loaded = _loaded_by("import topcoat.training, topcoat.metrics.evaluate")
    assert "torch" in loaded and not loaded & {"jinja2", "markupsafe", "matplotlib"}
    script = "import sys, topcoat.training\nprint(*[name for name in sys.modules if name.startswith('topcoat.')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {name for name in done.stdout.split() if name.startswith(("topcoat.reports", "topcoat.cli"))}


def test_the_public_names_are_sorted_and_there() -> None:
    assert list(topcoat.__all__) == sorted(topcoat.__all__)
    for name in topcoat.__all__:
        assert getattr(topcoat, name) is not None
    assert dir(topcoat) == sorted(topcoat.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = topcoat.nothing


def test_it_says_that_it_is_typed_and_carries_its_assets() -> None:
    assert (Path(topcoat.__file__).parent / "py.typed").is_file()
    assert (MINI / "pair.json").is_file()


def test_no_file_is_longer_than_400_lines() -> None:
    root = Path(topcoat.__file__).parents[2]
    folders = [root / name for name in ("src", "recipes", "tests", "examples", "benchmarks")]
    long = {
        str(path.relative_to(root)): count
        for folder in folders
        for path in folder.rglob("*.py")
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert not long


@pytest.mark.parametrize(
    ("given", "wanted"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"), ({"KMP_BLOCKTIME": "200"}, None)]
)
@pytest.mark.parametrize("start", ["from topcoat.cli.app import main", "from topcoat.__main__ import main"])
def test_idle_threads_sleep_unless_the_user_says_otherwise(given: dict[str, str], wanted: str | None, start: str):
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    environment = {name: value for name, value in os.environ.items() if name not in names} | given
    script = (
        f"import os, sys\n{start}\nassert 'torch' not in sys.modules\nsys.argv = ['topcoat', '--version']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\nprint(os.environ.get('OMP_WAIT_POLICY'))"
    )
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == str(wanted)


def test_threads_are_set_before_torch_is_imported(tmp_path: Path) -> None:
    source, target = tmp_path / "x.png", tmp_path / "y.png"
    write_image(source, torch.rand(3, 32, 32))
    arguments = ["topcoat", "enhance", str(source), "-o", str(target), "--threads", "1"]
    script = (
        f"import sys\nfrom topcoat.cli.app import main\nsys.argv = {arguments}\ntry:\n    main()\n"
        "except SystemExit:\n    pass\nimport torch\nprint(torch.get_num_threads())"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "1"
