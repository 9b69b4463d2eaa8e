from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from topcoat import __version__
from topcoat.cli.options import number_list, step_list

COMMANDS = (
    ("demo",),
    ("generate",),
    ("enhance",),
    ("pairs", "build"),
    ("pairs", "inspect"),
    ("train",),
    ("evaluate",),
    ("cost",),
    ("frontier",),
    ("reproduce",),
    ("prompts",),
    ("doctor",),
)


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_help_ends_with_examples_and_offers_json(
    run: Any, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = run(*names, "--help").stdout
    assert "--json" in text
    assert "--debug" in text
    assert f"topcoat {' '.join(names)}" in text[text.index("Examples:") :]


def test_version(run: Any) -> None:
    assert run("--version").stdout == f"topcoat {__version__}\n"


def test_cost_shows_every_pair_of_step_counts(run: Any, run_json: Any, pair_file: Path, head_folder: Path) -> None:
    arguments = (
        "cost",
        "--pair",
        pair_file,
        "--head",
        head_folder,
        "--baseline-steps",
        "2,9",
        "--distilled-steps",
        "1,2",
    )
    tables = run_json(*arguments)["tables"]
    savings = [(row["steps"], row["against_steps"]) for table in tables for row in table["savings"][::2]]
    assert savings == [(1, 9), (1, 3), (1, 2), (2, 9), (2, 3), (2, 2)]
    assert tables[0]["enhanced"]["tflop"] < tables[1]["enhanced"]["tflop"]
    assert "computed" in run(*arguments).stdout


@pytest.mark.parametrize("command", [("cost",), ("frontier",), ("pairs", "build", "pairs")])
@pytest.mark.parametrize(
    ("steps", "says"),
    [("a", "is not a list of numbers"), ("0", "from 1 on"), ("4,-1", "from 1 on"), ("1.5", "from 1 on")],
)
def test_wrong_step_counts(run: Any, command: tuple[str, ...], steps: str, says: str) -> None:
    error = run(*command, "--distilled-steps", steps, code=2).stderr
    assert "--distilled-steps" in error and says in error and "write it like 1,2,4" in error


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("frob",), "no such command 'frob'; see topcoat --help"),
        (("prompts", "--cont", 3), "no such option: --cont (Possible options: --count"),
        (("train",), "missing argument 'RUN'; see topcoat train --help"),
        (("pairs", "build"), "missing argument 'OUT'; see topcoat pairs build --help"),
        (("demo", "--count", "many"), "invalid value for '--count' / '-n': "),
        (("demo", "--count", 3), "greater than or equal to 8; see topcoat demo --help"),
    ],
)
def test_what_cannot_be_parsed_is_one_sentence(run: Any, run_json: Any, arguments: Any, says: str) -> None:
    error = run(*arguments, code=2).stderr
    assert error.startswith("error: ") and says in error and error.count("\n") == 1
    assert run_json(*arguments, code=2)["error"] == {"type": "UsageError", "message": error[7:-1]}


def test_no_arguments_show_the_help(run: Any) -> None:
    result = run(code=2)
    assert "Start with:" in result.stdout and "error" not in result.stderr


def test_step_lists() -> None:
    assert step_list("1, 2,4") == [1, 2, 4] and step_list("") == [] and step_list((28,)) == [28]
    assert number_list("0.5,1") == [0.5, 1.0]


def test_doctor_finds_everything_here(run_json: Any) -> None:
    record = run_json("doctor")
    assert record["ok"], record
    assert {"onnxruntime", "device", "mini pair", "disk"} <= {check["name"] for check in record["checks"]}
    assert {check["name"] for check in record["extras"] if check["ok"]} >= {"extra models", "extra dev"}


def test_doctor_sees_a_changed_file(run_json: Any, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("topcoat.cli.doctor.MINI", tmp_path)
    assert not run_json("doctor", code=1)["ok"]
    (tmp_path / "weights").write_bytes(b"abc")
    (tmp_path / "card.json").write_text(json.dumps({"digests": {"weights": "0" * 64}}))
    assert "first weights" in run("doctor", code=1).stdout


def test_doctor_names_the_line_that_installs_what_is_missing(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("topcoat.cli.doctor.EXTRAS", {"dev": ("no-such-package",)})
    assert "pip install 'topcoat[dev]'" in run("doctor").stdout


def test_doctor_says_what_fits_a_gpu(run: Any, run_json: Any, pair_file: Path) -> None:
    record = run_json("doctor", "--pair", pair_file, "--vram", 12)
    assert record["ok"] and record["offload"] == "none"
    assert [row["offload"] for row in record["rows"]] == ["none", "model", "group", "sequential"]
    assert [row["gib"] for row in record["rows"]] == sorted((row["gib"] for row in record["rows"]), reverse=True)
    assert {row["batch_size"] for row in record["rows"]} == {16}
    text = run("doctor", "--pair", pair_file, "--vram", 1, code=1).stdout
    assert "does not fit" in text and "Nothing fits; use a smaller size or quantisation" in text
    assert "--vram is for a model pair" in run("doctor", "--vram", 24, code=2).stderr


def test_doctor_needs_a_gpu_to_look_at(run: Any, pair_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "add --vram with the memory of one in GiB" in run("doctor", "--pair", pair_file, code=2).stderr
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: SimpleNamespace(total_memory=40 * 2**30))
    assert "a GPU of 40 GiB" in run("doctor", "--pair", pair_file).stdout


def test_demo_is_on_held_out_prompts(
    run: Any, run_json: Any, pair_file: Path, head_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def run_benchmark(pair: Any, head: Any, prompts: Any, seeds: Any, **options: Any) -> Any:
        calls.append((list(prompts), list(seeds)))
        return SimpleNamespace(as_dict=lambda: {"n": len(prompts)})

    monkeypatch.setattr("topcoat.benchmark.compare.run_benchmark", run_benchmark)
    monkeypatch.setattr("topcoat.reports.benchmark.write_benchmark", lambda folder, result: calls.append(folder))
    monkeypatch.setattr("topcoat.reports.benchmark_tables.summary", lambda result: "It is good.")
    arguments = ("demo", "--count", 12, "-o", tmp_path, "--pair", pair_file, "--head", head_folder)
    text = run(*arguments).stdout
    assert "It is good." in text
    assert str(tmp_path / "report.html") in text
    assert run_json(*arguments) == {"n": 12}
    (prompts, seeds), folder = calls[:2]
    assert {prompt.split for prompt in prompts} == {"test"}
    assert len(set(seeds)) == len(prompts) == 12 and folder == tmp_path


def test_ctrl_c_says_how_to_go_on(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(count: int, seed: int) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("topcoat.prompts.sample_prompts", interrupt)
    result = run("prompts", "--style", "mini", code=130)
    assert "to go on" in result.stderr
    assert "Traceback" not in result.output


def test_a_defect_is_one_sentence_and_its_traceback_is_there_with_debug(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(count: int, seed: int) -> Any:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("topcoat.prompts.sample_prompts", break_down)
    result = run("prompts", "--style", "mini", code=1)
    assert "--debug" in result.stderr
    assert "Traceback" not in result.output
    assert "Traceback" in run("prompts", "--style", "mini", "--debug", code=1).stderr
