"""Command lines run in this process, on the tiny Flux folder and a tiny head."""

from __future__ import annotations

import functools
import importlib
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from topcoat.cli.app import app
from topcoat.features import FeatureNet
from topcoat.generators.base import ModelPair
from topcoat.generators.presets import model_pair
from topcoat.heads import Decoder, DecoderConfig, Head, UNet, UNetConfig
from topcoat.images import write_image
from topcoat.metrics import c2st

Run = Callable[..., Any]


def scores_of(record: dict[str, Any]) -> dict[tuple[str, str], float]:
    """The values of a report by metric and arm."""
    return {(score["metric"], score["arm"]): score["value"] for score in record["scores"]}


def words_after(start: str, output: str) -> list[str]:
    """The words of the command line that follows ``start``, without ``topcoat``."""
    line = next(line for line in output.splitlines() if line.startswith(start))
    first, *words = shlex.split(line.removeprefix(start))
    assert first == "topcoat"
    return words


@pytest.fixture
def run() -> Run:
    """``run("prompts", "--count", 3)`` gives the result; ``code`` is the exit code that is expected."""

    def invoke(*args: object, code: int = 0) -> Any:
        result = CliRunner().invoke(app, [str(arg) for arg in args])
        assert result.exit_code == code, (result.exit_code, result.output, result.exception)
        return result

    return invoke


@pytest.fixture
def run_json(run: Run) -> Run:
    """Like ``run``, with ``--json``; gives the printed record."""

    def invoke(*args: object, code: int = 0) -> Any:
        return json.loads(run(*args, "--json", code=code).stdout)

    return invoke


@pytest.fixture(scope="session")
def pair_file(flux_pair: ModelPair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec file that a user could have written for the tiny Flux folder."""
    path = tmp_path_factory.mktemp("pair") / "tiny.json"
    path.write_text(flux_pair.model_dump_json())
    return path


@pytest.fixture(scope="session")
def fast_mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded mini pair with a baseline of 3 steps, as a spec file."""
    pair = model_pair("mini")
    path = tmp_path_factory.mktemp("pair") / "mini.json"
    path.write_text(
        pair.model_copy(update={"baseline": pair.baseline.model_copy(update={"steps": 3})}).model_dump_json()
    )
    return path


@pytest.fixture(scope="session")
def head_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved head that changes an image visibly."""
    folder = tmp_path_factory.mktemp("head")
    config = UNetConfig(channels=(4, 8))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = UNet(config)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
    Head(network, config).save_pretrained(folder)
    return folder


@pytest.fixture
def tiny_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both feature nets replaced by a tiny one with random weights, and classifiers trained for a few steps."""
    names = ("topcoat.features", "topcoat.features.pretrained")
    modules = [importlib.import_module(name) for name in names]  # all of them first: an import copies what is patched
    for module in modules:
        monkeypatch.setattr(module, "load_feature_net", lambda name: FeatureNet.tiny(0))
    monkeypatch.setattr(c2st, "two_sample", functools.partial(c2st.two_sample, steps=4))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Six pictures of 40 x 24 px."""
    folder = tmp_path / "pictures"
    generator = torch.Generator().manual_seed(0)
    for number in range(6):
        write_image(folder / f"{number}.png", torch.rand(3, 24, 40, generator=generator))
    return folder


@pytest.fixture(scope="session")
def decoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved head that decodes the latents of the tiny Flux folder."""
    folder = tmp_path_factory.mktemp("decoder")
    config = DecoderConfig(channels=(8, 6, 4), blocks=(1, 0, 0))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = Decoder(config)
        torch.nn.init.normal_(network.colour.weight, std=0.1)
    Head(network, config).save_pretrained(folder)
    return folder
