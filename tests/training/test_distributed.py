from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training import launched
from topcoat.errors import UsageError
from topcoat.training.distributed import Processes

ROOT = Path(__file__).parents[2]


def test_one_process_exchanges_nothing():
    alone = Processes("cpu", "float32")
    assert (alone.count, alone.rank, alone.is_first) == (1, 0, True)
    assert alone.mean([1.0, 2.0]) == [1.0, 2.0]
    assert alone.decided(True) and not alone.decided(False)
    assert alone.gather(torch.ones(2)).shape == (1, 2)
    assert alone.share(7) == 7
    with pytest.raises(UsageError, match="use auto"):
        Processes("mps", "float32")


def test_autocast_follows_the_precision():
    layer = torch.nn.Linear(2, 2)
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)):
        with Processes("cpu", precision).autocast():
            assert layer(torch.rand(1, 2)).dtype == dtype


def test_a_batch_is_shared_evenly(monkeypatch: pytest.MonkeyPatch):
    processes = Processes("cpu", "float32")
    monkeypatch.setattr(processes, "count", 3)
    assert processes.share(6) == 2
    with pytest.raises(UsageError, match="multiple of 3"):
        processes.share(4)


def launch(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    # on CPUs `accelerate launch --num_processes 2` starts one process; torchrun starts two, which accelerate joins
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    return subprocess.run(
        [*command, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
def test_two_processes_train_as_one_does(tmp_path: Path):
    result = launch("-m", "tests.training.launched", tmp_path / "two")
    assert result.returncode == 0, result.stderr[-3000:]
    launched.main(tmp_path / "one")
    states = [load_file(tmp_path / count / "plain" / "checkpoints" / "last.safetensors") for count in ("one", "two")]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, atol=2e-4, rtol=2e-2, msg=name)
    lines = (tmp_path / "two" / "plain" / "stats.jsonl").read_text().splitlines()
    assert [json.loads(line)["images_seen"] for line in lines] == [12, 24]  # one process writes

    # with two processes too, stopped and resumed is bit for bit the uninterrupted run
    names = ("cycle", "cycle-whole")
    parts, whole = (load_file(tmp_path / "two" / name / "checkpoints" / "last.safetensors") for name in names)
    assert parts["pool.forth"].shape[:2] == (2, 3)
    assert parts.keys() == whole.keys() and all(torch.equal(parts[name], whole[name]) for name in parts)
