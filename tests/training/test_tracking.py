from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from topcoat.training.records import TrainRecord, ValidationRecord
from topcoat.training.tracking import Board


class Writer:
    folder = ""
    written: list[tuple[str, float, int]]
    closed = False

    def __init__(self, folder: str) -> None:
        Writer.folder, Writer.written, Writer.closed = folder, [], False

    def add_scalar(self, name: str, value: float, step: int) -> None:
        Writer.written.append((name, value, step))

    def close(self) -> None:
        Writer.closed = True


RECORD = TrainRecord(
    images_seen=64,
    step=4,
    loss=float("nan"),
    parts={"charbonnier": 0.5},
    learning_rate=1e-3,
    images_per_second=10.0,
    skipped_steps=1,
    validation=ValidationRecord(4, 30.0, 0.1, 28.0, 0.2, 1.0, 4.0),
)


def test_numbers_go_to_the_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    board = Board(tmp_path, wanted=True)
    board.write(RECORD)
    board.close()
    written = {name: value for name, value, step in Writer.written if step == 64}
    assert written["loss/charbonnier"] == 0.5 and written["validation/gap closed"] == 0.75
    assert "loss" not in written  # a loss that is no number is no point
    assert Writer.folder == str(tmp_path) and Writer.closed


def test_without_tensorboard_or_the_wish_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    for installed, wanted in ((None, True), (object(), False)):
        monkeypatch.setattr("importlib.util.find_spec", lambda name, found=installed: found)
        board = Board(tmp_path / "x", wanted)
        board.write(RECORD)
        board.close()
    assert list(tmp_path.iterdir()) == []


def test_records_say_how_much_of_the_gap_is_closed():
    assert RECORD.validation is not None and RECORD.validation.gap_closed == 0.75
    assert RECORD.validation.score == 1.0
    unknown = ValidationRecord(1, 30.0, 0.1, 28.0, 0.2)
    assert unknown.gap_closed is None and unknown.score == 0.1
    assert ValidationRecord(4, 30.0, 0.1, 28.0, 0.2, 1.0, -0.1).gap_closed is None
