"""`topcoat study`: from three folders to a result, and the sentences on the way."""

from __future__ import annotations

import builtins
import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from PIL import Image

from tests.cli.conftest import Run, words_after
from topcoat.study.plan import read_plan
from topcoat.study.store import Store


@pytest.fixture
def folders(tmp_path: Path) -> list[object]:
    """The options of three folders with six small pictures each."""
    random = np.random.default_rng(0)
    options: list[object] = []
    for arm in ("distilled", "enhanced", "baseline"):
        (tmp_path / arm).mkdir()
        for number in range(6):
            pixels = random.integers(0, 256, (24, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / arm / f"{number}.png")
        options += [f"--{arm}", tmp_path / arm]
    return options


SMALL = ("--pairs", 6, "--raters", 3, "--checks", 1)


def vote(folder: Path, raters: int, answers: int = 7) -> None:
    """Raters who always find the first arm of a comparison better."""
    plan = read_plan(folder)
    store = Store(folder, plan)
    for number in range(raters):
        token = store.start(f"browser-{number}", f"network-{number}")
        rater = store.rater(token)
        assert rater is not None
        for position, trial in enumerate(rater.trials[:answers]):
            order = ("enhanced", "baseline", "distilled", "degraded")
            better = min(trial.arms, key=order.index)
            store.vote(token, position, "1" if trial.arms[0] == better else "2", 3.0)
    store.close()


def test_from_folders_to_a_result(run: Run, run_json: Run, folders: list[object], tmp_path: Path) -> None:
    study = tmp_path / "study"
    made = run("study", "create", *folders, "-o", study, *SMALL)
    assert "6 subjects in" in made.stdout and words_after("Next: ", made.stdout) == ["study", "serve", str(study)]
    assert "takes 385 independent votes" in made.stdout
    rules = tmp_path / "rules.yaml"
    rules.write_text("fast_share: null\n")
    refused = run("study", "create", *folders, "-o", study, *SMALL, "--rules", rules, code=2)
    assert "holds a study already" in refused.stderr
    assert "no vote that counts yet" in run("study", "result", study, code=1).stderr
    vote(study, 3)
    listed = run_json("study", "raters", study)
    assert [rater["answered"] for rater in listed["raters"]] == [7, 7, 7]
    # the votes came within milliseconds: the server's clock does not believe the 3 seconds
    assert "100 % of answers in less than 0.5 s" in run("study", "result", study, code=1).stderr


def test_a_result_has_its_files(run: Run, run_json: Run, folders: list[object], tmp_path: Path) -> None:
    study, rules = tmp_path / "study", tmp_path / "rules.yaml"
    rules.write_text("fast_share: null\n")
    made = run_json("study", "create", *folders, "-o", study, *SMALL, "--rules", rules, "--seed", 3)
    assert made["rules"]["fast_share"] is None and made["power"]["raters"] == 3
    vote(study, 3)
    record = run_json("study", "result", study)
    assert record == json.loads((study / "result" / "result.json").read_text())
    assert {claim["name"] for claim in record["claims"]} == {"preferred", "not-worse", "gap"}
    assert (study / "result" / "votes.csv").read_text().count("\n") == 22
    assert (study / "result" / "result.html").read_text().startswith("<!doctype html>")
    assert "enhanced over distilled" in run("study", "result", study, "-o", tmp_path / "else").stdout
    assert (tmp_path / "else" / "result.json").is_file()


def test_a_rater_can_be_exported_and_deleted(run: Run, run_json: Run, folders: list[object], tmp_path: Path) -> None:
    study = tmp_path / "study"
    run("study", "create", *folders, "-o", study, *SMALL)
    vote(study, 2, answers=2)
    assert len(run_json("study", "raters", study, "--export", 2)["votes"]) == 2
    assert "2/7" in run("study", "raters", study).stdout
    assert "are deleted" in run("study", "raters", study, "--delete", 1).stdout
    assert run_json("study", "raters", study)["deleted"] == 1
    for option in ("--export", "--delete"):
        assert "there is no rater 1" in run("study", "raters", study, option, 1, code=2).stderr
    assert "two things" in run("study", "raters", study, "--export", 2, "--delete", 2, code=2).stderr


def test_a_dry_run_says_what_a_study_can_tell(run_json: Run, folders: list[object], tmp_path: Path) -> None:
    record = run_json("study", "create", *folders, "-o", tmp_path / "study", *SMALL, "--dry-run")
    assert record["power"]["independent_votes"] == 385 and record["folder"] is None
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--pairs", 7), "7 subjects are asked for, and 6 have a picture"),
        (("--margin", 0.7), "margin: input should be less than 0.5"),
        (("--votes", 99), "99 votes of each rater are more than the 18 comparisons"),
        (("--checks", 9), "9 attention checks"),
        (("--consent", "nowhere.txt"), "nowhere.txt cannot be read"),
        (("--rules", "nowhere.yaml"), "nowhere.yaml does not exist"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_one_sentence(
    run: Run, folders: list[object], tmp_path: Path, options: tuple[object, ...], sentence: str
) -> None:
    given = [*folders, "-o", tmp_path / "study", "--pairs", 6, *options]
    error = run("study", "create", *given, code=2).stderr
    assert sentence in error and error.count("\n") == 1
    assert not (tmp_path / "study").exists()


def test_a_study_is_served_on_this_machine_alone_unless_said_otherwise(
    run: Run, folders: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tmp_path / "study"
    run("study", "create", *folders, "-o", study, *SMALL)
    hosts: list[str] = []

    def listen(self: uvicorn.Server, sockets: list[socket.socket]) -> None:
        hosts.append(sockets[0].getsockname()[0])
        sockets[0].close()

    monkeypatch.setattr(uvicorn.Server, "run", listen)
    assert "raters vote at http://127.0.0.1:" in run("study", "serve", study, "--port", 0).stdout
    assert "without encryption" in run("study", "serve", study, "--port", 0, "--host", "0.0.0.0").stderr
    assert hosts == ["127.0.0.1", "0.0.0.0"]
    assert "holds no study" in run("study", "serve", tmp_path, code=1).stderr
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = run("study", "serve", study, "--port", other.getsockname()[1], code=2)
    assert "cannot listen on 127.0.0.1" in taken.stderr


def test_a_missing_extra_is_named(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ordinary = builtins.__import__

    def without(name: str, *given: Any, **more: Any) -> Any:
        if name == "uvicorn":
            raise ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn")
        return ordinary(name, *given, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "pip install 'topcoat[study]'" in run("study", "serve", tmp_path, code=1).stderr
