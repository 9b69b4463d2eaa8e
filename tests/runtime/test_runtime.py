"""The embedded head on every library: one result, on pictures of any size and type, whole or in tiles."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.oracles.inputs import dulled, portraits
from topcoat.embedded import MINI
from topcoat.errors import DataError, ModelError, UsageError
from topcoat.files import sha256_of
from topcoat.heads import Head
from topcoat.runtime import RuntimeName
from topcoat.runtime.opening import open_runtime
from topcoat.runtime.record import HeadRecord
from topcoat.runtime.runner import Runtime

EVERY: tuple[RuntimeName, ...] = ("torch", "onnx", "openvino")


def opened(runtime: RuntimeName, tile_px: int | None = None) -> Runtime:
    if runtime == "openvino":
        pytest.importorskip("openvino")
    return open_runtime("embedded", runtime, tile_px=tile_px, threads=1)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return dulled(portraits(2, seed=5, size_px=200)).numpy()


@pytest.mark.parametrize("runtime", EVERY)
@pytest.mark.parametrize("size", [(200, 200), (131, 77), (1, 1), (5, 190)])
def test_every_runtime_gives_what_the_head_gives(
    pictures: np.ndarray, runtime: RuntimeName, size: tuple[int, int]
) -> None:
    given = np.ascontiguousarray(pictures[..., : size[0], : size[1]])
    for strength in (0.0, 0.7, 1.0):
        expected = Head.default()(torch.from_numpy(given), strength).numpy()
        enhanced = opened(runtime)(given, strength)
        assert enhanced.dtype == np.float32 and enhanced.shape == given.shape
        np.testing.assert_allclose(enhanced, expected, rtol=0, atol=1e-4 if strength else 0)


def test_the_embedded_files_are_one_head() -> None:
    session, head = opened("onnx").session, Head.default()
    assert session.record.digest == head.digest
    assert session.record.weights_sha256 == sha256_of(MINI / "head" / "model.safetensors")
    assert session.record.gates == head.gates
    assert (session.record.size_multiple, session.record.halo_px) == (head.config.size_multiple, head.config.halo_px)
    assert session.record.largest_difference is not None and session.record.largest_difference < 1e-4
    assert "Apache-2.0" in session.record.licence


def test_bytes_are_enhanced_like_floats_in_their_own_layout(pictures: np.ndarray) -> None:
    pixels = np.rint(pictures * 255).astype(np.uint8).transpose(0, 2, 3, 1).copy()  # (N, H, W, 3)
    runtime = opened("onnx")
    enhanced = runtime(pixels.transpose(0, 3, 1, 2))
    assert enhanced.dtype == np.uint8 and enhanced.transpose(0, 2, 3, 1).flags.c_contiguous
    expected = runtime(pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
    assert np.abs(enhanced - expected * 255).max() <= 0.5 + 1e-4
    assert (runtime(pixels.transpose(0, 3, 1, 2), 0.0) == pixels.transpose(0, 3, 1, 2)).all()


@pytest.mark.parametrize("runtime", EVERY[:2])
def test_tiles_join_to_the_whole(runtime: RuntimeName) -> None:
    rng = np.random.default_rng(1)
    picture = np.kron(rng.random((1, 3, 50, 75), dtype=np.float32), np.ones((1, 1, 10, 10), dtype=np.float32))
    picture[..., 200:230, :] = rng.random((1, 3, 30, 750), dtype=np.float32)
    done: list[tuple[int, int]] = []
    tiled = opened(runtime, 256)(picture, progress=lambda *at: done.append(at))
    assert done == [(number, 6) for number in range(1, 7)]
    assert np.abs(tiled - opened(runtime)(picture)).max() < 0.1 / 255


def test_a_picture_is_enhanced_alone_as_in_a_batch(pictures: np.ndarray) -> None:
    runtime = opened("onnx")
    np.testing.assert_array_equal(runtime(pictures)[1:], runtime(pictures[1:]))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros((1, 3, 8, 8)), "float64; give float32"),
        (np.zeros((3, 8, 8), dtype=np.uint8), r"\(N, 3, H, W\)"),
        (np.zeros((1, 4, 8, 8), dtype=np.uint8), r"\(N, 3, H, W\)"),
        (np.full((1, 3, 8, 8), 1.5, dtype=np.float32), "range from 1.5 to 1.5"),
        (np.full((1, 3, 8, 8), np.nan, dtype=np.float32), "finite"),
    ],
)
def test_what_is_no_image_is_said(given: np.ndarray, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        opened("onnx")(given)


def test_strength_and_tiles_have_bounds(pictures: np.ndarray) -> None:
    with pytest.raises(UsageError, match="strength is 3"):
        opened("onnx")(pictures, 3)
    with pytest.raises(UsageError, match="tile of 10 px is too small"):
        opened("onnx", 10)


def test_heads_that_cannot_be_run_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="decodes the distilled model's latents"):
        open_runtime("embedded-decoder", "torch")
    with pytest.raises(UsageError, match="topcoat export"):
        open_runtime("embedded-refiner", "onnx")
    with pytest.raises(UsageError, match="pools over the whole picture"):
        open_runtime("embedded-refiner", "torch", tile_px=256)
    with pytest.raises(UsageError, match="which torch does not run"):
        open_runtime(MINI / "head" / "head.onnx", "torch")
    with pytest.raises(DataError, match="does not exist"):
        open_runtime(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(DataError, match="no ONNX model"):
        open_runtime(tmp_path / "text.onnx")


def test_an_onnx_model_that_is_no_head_is_refused(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(MINI / "head" / "head.onnx")
    record = HeadRecord.model_validate_json(model.metadata_props[0].value)
    model.metadata_props[0].value = record.model_dump_json().replace('"format_version":1', '"format_version":9')
    onnx.save(model, tmp_path / "later.onnx")
    with pytest.raises(DataError, match="another version"):
        open_runtime(tmp_path / "later.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    for runtime in ("onnx", "openvino"):
        with pytest.raises(DataError, match="no topcoat head"):
            open_runtime(tmp_path / "foreign.onnx", runtime)


def test_a_file_of_other_weights_beside_it_is_refused(tmp_path: Path) -> None:
    for name in ("head.onnx", "config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((MINI / "head" / name).read_bytes())
    assert open_runtime(tmp_path).name.startswith("ONNX Runtime")
    with (tmp_path / "model.safetensors").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(DataError, match="from other weights"):
        open_runtime(tmp_path)


def test_damaged_weights_are_said() -> None:
    class Broken:
        name, record = "broken", opened("onnx").record

        def run(self, inputs: np.ndarray, strength: float) -> np.ndarray:
            return inputs * np.float32("nan")

    class Full(Broken):
        def run(self, inputs: np.ndarray, strength: float) -> np.ndarray:
            raise MemoryError

    picture = np.zeros((1, 3, 16, 16), dtype=np.float32)
    with pytest.raises(ModelError, match="not finite"):
        Runtime(Broken())(picture)
    with pytest.raises(ModelError, match="smaller tile"):
        Runtime(Full())(picture)


def test_the_embedded_head_runs_without_torch() -> None:
    script = (
        "import sys, numpy as np\n"
        "from topcoat.runtime.opening import open_runtime\n"
        "runtime = open_runtime()\n"
        "assert runtime(np.zeros((1, 3, 40, 40), np.uint8)).shape == (1, 3, 40, 40)\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "onnxruntime" in loaded
    assert not loaded & {"torch", "diffusers", "transformers", "safetensors", "huggingface_hub", "scipy", "pyarrow"}


def test_torch_computes_in_16_bits_and_compiles(pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Head] = []
    monkeypatch.setattr(Head, "compile", lambda head: compiled.append(head) or head)
    runtime = open_runtime("embedded", "torch", precision="bfloat16", compiled=True)
    assert runtime.record.precision == "bfloat16" and len(compiled) == 1
    difference = np.abs(runtime(pictures) - opened("torch")(pictures))
    assert 0 < difference.max() < 8 / 255 and difference.mean() < 1 / 255
    with pytest.raises(UsageError, match="add --runtime torch"):
        open_runtime("embedded", precision="bfloat16")
    with pytest.raises(UsageError, match="add --runtime torch"):
        open_runtime("embedded", "onnx", compiled=True)
