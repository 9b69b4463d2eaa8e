"""A metric from outside: one class, given to `evaluate` or put into the table, is in every report."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor
from typer.testing import CliRunner

from topcoat.cli.app import app
from topcoat.errors import UsageError
from topcoat.features import FeatureNet
from topcoat.images import write_image
from topcoat.metrics.base import Flag, Metric, PairedMetric, Score, score_of
from topcoat.metrics.context import Context
from topcoat.metrics.embed import Batch, ImageBatch
from topcoat.metrics.evaluate import METRICS, evaluate, families
from topcoat.reports.evaluation import page


class BrightnessMetric(Metric):
    """Mean of all pixels of an arm; dark images are flagged."""

    name, family, label, better = "brightness", "light", "mean brightness", "high"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._sums: dict[str, tuple[float, int]] = {}

    def update(self, batch: Batch) -> None:
        for arm, images in batch.items():
            total, count = self._sums.get(arm, (0.0, 0))
            self._sums[arm] = total + float(images.images.mean(dim=(1, 2, 3)).sum()), count + len(images)

    def compute(self) -> list[Score]:
        return [self.score(arm, total / count, count) for arm, (total, count) in self._sums.items()]

    def flags(self, scores: Sequence[Score]) -> list[Flag]:
        mean = score_of(scores, self.name)
        return [Flag("dark", f"brightness is {mean.value:.2f}")] if mean is not None and mean.value < 0.3 else []


def test_a_metric_that_is_given_is_in_json_table_and_page(images: Tensor, net: FeatureNet) -> None:
    dark = images * 0.4
    found = evaluate(dark, reference=images, features=net, metrics=[BrightnessMetric], batch_size=7)
    rows = {row["arm"]: row for row in json.loads(json.dumps(found.as_dict()))["scores"] if row["family"] == "light"}
    assert rows["enhanced"]["value"] == pytest.approx(float(dark.mean()), rel=1e-5)
    assert rows["reference"]["n"] == 24 and rows["reference"]["better"] == "high"
    assert "## Light" in found.markdown() and "| mean brightness ↑ |" in found.markdown()
    assert "Flagged: dark (brightness is" in found.summary() and found.settings["metrics"] == ["brightness"]
    html = page(found)
    assert "<summary>Light</summary>" in html and "<td>mean brightness ↑</td>" in html and "dark: brightness" in html


def test_a_metric_in_the_table_is_in_the_reports_of_the_command(
    images: Tensor, net: FeatureNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = importlib.import_module("topcoat.metrics.evaluate")
    monkeypatch.setattr(module, "METRICS", (*METRICS, BrightnessMetric))
    monkeypatch.setattr(module, "open_net", lambda features, identity: (net, features))
    assert families()[-1] == "light"
    for name, sharpness in (("enhanced", 0.5), ("baseline", 1.0)):
        for number, image in enumerate(images[:4]):
            write_image(tmp_path / name / f"{number}.png", image * sharpness)
    folders = [str(part) for name in ("enhanced", "baseline") for part in (f"--{name}", tmp_path / name)]
    report = tmp_path / "report"
    result = CliRunner().invoke(app, ["evaluate", *folders, "--metrics", "light", "-o", str(report)])
    assert result.exit_code == 0, result.output
    assert "mean brightness ↑" in result.stdout
    scores = json.loads((report / "report.json").read_text())["scores"]
    assert {score["arm"] for score in scores if score["metric"] == "brightness"} == {"enhanced", "reference"}
    assert "mean brightness ↑" in (report / "report.html").read_text()


def test_a_metric_that_needs_more_is_left_out_with_a_note(images: Tensor, net: FeatureNet) -> None:
    class Demanding(BrightnessMetric):
        name = "demanding"

        def compute(self) -> list[Score]:
            raise UsageError("demanding needs 100 or more images, not 24")

    found = evaluate(images, reference=images, features=net, metrics=[Demanding])
    assert found.value("demanding") is None and "demanding needs 100 or more images, not 24" in found.notes


class BrightnessError(PairedMetric):
    """As docs/evaluation.md shows it."""

    name, family, label, better = "brightness_error", "light", "error of brightness", "low"

    def measure(self, images: ImageBatch, reference: ImageBatch) -> Tensor:
        return (images.images.mean(dim=(1, 2, 3)) - reference.images.mean(dim=(1, 2, 3))).abs()


def test_a_paired_metric_is_one_function(images: Tensor, net: FeatureNet) -> None:
    found = evaluate(images * 0.5, reference=images, features=net, metrics=["distances", BrightnessError])
    score = found.score("brightness_error")
    assert score is not None and score.low is not None and score.high is not None and found.value("cmmd") is not None
    assert score.value == pytest.approx(float(images.mean()) / 2, rel=1e-5) and score.low < score.value < score.high
    assert "error of brightness ↓" in found.markdown()
