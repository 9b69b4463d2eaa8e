"""Training: a generator of typed records; the same call resumes where the last one stopped."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from topcoat.errors import DataError, UsageError
from topcoat.generators.vae import Vae
from topcoat.heads.head import Head, weights_digest
from topcoat.training.config import RunConfig, TrainConfig
from topcoat.training.records import TrainRecord
from topcoat.training.run_folder import Progress, RunFolder
from topcoat.training.runs import run_config
from topcoat.training.stage import RunInputs, Stage, StagePlan

if TYPE_CHECKING:
    from topcoat.pairs.dataset import Pair, PairDataset


def train(
    run: str | TrainConfig | RunConfig,
    dataset: PairDataset,
    output: str | Path | None = None,
    *,
    images: int | None = None,
    features: nn.Module | None = None,
    init_from: Head | None = None,
    teacher: Head | None = None,
    vae: Vae | None = None,
) -> Generator[TrainRecord, None, None]:
    """Train a head on the ``train`` split of ``dataset``; yields a record per step.

    ``run``: a named run of `topcoat.training.RUNS`, the path of a settings file, or settings. ``output``: the run's
    folder, by default ``runs/<name of the run>``. After the last record, and after every checkpoint before it,
    `Head.from_pretrained(output)` loads the averaged head. ``images`` replaces the run's length, and its stages share
    it as before. ``features``: the frozen net of the perceptual loss, called with images and giving ``.stages`` (and
    ``.embedding``, where it has one); by default the embedded one. ``init_from``: a head to start from, instead of
    random weights; it stands for the stages before the first that trains a head of the run's last kind, so that a
    refiner starts from a trained head of images. ``teacher``: any head of the same model pair; the run learns what it
    makes of the distilled image in the place of the baseline image, and is validated against the baseline all the same.
    ``vae``: the distilled model's, for a head that changes latents.

    Stop by leaving the loop or closing the generator: the state is saved, and the same call goes on from there. On a
    CPU with the same number of threads the result is, bit for bit, that of an uninterrupted run. A finished run yields
    nothing more. Started by ``accelerate launch`` in several processes, each takes its part of every batch; then only
    the regular checkpoints are written, not one at a stop.

    Arguments are checked at the call: `UsageError` for the run or its settings, `DataError` if the dataset has too few
    training pairs or ``output`` holds another run. While running, `DataError` for damaged pairs or a full disk,
    `ModelError` after ``max_bad_steps`` skipped steps in a row, or when memory runs out.
    """
    config = run_config(run)
    config = config.starting_from(init_from)
    if images is not None:
        config = config.with_images(images)
    training = dataset.split("train")
    _check(config, training, vae)
    features = _feature_net(features)
    identity: dict[str, Any] = {
        "dataset_digest": dataset.digest,
        "features_digest": str(getattr(features, "digest", "unnamed")),
    }
    if init_from is not None:
        identity["init_from"] = init_from.digest
    if teacher is not None:
        identity["teacher"] = teacher.digest
    if vae is not None and config.needs_vae:
        identity["vae"] = weights_digest(vae.decoder.config, vae.decoder.state_dict())
    folder = RunFolder(
        Path(output) if output is not None else Path("runs") / config.name, {"stages": config.identity(), **identity}
    )
    _check_size(config, training)
    facts = {"run": config.name, **_origin(dataset), "training_pairs": len(training), **identity}
    inputs = RunInputs(training, dataset.split("val"), features, vae, teacher, facts)
    progress = folder.progress()
    if progress.stage + 1 < len(config.stages) and progress.images_seen >= config.stages[progress.stage].images:
        progress = progress.next_stage()
    given = init_from if progress.stage == 0 else folder.stage_head(config.stages[progress.stage - 1].name)
    return _stages(config, inputs, folder, progress, StagePlan(config.stages[progress.stage], inputs, given))


def _stages(
    run: RunConfig, inputs: RunInputs, folder: RunFolder, progress: Progress, plan: StagePlan
) -> Generator[TrainRecord, None, None]:
    while True:
        last = progress.stage + 1 == len(run.stages)
        stage = Stage(plan, folder, progress, last=last)
        yield from stage.records()
        if last:
            return
        given = folder.stage_head(plan.config.name)
        progress = stage.progress.next_stage()
        plan = StagePlan(run.stages[progress.stage], inputs, given)


def _check(run: RunConfig, training: Sequence[Pair], vae: Vae | None) -> None:
    if vae is None and any(stage.objective.compares_latents for stage in run.stages):
        raise UsageError(
            f"the run {run.name} compares latents, which the distilled model's VAE makes of baseline images; give "
            "it (--pair, or vae in Python)"
        )
    if len(training) == 0:
        raise DataError("the dataset has no training pairs; build some with topcoat pairs build")


def _check_size(run: RunConfig, training: Sequence[Pair]) -> None:
    for stage in run.stages:
        if len(training) < stage.batch_size:
            raise DataError(
                f"the dataset has {len(training)} training pairs, fewer than a batch of {stage.batch_size}; "
                "build more pairs, or lower batch_size"
            )


def _feature_net(features: nn.Module | None) -> nn.Module:
    if features is None:
        from topcoat.features import load_feature_net

        features = load_feature_net("loss")
    return features.eval().requires_grad_(False)


def _origin(dataset: PairDataset) -> dict[str, Any]:
    """The model pair and its licences, where the dataset's manifest names them: they bind a head's users too."""
    manifest = getattr(dataset, "manifest", None)
    if manifest is None:
        return {}
    licences = {side: settings["licence"] for side, settings in manifest.sides.items()}
    return {"pair": manifest.pair, "licences": licences}
