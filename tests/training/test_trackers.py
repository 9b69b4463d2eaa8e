from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from tests.fake_pairs import FakeDataset
from topcoat.features import FeatureNet
from topcoat.training import TrainConfig, train
from topcoat.training.records import TrainRecord, ValidationRecord
from topcoat.training.trackers import Trackers


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


class FakeWandb:
    """Weights & Biases as far as a run uses it; ``online`` is what `init` does where no mode is given."""

    Settings: ClassVar[Any] = SimpleNamespace
    __spec__ = ModuleSpec("wandb", None)  # other libraries look whether it is installed

    def __init__(self, *, online: bool = True, offline: bool = True) -> None:
        self._can = {None: online, "offline": offline}
        self.runs: list[dict[str, Any]] = []
        self.logged: list[dict[str, float]] = []
        self.metrics: list[tuple[str, str | None]] = []
        self.finished = 0

    def init(self, *, mode: str | None, **given: Any) -> FakeWandb:
        if not self._can[mode]:
            raise ConnectionError("no such host")
        self.runs.append({"mode": mode, **given})
        return self

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self.metrics.append((name, step_metric))

    def log(self, values: dict[str, float]) -> None:
        self.logged.append(values)

    def finish(self) -> None:
        self.finished += 1


RECORD = TrainRecord(
    images_seen=64,
    step=4,
    loss=float("nan"),
    parts={"charbonnier": 0.5},
    learning_rate=1e-3,
    images_per_second=10.0,
    skipped_steps=1,
    validation=ValidationRecord(4, 30.0, 0.1, 28.0, 0.2, 1.0, 4.0, 2.5, 5.0),
)


def trackers(folder: Path, tensorboard: bool, wandb: str, about: Mapping[str, Any]) -> Trackers:
    """Those of a run called x."""
    settings = {"tensorboard": tensorboard, "wandb": wandb, "objective": {"kind": "paired", "charbonnier": 1.0}}
    return Trackers(folder, TrainConfig.model_validate({"name": "s", "images": 1, **settings}), {"run": "x", **about})


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    names: set[str] = set()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if name in names else None)
    return names


def use_wandb(monkeypatch: pytest.MonkeyPatch, installed: set[str], fake: FakeWandb) -> FakeWandb:
    installed.add("wandb")
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_numbers_go_to_the_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: set[str]):
    installed.add("tensorboard")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    board = trackers(tmp_path, True, "offline", {})
    board.write(RECORD)
    board.close()
    written = {name: value for name, value, step in Writer.written if step == 64}
    assert written["loss/charbonnier"] == 0.5 and written["validation/gap closed"] == 0.75
    assert written["validation/frechet"] == 2.5
    assert "loss" not in written  # a loss that is no number is no point
    assert Writer.folder == str(tmp_path / "tensorboard") and Writer.closed


def test_what_is_not_installed_or_not_wanted_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: set[str]
):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    trackers(tmp_path, True, "online", {}).write(RECORD)
    installed |= {"tensorboard", "wandb"}
    trackers(tmp_path, False, "off", {}).write(RECORD)
    assert list(tmp_path.iterdir()) == []


def test_numbers_go_to_weights_and_biases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: set[str]):
    fake = use_wandb(monkeypatch, installed, FakeWandb())
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    run = trackers(tmp_path, True, "offline", {"run": "best-unet", "seed": 3})
    run.write(RECORD)
    run.close()
    (started,) = fake.runs
    assert (started["mode"], started["project"], started["name"]) == ("offline", "topcoat", "best-unet")
    assert started["config"] == {"run": "best-unet", "seed": 3} and started["dir"] == str(tmp_path.resolve())
    assert ("*", "images seen") in fake.metrics and fake.finished == 1
    (values,) = fake.logged
    assert values["images seen"] == 64 and values["loss/charbonnier"] == 0.5 and "loss" not in values


def test_a_run_that_goes_on_keeps_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: set[str]):
    fake = use_wandb(monkeypatch, installed, FakeWandb())
    for folder, about in ((tmp_path, {"a": 1}), (tmp_path, {"a": 1}), (tmp_path / "x", {"a": 1}), (tmp_path, {})):
        trackers(folder, False, "offline", about)
    ids = [run["id"] for run in fake.runs]
    assert ids[0] == ids[1] and len(set(ids)) == 3
    assert all(run["resume"] == "allow" for run in fake.runs)


def test_without_a_network_the_run_is_kept_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: set[str]
):
    fake = use_wandb(monkeypatch, installed, FakeWandb(online=False))
    with pytest.warns(UserWarning, match=r"no such host.*kept offline"):
        trackers(tmp_path, False, "online", {})
    assert [run["mode"] for run in fake.runs] == ["offline"]


def test_a_tracker_that_fails_altogether_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: set[str]
):
    use_wandb(monkeypatch, installed, FakeWandb(offline=False))
    with pytest.warns(UserWarning, match="goes on without"):
        run = trackers(tmp_path, False, "offline", {})
    run.write(RECORD)
    run.close()


def test_training_tells_it(
    config: TrainConfig, dataset: FakeDataset, features: FeatureNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fake = FakeWandb()
    monkeypatch.setattr("topcoat.training.trackers._installed", lambda name: name == "wandb")
    monkeypatch.setitem(sys.modules, "wandb", fake)
    records = list(train(config, dataset, tmp_path / "run", images=48, features=features))
    assert [values["images seen"] for values in fake.logged] == [45, 48] and fake.finished == 1
    validation = records[-1].validation
    assert validation is not None and fake.logged[-1]["validation/frechet"] == validation.frechet
    moved = config.model_copy(update={"wandb": "off"})
    assert moved.identity() == config.identity()  # so it may change between a stop and a resume


def test_records_say_how_much_of_the_gap_is_closed():
    assert RECORD.validation is not None and RECORD.validation.gap_closed == 0.75
    assert RECORD.validation.score == 1.0
    unknown = ValidationRecord(1, 30.0, 0.1, 28.0, 0.2)
    assert unknown.gap_closed is None and unknown.score == 0.1
    assert ValidationRecord(4, 30.0, 0.1, 28.0, 0.2, 1.0, -0.1).gap_closed is None
