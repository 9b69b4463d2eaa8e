"""Training: a generator of typed records; the same call resumes where the last one stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from topcoat.errors import DataError, UsageError
from topcoat.features.net import weights_digest
from topcoat.files import FolderLock
from topcoat.generators.vae import Vae
from topcoat.heads.head import Head
from topcoat.training.config import RunConfig, TrainConfig
from topcoat.training.records import TrainRecord
from topcoat.training.run_folder import Progress, RunFolder
from topcoat.training.runs import run_config
from topcoat.training.stage import RunInputs, Stage

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

    ``run``: as for `run_config`. ``output``: the run's folder, by default ``runs/<name of the run>``; after every
    checkpoint `Head.from_pretrained(output)` loads the averaged head. ``images`` replaces the run's length, and its
    stages share it as before. ``features``: the frozen net for losses, called with images and giving ``.stages`` (and
    ``.embedding``, where it has one); by default the embedded one. ``init_from``: a head to start from, as
    `RunConfig.starting_from` says. ``teacher``: any head of the same model pair; the run learns what it makes of the
    distilled image, and is validated against the baseline all the same. ``vae``: the distilled model's, for a head that
    changes latents.

    Stop by leaving the loop or closing the generator: the state is saved, and the same call goes on from there; on a
    CPU with the same number of threads the result is, bit for bit, that of an uninterrupted run. In several processes
    (``accelerate launch``) each takes its part of every batch, and only the regular checkpoints are written.

    Raises at the call `UsageError` for the run or its settings, `DataError` for too few or unfit pairs and for an
    ``output`` that holds another run or that another process trains in; while running `DataError` for damaged pairs or
    a full disk, `ModelError` after ``max_bad_steps`` skipped steps in a row, or when memory runs out.
    """
    config = run_config(run).starting_from(init_from)
    if images is not None:
        config = config.with_images(images)
    training = dataset.split("train")
    _check(config, dataset, training, vae)
    if features is None:
        from topcoat.features import load_feature_net

        features = load_feature_net("loss")
    features = features.eval().requires_grad_(False)
    digests: dict[str, Any] = {
        "dataset_digest": dataset.digest,
        "features_digest": str(getattr(features, "digest", "unnamed")),
    }
    digests |= {
        name: head.digest for name, head in (("init_from", init_from), ("teacher", teacher)) if head is not None
    }
    if vae is not None and config.needs_vae:
        digests["vae"] = weights_digest(json.dumps(vae.decoder.config, sort_keys=True), vae.decoder.state_dict())
    folder = RunFolder(Path(output or f"runs/{config.name}"), {"stages": config.identity(), **digests})
    licences = {side: settings["licence"] for side, settings in dataset.manifest.sides.items()}  # bind users of heads
    own = {"pair": dataset.manifest.pair, "licences": licences, "training_pairs": len(training)}
    facts = {"run": config.name, **own, **digests}
    inputs = RunInputs(
        folder, training, dataset.split("val"), features, vae, teacher, facts, paired=not dataset.manifest.unrelated
    )
    first = os.environ.get("RANK", "0") == "0"  # of `accelerate launch` or torchrun: it alone writes
    lock = FolderLock(folder.path) if first else nullcontext()
    progress = folder.progress()
    if progress.stage + 1 < len(config.stages) and progress.images_seen >= config.stages[progress.stage].images:
        progress = progress.next_stage()
    return _trained(config, inputs, _stage(config, inputs, progress, init_from), lock)


def _stage(run: RunConfig, inputs: RunInputs, progress: Progress, init_from: Head | None) -> Stage:
    number = progress.stage
    given = init_from if number == 0 else inputs.folder.stage_head(run.stages[number - 1].name)
    return Stage(run.stages[number], inputs, progress, given, last=number + 1 == len(run.stages))


def _trained(
    run: RunConfig, inputs: RunInputs, stage: Stage, lock: AbstractContextManager[Any]
) -> Generator[TrainRecord, None, None]:
    with lock:
        yield from stage.records()
        while not stage.is_last:
            stage = _stage(run, inputs, stage.progress.next_stage(), None)
            yield from stage.records()


def _check(run: RunConfig, dataset: PairDataset, training: Sequence[Pair], vae: Vae | None) -> None:
    if dataset.manifest.unrelated and any(stage.objective.paired for stage in run.stages):
        raise UsageError(
            f"the run {run.name} needs pairs, and the pictures of the two folders are unrelated; use unpaired, "
            "paper-cyclegan or paper-esa, or build pairs"
        )
    if vae is None and any(stage.objective.compares_latents for stage in run.stages):
        raise UsageError(
            f"the run {run.name} compares latents, which the distilled model's VAE makes of baseline images; give "
            "it (--pair, or vae in Python)"
        )
    for stage in run.stages:
        if len(training) < stage.batch_size:
            raise DataError(
                f"the dataset has {len(training)} training pairs, fewer than a batch of {stage.batch_size}; "
                "build more pairs, or lower batch_size"
            )
