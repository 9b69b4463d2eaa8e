"""The paper's whole study: pairs, heads, and what each head is worth on the same held-out subjects.

Its stages run one after the other; each goes on where it stopped and ends in a sentence. Its folder:

``settings.json``       what makes this study this study; written once
``pairs/``              the training pairs
``runs/NAME/``          a run folder, which is a head folder, for each run
``cache/``              generated held-out batches, features and evaluations, each by content
``study.json`` ``study.md`` ``study.html`` ``contact-1.png`` ...   the result
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from topcoat.benchmark.arms import Arm, Subjects, own_arms
from topcoat.benchmark.compare import flagged
from topcoat.benchmark.record import BASELINE, DISTILLED, EXTRA, FLOOR, BenchmarkResult, Evidence, common_settings
from topcoat.benchmark.run import BATCH_SIZE, Benchmark, Progress, timings
from topcoat.benchmark.scores import cost_scores, ordered, time_scores
from topcoat.benchmark.store import Store
from topcoat.benchmark.study_plan import PlannedStage, StudyRun, plan_study
from topcoat.benchmark.study_scores import Evaluated, StudyEvaluator
from topcoat.cost.flops import EXTRA_STEPS
from topcoat.cost.measure import Timing
from topcoat.errors import DataError, UsageError
from topcoat.features import open_net
from topcoat.files import first_difference, read_json, write_json
from topcoat.generators.base import Generator, ModelPair
from topcoat.generators.callables import open_pair
from topcoat.generators.vae import load_vae
from topcoat.heads import Head
from topcoat.metrics.embed import FeatureNetLike
from topcoat.pairs.build import build_pairs
from topcoat.pairs.dataset import PairDataset
from topcoat.pairs.manifest import pair_identity
from topcoat.pairs.schema import PairingConfig
from topcoat.prompts import Prompt, as_prompts
from topcoat.training import train
from topcoat.training.run_folder import finished_head

FORMAT = "topcoat-study"
FORMAT_VERSION = 2
SHOWN = 24
"""Subjects of which the result holds pictures: the first ones, never picked."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: ``run`` does what is left, tells a function how far it is, and gives a sentence on its result."""

    name: str
    run: Callable[[Progress], str]


class Study:
    """A study in ``folder``: see `plan`, then run the `stages` in their order, then read `result`."""

    def __init__(
        self,
        pair: ModelPair,
        runs: Sequence[StudyRun],
        training_prompts: Sequence[str | Prompt],
        prompts: Sequence[str | Prompt],
        seeds: Sequence[int],
        *,
        output: str | Path,
        batch_size: int = BATCH_SIZE,
        pair_batch_size: int | None = None,
        baseline_from: str | Path | None = None,
        heads: Mapping[str, Head] | None = None,
        generators: tuple[Generator, Generator] | None = None,
        features: str | FeatureNetLike = "embedded",
        identity: str | None = None,
        loss_features: nn.Module | None = None,
    ) -> None:
        """Check everything that can be checked before the work; nothing is written.

        ``training_prompts`` become the pairs, ``prompts`` with ``seeds`` the held-out subjects, which must not be among
        them. ``batch_size`` is of the held-out subjects, ``pair_batch_size`` and ``baseline_from`` (a dataset whose
        baseline images are used again) are of `build_pairs`. ``heads`` are those of runs outside this study, which its
        runs go on or learn from. ``generators`` (distilled, baseline) and ``loss_features`` replace what would be
        loaded; ``features`` and ``identity`` name the nets that evaluate.

        Raises `UsageError` for an impossible request, `DataError` if ``output`` holds another study or other files.
        """
        self.pair, self.runs = pair, tuple(runs)
        self._training_prompts = as_prompts(training_prompts)
        self._subjects = Subjects.of(prompts, seeds, what="a study")
        if batch_size < 1:
            raise UsageError(f"batch size {batch_size} is not possible; use 1 or more")
        self._batch_size, self._pair_batch_size = batch_size, pair_batch_size
        self._baseline_from = baseline_from
        self._heads = dict(heads or {})
        self._generators, self._loss_features, self._nets = generators, loss_features, (features, identity)
        self.folder = Path(output)
        self._check_folder()
        self._dataset: PairDataset | None = None
        self._work: Benchmark | None = None
        self._evaluator: StudyEvaluator | None = None
        self._flagged: list[str] = []
        self._seconds: dict[str, dict[str, Timing]] = {}
        self._evaluated: dict[str, Evaluated] = {}
        self._result: BenchmarkResult | None = None
        distilled, baseline, floor = own_arms(pair)
        self._arms = {
            DISTILLED: distilled,
            **{run.name: dataclasses.replace(distilled, head=run.name) for run in self.runs},
            FLOOR: floor,
            BASELINE: baseline,
        }
        self._extra = {} if baseline.steps == EXTRA_STEPS else {EXTRA: Arm("baseline", EXTRA_STEPS)}

    @property
    def result(self) -> BenchmarkResult:
        """The result; only after the last stage."""
        assert self._result is not None
        return self._result

    def plan(self) -> list[PlannedStage]:
        """Every stage with its computed TFLOP, what is done already included."""
        return plan_study(
            self.pair,
            {run.name: run.config for run in self.runs},
            pairs=len(self._training_prompts),
            held_out=len(self._subjects),
            batch_size=self._batch_size,
        )

    def stages(self) -> Iterator[Stage]:
        """The stages in their order; each must have run before the next is asked for."""
        if not (self.folder / "settings.json").exists():
            write_json(self.folder / "settings.json", self._identity())
        yield Stage("pairs", self._build)
        for run in self.runs:
            yield Stage(f"train {run.name}", lambda progress, run=run: self._train(run, progress))
        yield Stage("generate", self._generate)
        for run in self.runs:
            yield Stage(f"evaluate {run.name}", lambda progress, run=run: self._evaluate(run, progress))
        yield Stage("report", self._report)

    def _settings(self) -> dict[str, Any]:
        """What makes this study this one, free of this machine's paths."""
        prompts = json.dumps([prompt.text for prompt in self._training_prompts])
        given = {"heads": {name: head.digest for name, head in self._heads.items()}} if self._heads else {}
        return {
            **given,
            "pairs": len(self._training_prompts),
            "held_out": len(self._subjects),
            "batch_size": self._batch_size,
            "runs": {run.name: run.config.identity() for run in self.runs},
            "pair": pair_identity(self.pair),
            "training_prompts_sha256": hashlib.sha256(prompts.encode()).hexdigest(),
            "subjects_sha256": self._subjects.digest,
        }

    def _identity(self) -> dict[str, Any]:
        return json.loads(json.dumps({"format": FORMAT, "format_version": FORMAT_VERSION, **self._settings()}))

    def _check_folder(self) -> None:
        """Raise `DataError` if the folder holds another study or other files."""
        path = self.folder
        if path.exists() and not path.is_dir():
            raise DataError(f"{path} is a file; name a folder for the study")
        if (path / "settings.json").exists():
            about = read_json(path / "settings.json")
            if isinstance(about, dict) and about.get("format") == FORMAT and about.get("format_version") == 1:
                raise DataError(f"{path} holds a study of format version 1; use another folder, or topcoat 0.1")
            difference = first_difference(about, self._identity())
            if difference is not None:
                raise DataError(
                    f"{path} holds a study of other settings ({difference}); nothing was changed: use another "
                    "folder, or the settings of that study"
                )
        elif path.is_dir() and any(not inner.name.endswith((".tmp", ".lock")) for inner in path.iterdir()):
            raise DataError(f"{path} holds files but no study; nothing was changed: use an empty folder")

    def _run_folder(self, name: str) -> Path:
        return self.folder / "runs" / name

    def _build(self, progress: Progress) -> str:
        if all(map(self._finished, self.runs)):
            return "not needed any more, all runs are finished"
        self._dataset = build_pairs(
            self.folder / "pairs",
            self._training_prompts,
            self.pair,
            batch_size=self._pair_batch_size,
            pairing=PairingConfig(latents=True, baseline_latents=self._compares_latents()),
            generators=self._generators,
            baseline_from=self._baseline_from,
            on_progress=lambda done, total: progress(done, total, ""),
        )
        failed = len(self._dataset.manifest.failures)
        failures = f", {failed:,} could not be made" if failed else ""
        training = len(self._dataset.split("train"))
        return f"{len(self._dataset):,} pairs, {training:,} of them for training{failures}"

    def _train(self, run: StudyRun, progress: Progress) -> str:
        if self._dataset is not None:
            vae = load_vae(self.pair.distilled) if run.config.needs_vae else None
            steps = train(
                run.config,
                self._dataset,
                self._run_folder(run.name),
                features=self._loss_features,
                init_from=None if run.base is None else self._heads.get(run.base) or self._trained(run.base),
                vae=vae,
            )
            with closing(steps):  # so that a stop saves at once
                for record in steps:
                    note = f"loss {record.loss:.4f}, {record.images_per_second:.0f} images/s"
                    progress(record.images_seen, run.config.images, note)
        facts = self._trained(run.name).facts
        figures = {name: value for name, value in facts["figures"].items() if value is not None}
        sentence = f"{facts['images_seen']:,} images seen"
        if figures:
            sentence += (
                f"; on {figures['validation_images']} validation pairs {figures['psnr_db']:.2f} dB to the baseline "
                f"({figures['psnr_db_without_head']:.2f} without a head)"
            )
        return sentence

    def _compares_latents(self) -> bool:
        """Whether a run compares latents with those of baseline images that are made here; others' have none."""
        return self._baseline_from is None and any(
            stage.objective.compares_latents for run in self.runs for stage in run.config.stages
        )

    def _finished(self, run: StudyRun) -> bool:
        """Whether a run needs no pairs any more: it may come from another machine, without them."""
        head = finished_head(self._run_folder(run.name), run.config)
        return head is not None and "training_pairs" in head.facts

    def _trained(self, run: str) -> Head:
        return Head.from_pretrained(self._run_folder(run))

    def _generate(self, progress: Progress) -> str:
        models = self._generators or open_pair(self.pair)
        self._work = Benchmark(
            {"distilled": models[0], "baseline": models[1]},
            {run.name: self._trained(run.name) for run in self.runs},
            self._subjects,
            store=Store(self.folder / "cache"),
            batch_size=self._batch_size,
        )
        taken = self._work.generate(
            list(self._arms.values()), timed_only=list(self._extra.values()), on_progress=progress
        )
        for name in (DISTILLED, BASELINE, *self._extra):
            self._seconds[name] = {"seconds": taken[(self._arms | self._extra)[name]]}
        net, name = open_net(*self._nets)
        self._flagged = flagged(net, self.pair)
        self._evaluator = StudyEvaluator(self.pair, self.folder / "cache", self._work, net, name)
        references = self._evaluated[DISTILLED] = self._evaluator.references(progress)
        at = {score.arm: score.value for score in references.scores if score.metric == "frechet"}
        return (
            f"{len(self._subjects):,} subjects; Fréchet distance to the baseline {at[DISTILLED]:.3g} of the distilled "
            f"images, {at[FLOOR]:.3g} of the baseline at other seeds"
        )

    def _evaluate(self, run: StudyRun, progress: Progress) -> str:
        assert self._evaluator is not None
        digest = self._trained(run.name).digest
        evaluated = self._evaluator.head(run.name, self._arms[run.name], digest, progress)
        self._evaluated[run.name] = evaluated
        self._seconds[run.name] = timings(evaluated.seconds)
        at = {score.metric: score for score in evaluated.scores}
        gap = at.get("gap_closed")
        share = "not measurable" if gap is None else f"{gap.value:.0%} (95 % interval {gap.low:.0%} to {gap.high:.0%})"
        return (
            f"gap closed {share}, Fréchet distance {at['frechet'].value:.3g}, identity {at['identity_mean'].value:.3f} "
            f"(5th percentile {at['identity_p05'].value:.3f})"
        )

    def _report(self, progress: Progress) -> str:
        assert self._work is not None and self._evaluator is not None
        heads = {run.name: self._trained(run.name) for run in self.runs}
        every = self._arms | self._extra
        scores = [
            *cost_scores(self.pair, every, heads),
            *time_scores(self.pair, every, self._seconds),
            *(score for evaluated in self._evaluated.values() for score in evaluated.scores),
        ]
        trained = heads[self.runs[-1].name].facts
        shown = [name for name in self._arms if name != FLOOR]
        self._result = BenchmarkResult(
            kind="study",
            pair=self.pair.name,
            n=len(self._subjects),
            width_px=self.pair.distilled.width_px,
            height_px=self.pair.distilled.height_px,
            arms=every,
            heads={run.name: _facts(run, heads[run.name]) for run in self.runs},
            scores=ordered(scores, list(every)),
            notes=(
                *self._flagged,
                *(f"{name}: {flag}" for name, done in self._evaluated.items() for flag in done.flags),
            ),
            settings={
                **self._settings(),
                **common_settings(self.pair, self._subjects, self._evaluator.features, self._work.batch_size),
                "training_pairs": trained["training_pairs"],
                "dataset": trained["dataset_digest"],
            },
            evidence=Evidence(
                {name: self._work.first(self._arms[name], SHOWN) for name in shown},
                self._subjects,
                (self.pair.distilled.licence, self.pair.baseline.licence),
            ),
        )
        write_json(self.folder / "study.json", self._result.as_dict())
        progress(1, 1, "")
        return f"nearest to the baseline is {self._result.best_head()}"


def _facts(run: StudyRun, head: Head) -> dict[str, Any]:
    return {
        "kind": head.kind,
        "input": head.input,
        "parameters": head.parameters,
        "digest": head.digest,
        "images_seen": head.facts["images_seen"],
        "base": run.base,
        "changed": list(run.changed),
        "reason": run.reason,
    }
