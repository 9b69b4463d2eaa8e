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
from topcoat.errors import ModelError, UsageError
from topcoat.heads.network import channels_last
from topcoat.training.batches import PairBatches, PairBytes, PairSource
from topcoat.training.config import TrainConfig
from topcoat.training.folder import Progress, RunFolder
from topcoat.training.losses import HasStages
from topcoat.training.paired import PairedTrainer, StepResult
from topcoat.training.records import TrainRecord, ValidationRecord
from topcoat.training.runs import run_config
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
) -> Generator[TrainRecord, None, None]:
    """Train a head on the ``train`` split of ``dataset``; yields a record per step.

    ``run``: "unet" (the same as "best-unet"), "paper-unet", "debug", the path of a settings file, or a `TrainConfig`.
    ``output``: the run's folder, by default ``runs/<name of the run>``. After the last record, and after every
    checkpoint before it, `Head.from_pretrained(output)` loads the averaged head. ``images`` replaces the run's length.
    ``features``: the frozen net of the perceptual loss, called with images and giving ``.stages``; by default the
    embedded one.

    Stop by leaving the loop or closing the generator: the state is saved, and the same call goes on from there. On a
    CPU with the same number of threads the result is, bit for bit, that of an uninterrupted run. A finished run yields
    nothing more.

    Arguments are checked at the call: `UsageError` for the run or its settings, `DataError` if the dataset has no
    training pairs or ``output`` holds another run. While running, `DataError` for damaged pairs or a full disk,
    `ModelError` after ``max_bad_steps`` steps in a row that are not finite.
    """
    config = run_config(run)
    if images is not None:
        config = parse_config({**config.model_dump(), "images": images}, TrainConfig, source="training settings")
    net = _feature_net(features)
    pairs = PairBytes(dataset.split("train"), config.cache_mebibytes)
    identity = {
        "config": config.identity(),
        "dataset_digest": dataset.digest,
        "features_digest": str(getattr(net, "digest", "unnamed")),
    }
    folder = RunFolder(Path(output) if output is not None else Path("runs") / config.name, identity)
    origin = {**_origin(dataset), **identity}
    return _steps(config, pairs, dataset.split("val"), net, folder, origin)


def _steps(
    config: TrainConfig,
    pairs: PairBytes,
    validation_pairs: PairSource,
    net: nn.Module,
    folder: RunFolder,
    origin: Mapping[str, Any],
) -> Generator[TrainRecord, None, None]:
    accelerator = _accelerator(config)
    device: torch.device = accelerator.device
    features: Callable[[Tensor], HasStages] = channels_last(net.to(device))
    trainer = PairedTrainer(config, features, accelerator)
    progress = folder.resume(trainer)
    if progress.images_seen >= config.images:
        return
    batches = PairBatches(
        pairs, seed=config.seed, crop_px=config.crop_px, flip=config.flip, size_multiple=config.head.size_multiple
    )
    validator = None
    if len(validation_pairs) > 0:
        validator = Validator(validation_pairs, config.validation_images, features, device)

    def save() -> None:
        folder.save(trainer, progress, _facts(trainer, origin, progress))

    size = config.batch_size
    rate = 0.0
    whole = True  # False while a step is under way, when the state is neither before nor after it
    saved_at = time.monotonic()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="topcoat-batches") as pool:
        upcoming = pool.submit(batches.batch, progress.images_seen, size)
        try:
            while progress.images_seen < config.images:
                started = time.perf_counter()
                batch = upcoming.result()
                upcoming = pool.submit(batches.batch, progress.images_seen + size, size)
                before = progress.images_seen
                whole = False
                result = trainer.step(batch, before + size)
                _advance(progress, result, size)
                whole = True
                now = size / (time.perf_counter() - started)
                rate = now if rate == 0 else 0.9 * rate + 0.1 * now
                if progress.bad_in_a_row >= config.max_bad_steps:
                    raise ModelError(_gave_up(config, progress))

                finished = progress.images_seen >= config.images
                validation = None
                if validator is not None and (finished or _crosses(before, size, config.validate_every_images)):
                    validation = validator(trainer.head())
                    if _is_best(progress, validation):
                        progress.best_perceptual = validation.perceptual
                        trainer.head().save_pretrained(folder.best, _facts(trainer, origin, progress))
                record = _record(progress, result, rate, validation)
                if finished or validation or result.skipped or _crosses(before, size, LOG_EVERY_IMAGES):
                    folder.log(record)
                if finished or time.monotonic() - saved_at >= config.checkpoint_every_seconds:
                    save()
                    saved_at = time.monotonic()
                yield record
        except (GeneratorExit, KeyboardInterrupt):
            if whole and progress.step > 0:
                save()
            raise


def _feature_net(features: nn.Module | None) -> nn.Module:
    if features is None:
        from topcoat.features import load_feature_net

        features = load_feature_net("loss")
    return features.eval().requires_grad_(False)


def _accelerator(config: TrainConfig) -> Any:
    from accelerate import Accelerator

    try:
        accelerator = Accelerator(cpu=config.device == "cpu")
    except ValueError as error:  # accelerate keeps one device per process
        raise UsageError("this process already trains on another device; start a new one for the cpu") from error
    if accelerator.num_processes > 1:
        raise UsageError("training runs in one process; start it without accelerate launch or torchrun")
    if config.device not in ("auto", accelerator.device.type):
        raise UsageError(f"device is {config.device}, but this machine offers {accelerator.device.type}; use auto")
    return accelerator


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


def _is_best(progress: Progress, validation: ValidationRecord) -> bool:
    return progress.best_perceptual is None or validation.perceptual < progress.best_perceptual


def _gave_up(config: TrainConfig, progress: Progress) -> str:
    return (
        f"training stopped at {progress.images_seen} images: {progress.bad_in_a_row} steps in a row gave values that "
        f"are not finite; start again in another folder with a learning_rate below {config.learning_rate:g}"
        + (" or precision float32" if config.precision != "float32" else "")
    )


def _origin(dataset: SplitSource) -> dict[str, Any]:
    """The model pair and its licences, where the dataset's manifest names them: they bind a head's users too."""
    manifest = getattr(dataset, "manifest", None)
    if manifest is None:
        return {}
    sides: Mapping[str, Any] = manifest.identity
    licences = {side: about["licence"] for side, about in sides.items() if "licence" in about}
    return {"pair": manifest.pair, "licences": licences}


def _facts(trainer: PairedTrainer, origin: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """What the head's card says of its training."""
    config = trainer.config
    about = {name: value for name, value in origin.items() if name != "config"}
    return {
        "run": config.name,
        "images_seen": progress.images_seen,
        **about,
        "losses": {name: weight for name, weight in config.losses.named().items() if weight},
        "gradient_input_kind": config.losses.gradient_input_kind,
        "seed": config.seed,
        "precision": trainer.precision,
        "torch": torch.__version__,
    }
