"""The training loop: a generator of typed records; the same call resumes where the last one stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from topcoat.config import parse_config
from topcoat.errors import DataError, ModelError, UsageError
from topcoat.generators.vae import Vae
from topcoat.heads.head import Head
from topcoat.heads.network import LatentHeadConfig, channels_last
from topcoat.heads.refiner import Refiner
from topcoat.training.batches import PairBatches, PairBytes, PairSource, UnpairedBatches
from topcoat.training.config import TrainConfig
from topcoat.training.folder import Progress, RunFolder
from topcoat.training.interrupts import held_back
from topcoat.training.latent import LatentTrainer, target_encoder
from topcoat.training.losses import HasStages
from topcoat.training.memory import VALIDATING, memory_advice, step_advice
from topcoat.training.painted import PaintedPairs
from topcoat.training.paired import PairedTrainer
from topcoat.training.processes import Processes
from topcoat.training.records import TrainRecord, ValidationRecord
from topcoat.training.runs import run_config
from topcoat.training.start import starting_point
from topcoat.training.teacher import TaughtPairs
from topcoat.training.tracking import open_trackers
from topcoat.training.trainer import StepResult, Trainer
from topcoat.training.unpaired import CycleTrainer
from topcoat.training.validation import Validator

LOG_EVERY_IMAGES = 1_000


class SplitSource(PairSource, Protocol):
    """A `topcoat.pairs.dataset.PairDataset`, as far as training reads it."""

    def split(self, name: Any, /) -> PairSource:
        """The pairs of "train", "val" or "test"; may be empty."""
        ...


def train(
    run: str | TrainConfig,
    dataset: SplitSource,
    output: str | Path | None = None,
    *,
    images: int | None = None,
    features: nn.Module | None = None,
    init_from: Head | None = None,
    teacher: Head | None = None,
    vae: Vae | None = None,
) -> Generator[TrainRecord, None, None]:
    """Train a head on the ``train`` split of ``dataset``; yields a record per step.

    ``run``: a named run of `topcoat.training.RUNS`, the path of a settings file, or a `TrainConfig`. ``output``: the
    run's folder, by default ``runs/<name of the run>``. After the last record, and after every checkpoint before it,
    `Head.from_pretrained(output)` loads the averaged head. ``images`` replaces the run's length. ``features``: the
    frozen net of the perceptual loss, called with images and giving ``.stages`` (and ``.embedding``, where it has one);
    by default the embedded one. ``init_from``: a head of the same settings to start from, instead of random weights.
    ``teacher``: any head of the same model pair; the run learns what it makes of the distilled image instead of the
    baseline image, and is validated against the baseline all the same. ``vae``: the distilled model's, for a head that
    changes latents.

    Stop by leaving the loop or closing the generator: the state is saved, and the same call goes on from there. On a
    CPU with the same number of threads the result is, bit for bit, that of an uninterrupted run. A finished run yields
    nothing more. Started by ``accelerate launch`` in several processes, each takes its part of every batch; then only
    the regular checkpoints are written, not one at a stop.

    Arguments are checked at the call: `UsageError` for the run or its settings, `DataError` if the dataset has too few
    training pairs or ``output`` holds another run. While running, `DataError` for damaged pairs or a full disk,
    `ModelError` after ``max_bad_steps`` skipped steps in a row, or when memory runs out.
    """
    config = run_config(run)
    if images is not None:
        config = parse_config({**config.model_dump(), "images": images}, TrainConfig, source="training settings")
    if config.latent is not None and vae is None:
        raise UsageError(
            f"the run {config.name} compares latents, which the distilled model's VAE makes of baseline images; give "
            "it (--pair, or vae in Python)"
        )
    if config.teacher is not None and teacher is None:
        raise UsageError(
            f"the run {config.name} learns from a head of {config.teacher}; train that first and give its folder "
            "(--teacher, or teacher in Python)"
        )
    config, start = starting_point(config, init_from, vae)
    net = _feature_net(features)
    latents = config.head if isinstance(config.head, LatentHeadConfig) else config.head.latent_part
    identity = {
        "config": config.identity(),
        "dataset_digest": dataset.digest,
        "features_digest": str(getattr(net, "digest", "unnamed")),
    }
    if start is not None:
        identity["init_from"] = start.digest
    source = dataset.split("train")
    if teacher is not None:
        identity["teacher"] = teacher.digest
        source = TaughtPairs(source, teacher)
    if start is not None and isinstance(start.network, Refiner):
        source = PaintedPairs(source, start.network)
    encode = None if config.latent is None or vae is None else target_encoder(vae.encoder)
    pairs = PairBytes(source, config.cache_mebibytes, None if latents is None else latents.latent_channels, encode)
    folder = RunFolder(Path(output) if output is not None else Path("runs") / config.name, identity)
    if len(pairs) < config.batch_size:
        raise DataError(
            f"the dataset has {len(pairs)} training pairs, fewer than a batch of {config.batch_size}; "
            "build more pairs, or lower batch_size"
        )
    origin = {**_origin(dataset), "training_pairs": len(pairs), **identity}
    return _steps(config, pairs, dataset.split("val"), net, folder, origin, start, teacher, vae)


def _steps(
    config: TrainConfig,
    pairs: PairBytes,
    validation_pairs: PairSource,
    net: nn.Module,
    folder: RunFolder,
    origin: Mapping[str, Any],
    start: Head | None,
    teacher: Head | None,
    vae: Vae | None,
) -> Generator[TrainRecord, None, None]:
    processes = Processes(config.device, config.precision)
    share = processes.share(config.batch_size)
    if share % config.accumulate:
        raise UsageError(f"each process takes {share} images of a batch; give accumulate a divisor of that")
    features: Callable[[Tensor], HasStages] = channels_last(net.to(processes.device))
    if teacher is not None:
        teacher.to(processes.device)
    trainer: Trainer
    if config.cycle is not None:
        trainer = CycleTrainer(config, config.cycle, processes, start)
    elif config.latent is not None:
        assert start is not None and vae is not None
        vae.encoder.to(processes.device)
        start.to(processes.device)
        trainer = LatentTrainer(config, config.latent, features, processes, start)
    else:
        trainer = PairedTrainer(config, features, processes, start)
    progress = folder.resume(trainer, writes=processes.is_first)
    processes.wait()
    if progress.images_seen >= config.images:
        return
    source = PairBatches if config.cycle is None else UnpairedBatches
    batches = source(
        pairs, seed=config.seed, crop_px=config.crop_px, flip=config.flip, size_multiple=config.head.size_multiple
    )
    validator = None
    if len(validation_pairs) > 0 and processes.is_first:
        validator = Validator(validation_pairs, config.validation_images, features, processes.device, config.head)
    trackers = (
        open_trackers(folder.path, config.tensorboard, config.wandb, config.name, origin) if processes.is_first else ()
    )

    def save() -> None:
        tensors = trainer.tensors()  # by every process: it may exchange
        if processes.is_first:
            folder.save(trainer, tensors, progress, _facts(config, processes.precision, origin, progress))
        processes.wait()  # so that none goes on, and perhaps resumes, before the file is there

    def validate(now: Validator) -> ValidationRecord:
        head = trainer.head()
        found = now(head)
        progress.figures = _figures(found)
        if progress.best_score is None or found.score < progress.best_score:
            progress.best_score = found.score
            head.save_pretrained(folder.best, _facts(config, processes.precision, origin, progress))
        now.picture(head, folder.picture)
        return found

    size = config.batch_size
    offset = processes.rank * share
    rate = 0.0
    whole = True  # False while a step is under way, when the state is neither before nor after it
    saved_at = time.monotonic()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="topcoat-batches") as pool:
        upcoming = pool.submit(batches.batch, progress.images_seen + offset, share)
        try:
            while progress.images_seen < config.images:
                started = time.perf_counter()
                batch = upcoming.result()
                upcoming = pool.submit(batches.batch, progress.images_seen + size + offset, share)
                before = progress.images_seen
                with held_back():  # a stop comes after the step, when the state is whole
                    whole = False
                    with memory_advice(step_advice(config)):
                        result = trainer.step(batch, before + size)
                    _advance(progress, result, size)
                    whole = True
                now = size / (time.perf_counter() - started)
                rate = now if rate == 0 else 0.9 * rate + 0.1 * now
                if progress.bad_in_a_row >= config.max_bad_steps:
                    sentence = _gave_up(config, progress, folder.path)
                    progress.bad_in_a_row = 0  # skipped steps changed nothing: what is saved is good to go on from
                    save()
                    raise ModelError(sentence)

                finished = progress.images_seen >= config.images
                validation = None
                if validator is not None and (finished or _crosses(before, size, config.validate_every_images)):
                    with memory_advice(VALIDATING):
                        validation = validate(validator)
                record = _record(progress, result, rate, validation)
                if finished or validation or result.skipped or _crosses(before, size, LOG_EVERY_IMAGES):
                    if processes.is_first:
                        folder.log(record)
                    for tracker in trackers:
                        tracker.write(record)
                due = time.monotonic() - saved_at >= config.checkpoint_every_seconds
                if finished or processes.decided(due):
                    save()
                    saved_at = time.monotonic()
                yield record
        except (GeneratorExit, KeyboardInterrupt):
            if whole and progress.step > 0 and processes.count == 1:
                save()
            raise
        finally:
            for tracker in trackers:
                tracker.close()


def _feature_net(features: nn.Module | None) -> nn.Module:
    if features is None:
        from topcoat.features import load_feature_net

        features = load_feature_net("loss")
    return features.eval().requires_grad_(False)


def _advance(progress: Progress, result: StepResult, size: int) -> None:
    progress.images_seen += size  # also when skipped: the data goes on, so a bad batch is not met again at once
    progress.step += 1
    progress.skipped_steps += result.skipped
    progress.bad_in_a_row = progress.bad_in_a_row + 1 if result.skipped else 0


def _record(progress: Progress, result: StepResult, rate: float, validation: ValidationRecord | None) -> TrainRecord:
    return TrainRecord(
        images_seen=progress.images_seen,
        step=progress.step,
        loss=result.loss,
        parts=result.parts,
        learning_rate=result.learning_rate,
        images_per_second=rate,
        skipped_steps=progress.skipped_steps,
        validation=validation,
    )


def _crosses(before: int, size: int, every: int) -> bool:
    return (before + size) // every > before // every


def _gave_up(config: TrainConfig, progress: Progress, folder: Path) -> str:
    return (
        f"training stopped at {progress.images_seen} images: {progress.bad_in_a_row} steps in a row had gradients that "
        f"are not finite or exploded; the last good head is in {folder}: go on from it with --init-from in another "
        f"folder, with a learning_rate below {config.learning_rate:g}"
        + (" or precision float32" if config.precision != "float32" else "")
    )


def _origin(dataset: SplitSource) -> dict[str, Any]:
    """The model pair and its licences, where the dataset's manifest names them: they bind a head's users too."""
    manifest = getattr(dataset, "manifest", None)
    if manifest is None:
        return {}
    licences = {side: settings["licence"] for side, settings in manifest.sides.items()}
    return {"pair": manifest.pair, "licences": licences}


def _facts(config: TrainConfig, precision: str, origin: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """What the head's card says of its training."""
    about = {name: value for name, value in origin.items() if name != "config"}
    return {
        "run": config.name,
        "images_seen": progress.images_seen,
        **about,
        "losses": _objective(config),
        "seed": config.seed,
        "precision": precision,
        "torch": torch.__version__,
        "figures": dict(progress.figures),
    }


def _objective(config: TrainConfig) -> dict[str, Any]:
    """The losses that are on, with their weights and kinds."""
    if config.cycle is not None:
        return {"cycle": config.cycle.model_dump(mode="json")}
    if config.latent is not None:
        return {"latent": config.latent.model_dump(mode="json")}
    weights = {name: weight for name, weight in config.losses.named().items() if weight}
    chosen = config.losses.model_dump()
    kinds = {"gradient_input": "gradient_input_kind", "gradient_target": "gradient_target_kind"}
    kinds["perceptual"] = "perceptual_net"
    return {**weights, **{key: chosen[key] for name, key in kinds.items() if name in weights}}


def _figures(validation: ValidationRecord) -> dict[str, float | None]:
    """The last validation as the card's figures, which are of the loss net and say so."""
    return {
        "validation_images": validation.images,
        "psnr_db": validation.psnr_db,
        "psnr_db_of_doing_nothing": validation.do_nothing_psnr_db,
        "perceptual_distance_(loss_net)": validation.perceptual,
        "perceptual_distance_of_doing_nothing_(loss_net)": validation.do_nothing_perceptual,
        "frechet_distance_(loss_net)": validation.frechet,
        "frechet_distance_of_doing_nothing_(loss_net)": validation.do_nothing_frechet,
        "gap_closed_(kernel_distance,_loss_net)": validation.gap_closed,
    }
