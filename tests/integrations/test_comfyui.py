"""The node pack: in a stand-in for ComfyUI, and in the real one where ``COMFYUI`` names a checkout of it.

``COMFYUI_PYTHON`` is then the Python of its environment, by default this one.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import topcoat
from tests.integrations.comfyui_stand_in import comfyui, load_custom_node, run
from tests.integrations.workflows import PACK, WORKFLOWS, prompt_of
from tests.oracles.inputs import dulled, portraits
from topcoat.config import read_mapping
from topcoat.errors import ModelError, TopcoatError, UsageError
from topcoat.gates import Kept, gates_for
from topcoat.heads import Head
from topcoat.runtime.opening import open_runtime
from topcoat.runtime.runner import Runtime

Nodes = dict[str, Any]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """ComfyUI's folder of models, with a head in it."""
    Head.default().save_pretrained(tmp_path / "models" / "topcoat" / "mine")
    (tmp_path / "models" / "topcoat" / "notes.txt").write_text("no head")
    return tmp_path / "models"


@pytest.fixture
def bar(models: Path) -> Iterator[Any]:
    """ComfyUI's progress: ``done`` of the last one."""
    with comfyui(models) as bar:
        yield bar


@pytest.fixture
def nodes(bar: Any) -> Nodes:
    return load_custom_node(PACK)


@pytest.fixture
def images() -> Tensor:
    """``(3, 40, 56, 3)``, as ComfyUI has them."""
    return dulled(portraits(3, seed=3, size_px=56))[:, :, :40].movedim(1, 3)


def loaded(nodes: Nodes, name: str = "embedded", runtime: str = "auto", tile_px: int = 0, hub_id: str = "") -> Runtime:
    return nodes["TopcoatLoadHead"].execute(name, runtime, tile_px, hub_id).args[0]


def enhanced(nodes: Nodes, images: Tensor, strength: float = 1.0, mask: Tensor | None = None) -> Tensor:
    return nodes["TopcoatEnhance"].execute(loaded(nodes), images, strength, mask).args[0]


def by_topcoat(images: Tensor, strength: float = 1.0) -> Tensor:
    runtime = open_runtime("embedded")
    planes = images.movedim(3, 1)
    each = [runtime(np.ascontiguousarray(one[None].numpy()), strength) for one in planes]
    return torch.from_numpy(np.concatenate(each)).movedim(1, 3)


def test_the_pack_has_three_nodes(nodes: Nodes) -> None:
    assert list(nodes) == ["TopcoatLoadHead", "TopcoatEnhance", "TopcoatEnhanceGated"]
    schemas = [node.GET_SCHEMA() for node in nodes.values()]
    assert {schema.category for schema in schemas} == {"topcoat"}
    assert all(schema.description and schema.display_name for schema in schemas)


def test_heads_are_those_of_the_folder_and_the_embedded_one(nodes: Nodes, models: Path, images: Tensor) -> None:
    def names() -> list[str]:
        return nodes["TopcoatLoadHead"].GET_SCHEMA().inputs[0].options

    assert names() == ["embedded", "mine"]
    (models / "topcoat" / "head.onnx").write_bytes(b"")
    assert names() == ["embedded", "head.onnx", "mine"]
    assert loaded(nodes).name.startswith("ONNX Runtime") and loaded(nodes, "mine").name == "torch (CPU)"
    assert loaded(nodes, runtime="torch", tile_px=128).tile_px == 128
    planes = np.ascontiguousarray(images.movedim(3, 1).numpy())
    np.testing.assert_allclose(loaded(nodes, "mine")(planes), loaded(nodes)(planes), rtol=0, atol=1e-4)


def test_a_changed_head_is_loaded_again(nodes: Nodes, models: Path) -> None:
    def fingerprint(name: str, hub_id: str = "") -> str:
        return nodes["TopcoatLoadHead"].fingerprint_inputs(name, "auto", 0, hub_id)

    before, embedded = fingerprint("mine"), fingerprint("embedded")
    assert fingerprint("mine") == before != embedded
    os.utime(models / "topcoat" / "mine" / "model.safetensors", ns=(1, 1))
    assert fingerprint("mine") != before and fingerprint("embedded") == embedded
    assert fingerprint("embedded", "me/head") != embedded


def test_images_are_enhanced_as_by_topcoat(nodes: Nodes, bar: Any, images: Tensor) -> None:
    for strength in (0.0, 0.5, 1.0):
        assert torch.equal(enhanced(nodes, images, strength), by_topcoat(images, strength))
    assert torch.equal(enhanced(nodes, images * 1.5 - 0.2), by_topcoat((images * 1.5 - 0.2).clamp(0, 1)))
    assert bar.done == 3


def test_a_mask_says_where_and_alpha_stays(nodes: Nodes, images: Tensor) -> None:
    whole = enhanced(nodes, images)
    mask = torch.zeros(1, 40, 56)
    mask[:, :, 28:] = 1
    half = enhanced(nodes, images, mask=mask)
    assert torch.equal(half[:, :, :28], images[:, :, :28])
    torch.testing.assert_close(half[:, :, 28:], whole[:, :, 28:], rtol=0, atol=1e-6)
    assert torch.equal(enhanced(nodes, images, mask=mask[0]), half)  # ComfyUI's masks may lack the batch
    small = enhanced(nodes, images, mask=torch.ones(3, 64, 64))
    torch.testing.assert_close(small, whole, rtol=0, atol=1e-6)
    with pytest.raises(ModelError, match="there are 2 masks and 3 images; give one mask, or one for each image"):
        enhanced(nodes, images, mask=torch.ones(2, 40, 56))
    alpha = torch.rand(3, 40, 56, 1, generator=torch.Generator().manual_seed(0))
    result = enhanced(nodes, torch.cat([images, alpha], dim=3))
    assert torch.equal(result, torch.cat([whole, alpha], dim=3))


def gated(nodes: Nodes, images: Tensor, *rules: Any, mask: Tensor | None = None) -> tuple[Any, ...]:
    return nodes["TopcoatEnhanceGated"].execute(loaded(nodes), images, 1.0, *rules, mask=mask).args


def test_gates_are_those_of_topcoat(nodes: Nodes, images: Tensor) -> None:
    cases: list[tuple[tuple[Any, ...], tuple[Any, bool]]] = [
        (("calibrated", 0.9, True), ("calibrated", True)),
        (("fixed", 0.9999, False), (0.9999, False)),
    ]
    strengths: list[float] = []
    for rules, own in cases:
        gates = gates_for(Head.default(), *own)
        assert gates is not None
        expected = gates(images.movedim(3, 1), by_topcoat(images).movedim(3, 1))
        image, decisions, strengths, identities = gated(nodes, images, *rules)
        assert torch.equal(image, expected.images.movedim(1, 3))
        assert strengths == [one.strength for one in expected.decisions]
        assert identities == [one.identity for one in expected.decisions]
        assert [json.loads(line)["kept"] for line in decisions.splitlines()] == [one.kept for one in expected.decisions]
    assert strengths != [1.0, 1.0, 1.0]  # so high a floor lowers some
    image, decisions, strengths, identities = gated(nodes, images, "off", 0.9, False)
    assert torch.equal(image, by_topcoat(images)) and decisions == "" and strengths == [1.0] * 3
    assert len(identities) == 3 and all(map(math.isnan, identities))
    nothing = gated(nodes, images, "fixed", 0.9999, False, mask=torch.zeros(1, 40, 56))
    assert torch.equal(nothing[0], images) and nothing[2] == [1.0] * 3  # judged is what leaves the node


def test_what_cannot_work_is_one_sentence(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(TopcoatError, match=r"a tile of 8 px is too small"):
        loaded(nodes, tile_px=8)
    with pytest.raises(ModelError, match=r"there is no folder mistyped for the head; give a folder, or a hub id"):
        loaded(nodes, hub_id="mistyped@main")
    with pytest.raises(ModelError, match=r"nobody/nothing is not on this machine"):
        loaded(nodes, hub_id=" nobody/nothing ")
    with pytest.raises(UsageError, match="has no ONNX file"):
        loaded(nodes, "mine", "onnx")
    monkeypatch.setitem(sys.modules, "topcoat.heads.head", None)
    with pytest.raises(ModelError, match=r"needs the Python package topcoat.heads.head, which this ComfyUI lacks"):
        loaded(nodes, "mine", "torch")


@pytest.fixture
def picture(tmp_path: Path, images: Tensor) -> Path:
    (tmp_path / "inputs").mkdir()
    path = tmp_path / "inputs" / "example.png"
    Image.fromarray(images[0].mul(255).round().byte().numpy()).save(path)
    return path


def test_the_example_workflows_run(nodes: Nodes, picture: Path) -> None:
    assert [path.name for path in WORKFLOWS] == ["topcoat-enhance.json", "topcoat-gates.json"]
    given = torch.from_numpy(np.asarray(Image.open(picture), dtype=np.float32) / 255)[None]
    plain, with_gates = (run(prompt_of(path), nodes, picture) for path in WORKFLOWS)
    assert torch.equal(plain["4"], by_topcoat(given))
    (decision,) = (json.loads(line) for line in with_gates["5"].splitlines())
    assert with_gates["4"].shape == given.shape and decision["kept"] in get_args(Kept)


@pytest.mark.slow
def test_the_pack_runs_in_comfyui_itself(models: Path, picture: Path, tmp_path: Path) -> None:
    comfy = os.environ.get("COMFYUI")
    if comfy is None:
        pytest.skip("COMFYUI names no checkout of ComfyUI; its Python is COMFYUI_PYTHON")
    job = {"pack": str(PACK), "inputs": str(picture.parent), "outputs": str(tmp_path / "out"), "models": str(models)}
    own = prompt_of(WORKFLOWS[0])
    own["2"]["inputs"] |= {"name": "mine", "runtime": "torch"}
    wrong = prompt_of(WORKFLOWS[0])
    wrong["2"]["inputs"]["tile_px"] = 8
    job_file = tmp_path / "job.json"
    job_file.write_text(json.dumps(job | {"prompts": [*(prompt_of(path) for path in WORKFLOWS), own, wrong]}))
    script, source = Path(__file__).with_name("in_comfyui.py"), Path(topcoat.__file__).parents[1]
    done = subprocess.run(
        [os.environ.get("COMFYUI_PYTHON", sys.executable), str(script), str(job_file)],
        cwd=comfy,
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert set(result["nodes"]) == {"TopcoatLoadHead", "TopcoatEnhance", "TopcoatEnhanceGated"}
    assert result["nodes"]["TopcoatLoadHead"]["inputs"]["required"]["name"][1]["options"] == ["embedded", "mine"]
    plain, with_gates, torch_run, refused = result["prompts"]
    assert not plain["errors"] and not with_gates["errors"] and not torch_run["errors"]
    assert "a tile of 8 px is too small" in refused["errors"][0]
    assert json.loads(with_gates["shown"]["5"]["text"][0])["kept"] in get_args(Kept)
    given = torch.from_numpy(np.asarray(Image.open(picture), dtype=np.float32) / 255)[None]
    expected = by_topcoat(given)[0].mul(255).clamp(0, 255).byte().numpy()  # SaveImage cuts, it does not round
    for one in (plain, torch_run):
        saved = np.asarray(Image.open(tmp_path / "out" / one["shown"]["4"]["images"][0]["filename"]))
        assert np.abs(saved.astype(int) - expected).max() <= (0 if one is plain else 1)


def test_torch_is_not_among_the_requirements() -> None:
    project = read_mapping(PACK / "pyproject.toml")
    wanted = project["project"]["dependencies"]
    assert (PACK / "requirements.txt").read_text().split() == wanted == ["topcoat>=0.1,<0.2"]  # without extras
    base = read_mapping(PACK.parents[1] / "pyproject.toml")["project"]["dependencies"]
    assert not [name for name in base if re.match(r"torch|diffusers|transformers", name)]
    version = tuple(int(part) for part in topcoat.__version__.split(".")[:2])
    assert version == (0, 1) and project["tool"]["comfy"]["DisplayName"] == "topcoat"
