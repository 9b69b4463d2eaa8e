"""The stages of a study, one after the other; each goes on where it stopped and ends in a figure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from topcoat.cost import BASELINE_STEPS_BESIDE, Timing, hardware, pair_cost
from topcoat.errors import UsageError
from topcoat.features import load_feature_net
from topcoat.generators.base import Generator, ModelPair, check_request
from topcoat.generators.diffusers import load_pair
from topcoat.generators.vae import load_vae
from topcoat.heads.head import Head
from topcoat.metrics.embed import FeatureNetLike
from topcoat.pairs.build import build_pairs
from topcoat.pairs.dataset import PairDataset
from topcoat.pairs.manifest import pair_identity, versions
from topcoat.pairs.painting import Painting
from topcoat.prompts import Prompt, as_prompts
from topcoat.proof.collect import FLOOR_SEED_OFFSET
from topcoat.proof.record import Saving, Share, Steps
from topcoat.reproduction.folder import StudyFolder
from topcoat.reproduction.held_out import HeldOut, Progress
from topcoat.reproduction.judging import Judge, MeasuredHead, References
from topcoat.reproduction.plan import PlannedStage, plan_study
from topcoat.reproduction.record import Costs, HeadResult, Study
from topcoat.reproduction.report import write_study
from topcoat.reproduction.runs import StudyRun
from topcoat.training import TrainRecord, train
from topcoat.training.folder import finished_head

BATCH_SIZE = 8


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a stage ended in: a sentence, and the figures in it."""

    sentence: str
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: ``run`` does what is left of it, and is called with a function that it tells how far it is."""

    name: str
    run: Callable[[Progress], StageResult]


class Reproduction:
    """A study in a folder: see `plan`, then run the `stages` in their order, then read `study`."""

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
        features: FeatureNetLike | None = None,
        loss_features: nn.Module | None = None,
    ) -> None:
        """Check everything that can be checked before the work; nothing is written.

        ``training_prompts`` become the pairs, ``prompts`` with ``seeds`` the held-out subjects, which must be neither
        among the pairs nor in their training split. ``batch_size`` is of the held-out subjects and
        ``pair_batch_size`` of the pairs (see `build_pairs`, as for ``baseline_from``, a dataset whose baseline images
        are used again). ``heads`` are those of runs that are not of this study, which its runs go on or learn
        from. ``generators`` (distilled, baseline), ``features`` (for judging)
        and ``loss_features`` replace what would be loaded.

        Raises `UsageError` for a request that cannot be, `DataError` if ``output`` holds another study or other files.
        """
        self.pair, self.runs = pair, tuple(runs)
        self._training_prompts = as_prompts(training_prompts)
        self._prompts, self._seeds = check_request([prompt.text for prompt in as_prompts(prompts)], seeds)
        if len(self._prompts) < 2:
            raise UsageError("a study needs 2 or more held-out subjects (1,000 or more to quote it); give more")
        if batch_size < 1:
            raise UsageError(f"batch size {batch_size} is not possible; use 1 or more")
        self._batch_size, self._pair_batch_size = batch_size, pair_batch_size
        self._baseline_from = baseline_from
        self._heads = dict(heads or {})
        self._generators, self._features, self._loss_features = generators, features, loss_features
        self._folder = StudyFolder(Path(output), self._settings())
        self._dataset: PairDataset | None = None
        self._held_out: HeldOut | None = None
        self._seconds: dict[str, Timing] = {}
        self._judge: Judge | None = None
        self._references: References | None = None
        self._measured: dict[str, MeasuredHead] = {}
        self._study: Study | None = None

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self._folder.path

    @property
    def study(self) -> Study:
        """The result; only after the last stage."""
        assert self._study is not None
        return self._study

    def plan(self) -> list[PlannedStage]:
        """Every stage with its computed TFLOP, what is done already included."""
        return plan_study(
            self.pair,
            self.runs,
            pairs=len(self._training_prompts),
            held_out=len(self._prompts),
            batch_size=self._batch_size,
        )

    def stages(self) -> Iterator[Stage]:
        """The stages in their order; each must have run before the next is asked for."""
        self._folder.begin()
        yield Stage("pairs", self._build)
        for run in self.runs:
            yield Stage(f"train {run.name}", lambda progress, run=run: self._train(run, progress))
        yield Stage("paint", self._paint)
        for run in self.runs:
            yield Stage(f"evaluate {run.name}", lambda progress, run=run: self._evaluate(run, progress))
        yield Stage("report", self._report)

    def _settings(self) -> dict[str, Any]:
        """What makes this study this one, free of this machine's paths."""
        given = {"heads": {name: head.digest for name, head in self._heads.items()}} if self._heads else {}
        return {
            **given,
            "pairs": len(self._training_prompts),
            "held_out": len(self._prompts),
            "batch_size": self._batch_size,
            "runs": {run.name: run.config.identity() for run in self.runs},
            "pair": pair_identity(self.pair),
            "training_prompts_sha256": _digest([prompt.text for prompt in self._training_prompts]),
            "subjects_sha256": _digest([self._prompts, self._seeds]),
        }

    def _build(self, progress: Progress) -> StageResult:
        if all(self._finished(run) is not None for run in self.runs):
            return StageResult("not needed any more, all runs are finished")
        self._dataset = build_pairs(
            self._folder.pairs,
            self._training_prompts,
            self.pair,
            batch_size=self._pair_batch_size,
            painting=Painting(latents=True, baseline_latents=self._compares_latents()),
            generators=self._generators,
            baseline_from=self._baseline_from,
            on_progress=lambda done, total: progress(done, total, ""),
        )
        splits = {name: len(self._dataset.split(name)) for name in ("train", "val", "test")}
        failed = len(self._dataset.manifest.failures)
        words = f", {failed:,} could not be made" if failed else ""
        sentence = f"{len(self._dataset):,} pairs, {splits['train']:,} of them for training{words}"
        return StageResult(sentence, {"pairs": len(self._dataset), "failures": failed, **splits})

    def _train(self, run: StudyRun, progress: Progress) -> StageResult:
        if self._dataset is not None:
            start, teacher = (self._head_of(name) for name in (run.config.starts_from, run.config.teacher))
            vae = load_vae(self.pair.distilled) if run.config.head.latent_part is not None else None
            steps = train(
                run.config,
                self._dataset,
                self._folder.run(run.name),
                features=self._loss_features,
                init_from=start,
                teacher=teacher,
                vae=vae,
            )
            with closing(steps):  # so that a stop saves at once
                for record in steps:
                    progress(record.images_seen, run.config.images, _note(record))
        facts = Head.from_pretrained(self._folder.run(run.name)).facts
        figures = {name: value for name, value in facts["figures"].items() if value is not None}
        sentence = f"{facts['images_seen']:,} images seen"
        if figures:
            sentence += (
                f"; on {figures['validation_images']} validation pairs {figures['psnr_db']:.2f} dB to the baseline "
                f"({figures['psnr_db_of_doing_nothing']:.2f} without a head)"
            )
        return StageResult(sentence, {"images_seen": facts["images_seen"], **figures})

    def _compares_latents(self) -> bool:
        """Whether a run compares latents with those of baseline images that are painted here; others' have none."""
        return self._baseline_from is None and any(run.config.latent is not None for run in self.runs)

    def _finished(self, run: StudyRun) -> Head | None:
        """The head of a run that needs no pairs any more: it may come from another machine, without them."""
        head = finished_head(self._folder.run(run.name), run.config)
        return head if head is not None and "training_pairs" in head.facts else None

    def _head_of(self, run: str | None) -> Head | None:
        if run is None:
            return None
        return self._heads[run] if run in self._heads else Head.from_pretrained(self._folder.run(run))

    def _paint(self, progress: Progress) -> StageResult:
        generators = self._generators or load_pair(self.pair)
        latents = any(run.config.takes_latents for run in self.runs)
        self._held_out = HeldOut(
            generators,
            self._prompts,
            self._seeds,
            batch_size=self._batch_size,
            folder=self._folder.images,
            latents=latents,
        )
        self._seconds = self._held_out.paint(progress)
        net = self._features or load_feature_net("eval")
        name = "custom" if self._features is not None else "eval"
        self._judge = Judge(self.pair, self._folder, self._held_out, net, name)
        self._references = self._judge.references(progress)
        gap = self._references.do_nothing.gap
        taken = {stage: timing.median_seconds for stage, timing in self._seconds.items()}
        sentence = (
            f"{len(self._held_out):,} subjects; Fréchet distance to the baseline {gap.distilled.value:.3g} of the "
            f"distilled images, {gap.floor.value:.3g} of the baseline at other seeds"
        )
        return StageResult(sentence, {"frechet": gap.distilled.value, "floor": gap.floor.value, "seconds": taken})

    def _evaluate(self, run: StudyRun, progress: Progress) -> StageResult:
        assert self._judge is not None
        measured = self._judge.head(run.name, Head.from_pretrained(self._folder.run(run.name)), progress)
        self._measured[run.name] = measured
        gap, kept = measured.judged.gap, measured.judged.identity
        share = Share(gap.value, gap.low, gap.high)
        sentence = (
            f"gap closed {share}, Fréchet distance {gap.enhanced.value:.3g}, identity {kept.mean:.3f} "
            f"(5th percentile {kept.p05:.3f})"
        )
        return StageResult(sentence, measured.model_dump(mode="json"))

    def _report(self, progress: Progress) -> StageResult:
        assert self._held_out is not None
        self._study = self._assembled()
        heads = {run.name: Head.from_pretrained(self._folder.run(run.name)) for run in self.runs}
        write_study(self.folder, self._study, self._held_out, heads)
        progress(1, 1, "")
        best = self._study.best
        share = Share(best.judged.gap.value, best.judged.gap.low, best.judged.gap.high)
        return StageResult(f"nearest to the baseline is {best.run}: gap closed {share}", {"best": best.run})

    def _assembled(self) -> Study:
        assert self._references is not None
        trained = Head.from_pretrained(self._folder.run(self.runs[-1].name)).facts
        pair, seconds, table = self.pair, self._seconds, pair_cost(self.pair)
        (beside,) = (cost for cost in table.baseline_at if cost.steps == BASELINE_STEPS_BESIDE)
        machine = hardware().as_dict()
        return Study(
            pair=pair.name,
            n=len(self._prompts),
            width_px=table.width_px,
            height_px=table.height_px,
            training_pairs=trained["training_pairs"],
            steps=Steps(pair.distilled.steps, pair.baseline.steps),
            heads=tuple(self._result(run) for run in self.runs),
            do_nothing=self._references.do_nothing,
            floor_two_sample=self._references.floor_two_sample,
            identity_pairs=self._references.identity_pairs,
            distilled=_costs(table.distilled.steps, table.distilled.tflop, seconds["distilled"]),
            baseline=_costs(table.baseline.steps, table.baseline.tflop, seconds["baseline"]),
            baseline_at_28_steps=_costs(beside.steps, beside.tflop, seconds["beside"]),
            features=self._references.features,
            hardware=machine,
            versions=versions(),
            settings={**self._settings(), "floor_seed_offset": FLOOR_SEED_OFFSET, "dataset": trained["dataset_digest"]},
        )

    def _result(self, run: StudyRun) -> HeadResult:
        head = Head.from_pretrained(self._folder.run(run.name))
        measured, table = self._measured[run.name], pair_cost(self.pair, head)
        given = self._seconds["latents" if run.config.takes_latents else "distilled"].median_seconds
        ours = given + measured.head_seconds
        slow, beside = (self._seconds[stage].median_seconds for stage in ("baseline", "beside"))
        return HeadResult(
            run=run.name,
            kind=head.kind,
            takes=head.input,
            images_seen=head.facts["images_seen"],
            starts_from=run.config.starts_from,
            teacher=run.config.teacher,
            changed=run.changed,
            reason=run.reason,
            digest=head.digest,
            parameters=head.parameters,
            judged=measured.judged,
            head_tflop=table.head_tflop,
            pipeline_tflop=table.enhanced.tflop,
            head_seconds=measured.head_seconds,
            pipeline_seconds=ours,
            saving=Saving(table.saving(), 1 - ours / slow),
            saving_at_28_steps=Saving(table.saving(BASELINE_STEPS_BESIDE), 1 - ours / beside),
        )


def reproduce(
    pair: ModelPair,
    runs: Sequence[StudyRun],
    training_prompts: Sequence[str | Prompt],
    prompts: Sequence[str | Prompt],
    seeds: Sequence[int],
    *,
    output: str | Path,
    on_progress: Callable[[str, int, int, str], None] | None = None,
    batch_size: int = BATCH_SIZE,
    baseline_from: str | Path | None = None,
    generators: tuple[Generator, Generator] | None = None,
    features: FeatureNetLike | None = None,
    loss_features: nn.Module | None = None,
) -> Study:
    """Run every stage of a `Reproduction` with these arguments, which go on where they stopped, and give the result.

    ``on_progress`` is called with the stage, pieces done, pieces in all and a note. Raises like `Reproduction`, and
    while running `ModelError` for a model that cannot be had or a training that cannot go on, `DataError` for damaged
    files or a full disk.
    """
    work = Reproduction(
        pair,
        runs,
        training_prompts,
        prompts,
        seeds,
        output=output,
        batch_size=batch_size,
        baseline_from=baseline_from,
        generators=generators,
        features=features,
        loss_features=loss_features,
    )
    for stage in work.stages():
        name = stage.name

        def tell(done: int, total: int, note: str, name: str = name) -> None:
            if on_progress is not None:
                on_progress(name, done, total, note)

        stage.run(tell)
    return work.study


def _costs(steps: int, tflop: float, seconds: Timing) -> Costs:
    return Costs(steps=steps, tflop=tflop, seconds=seconds.median_seconds)


def _note(record: TrainRecord) -> str:
    return f"loss {record.loss:.4f}, {record.images_per_second:.0f} images/s"


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
