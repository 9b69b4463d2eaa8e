"""The options of `topcoat pairs build`, and how it ends."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import words_after
from topcoat.generators.diffusers import DiffusersGenerator
from topcoat.pairs.dataset import PairDataset


@pytest.fixture
def build(pair_file: Path, tmp_path: Path) -> tuple[object, ...]:
    """The command line of a small build."""
    return ("pairs", "build", tmp_path / "pairs", "--pair", pair_file, "--count", 6, "--shard-size", 4)


def test_all_options(run: Any, run_json: Any, build: tuple[object, ...], tmp_path: Path) -> None:
    more = ("--distilled-steps", "2,1,3", "--latents", "--filter", "blank", "--batch-size", 2)
    record = run_json(*build, *more)
    dataset = PairDataset.open(tmp_path / "pairs")
    assert dataset.steps == (1, 2, 3)
    assert record["pairs"] + len(record["dropped"]) == 6 and record["failures"] == []
    assert dataset.manifest.filters == ("blank",) and dataset.manifest.batch_size == 2
    assert run_json(*build, *more)["digest"] == record["digest"]
    assert "has batch_size 2, not 3" in run(*build, *more[:-1], 3, code=1).stderr
    assert 'filters: ["blank"], not []' in run(*build, *more[:4][:3], code=1).stderr


def test_img2img(run_json: Any, build: tuple[object, ...], tmp_path: Path) -> None:
    run_json(*build, "--pairing", "img2img", "--strength", "0.5")
    assert PairDataset.open(tmp_path / "pairs").pairing.strength == 0.5


def test_a_dry_run_counts_every_step(run_json: Any, build: tuple[object, ...]) -> None:
    one = run_json(*build, "--dry-run")["tflop"]
    assert run_json(*build, "--dry-run", "--distilled-steps", "2,3")["tflop"] > one


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--pairing", "img2img"), "the options: settings: pairing img2img needs a strength"),
        (("--pairing", "twice"), "the options: method"),
        (("--strength", "0.5"), "belongs to the pairing img2img"),
        (("--filter", "pretty"), "no filter is called 'pretty'"),
        (("--engine", "slurm"), "use one of: local, ray"),
        (("--address", "auto"), "belong to the engine ray"),
        (("--engine", "ray", "--devices", "cuda:0"), "--devices belongs to the engine local"),
        (("--devices", ","), "there are no devices"),
    ],
)
def test_wrong_use(run: Any, build: tuple[object, ...], arguments: tuple[str, ...], says: str, tmp_path: Path) -> None:
    result = run(*build, *arguments, code=2)
    assert says in result.stderr and result.stderr.count("error: ") == 1
    assert not (tmp_path / "pairs").exists()


@pytest.mark.parametrize("by", ["Ctrl-C", "SIGTERM"])
def test_stopping_drops_the_shard_and_says_how_to_continue(
    run: Any, run_json: Any, build: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    original, calls = DiffusersGenerator.generate_latents, [0]

    def stopping(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == 4:  # distilled and baseline of the first shard are two calls
            if by == "Ctrl-C":
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments, **named)

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(DiffusersGenerator, "generate_latents", stopping)
        result = run(*build, code=130)
    assert "stopped; to go on, run the same command again: finished shards are kept" in result.stderr
    assert signal.getsignal(signal.SIGTERM) == before
    folder = tmp_path / "pairs"
    assert [path.name for path in (folder / "data").iterdir()] == ["train-00000.parquet"]
    assert run_json(*build)["pairs"] == 6


def test_what_could_not_be_made_is_said_and_exits_1(
    run: Any, build: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = DiffusersGenerator.generate_latents

    def failing(self: Any, prompts: Any, seeds: Any, **named: Any) -> Any:
        if 1_000_002 in seeds:
            raise RuntimeError("no such luck")
        return original(self, prompts, seeds, **named)

    with monkeypatch.context() as patch:
        patch.setattr(DiffusersGenerator, "generate_latents", failing)
        result = run(*build, code=1)
    assert "was not made: no such luck" in result.stderr
    assert "1 of 6 pairs could not be made" in result.stderr
    assert len(PairDataset.open(tmp_path / "pairs")) == 5
    run(*build)
    assert len(PairDataset.open(tmp_path / "pairs")) == 6


def test_a_dry_run_prices_what_is_left_and_refuses_what_a_build_refuses(
    run: Any, run_json: Any, build: tuple[object, ...], tmp_path: Path
) -> None:
    whole = run_json(*build, "--dry-run")
    assert whole["left"] == 6 and not (tmp_path / "pairs").exists()
    run(*build)
    (tmp_path / "pairs" / "data" / "train-00001.parquet").unlink()
    left = run_json(*build, "--dry-run")
    assert left["left"] == 2 and left["tflop"] == pytest.approx(whole["tflop"] / 3)
    assert "4 pairs are there already, 2 are left to make" in run(*build, "--dry-run").stdout
    run(*build)
    assert run_json(*build, "--dry-run")["tflop"] == 0
    for more, code in ((("--shard-size", 5), 1), (("--latents",), 1), (("--batch-size", 3), 1), (("--seed", 8), 1)):
        says = [run(*build, *more, *dry, code=code).stderr for dry in ((), ("--dry-run",))]
        assert says[0].splitlines()[-1] == says[1].splitlines()[-1]
    other = ("pairs", "build", tmp_path / "other", *build[3:])
    reusing = run_json(*other, "--baseline-from", tmp_path / "pairs", "--dry-run")
    assert 0 < reusing["tflop"] < whole["tflop"] / 2 and not (tmp_path / "other").exists()
    missing = ("--baseline-from", tmp_path / "absent", "--dry-run")
    assert "holds no pairs" in run(*other, *missing, code=1).stderr
    assert "no filter is called" in run(*other, "--filter", "pretty", "--dry-run", code=2).stderr


def test_what_a_build_says_to_do_next_works(
    run: Any, pair_file: Path, tmp_path: Path, tiny_features: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    few = run("pairs", "build", "few pairs", "--pair", pair_file, "--count", 6).stdout
    assert "Next:" not in few and "A training takes 16 training pairs or more, and these are" in few
    Path("runs/unet").mkdir(parents=True)
    more = run("pairs", "build", "few pairs", "--pair", pair_file, "--count", 40, "--batch-size", 16).stdout
    words = words_after("Next: ", more)
    assert words[5] == "runs/unet-2"
    small = ("--set", "head.channels=[4, 8]", "--set", "objective.discriminator.base_channels=4")
    run(*words, "--images", 44, "--set", "warmup_images=0", *small)
