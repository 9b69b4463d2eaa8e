"""One stage of a run under way: everything that a step needs, built once, and the loop over its batches."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from topcoat.cost.machine import usable_cores
from topcoat.errors import ModelError, UsageError
from topcoat.features import feature_net
from topcoat.generators.vae import Vae
from topcoat.heads.head import Head
from topcoat.heads.network import channels_last
from topcoat.memory import memory_advice
from topcoat.training.config import TrainConfig
from topcoat.training.crop_cache import CropCache
from topcoat.training.data import Batches
from topcoat.training.decoded import CachedPairs, Change, taught_by, with_latents_of
from topcoat.training.distributed import Processes
from topcoat.training.objectives.latent import target_encoder
from topcoat.training.records import TrainRecord, ValidationRecord
from topcoat.training.run_folder import Progress, RunFolder
from topcoat.training.trackers import Trackers
from topcoat.training.trainer import StepResult
from topcoat.training.validation import Validator

if TYPE_CHECKING:
    from topcoat.pairs.dataset import Pair

LOG_EVERY_IMAGES = 1_000
_VALIDATION_ADVICE = "validation needs more memory than there is; take a smaller head, or pairs of smaller images"
_MOST_WORKERS = 8
_HELD_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class RunInputs:
    """What every stage of a run is given."""

    folder: RunFolder
    training: Sequence[Pair]
    validation: Sequence[Pair]
    features: nn.Module
    """The frozen net for losses."""
    vae: Vae | None
    teacher: Head | None
    """A head whose images take the place of the baseline's, in stages that have no teacher of their own."""
    facts: Mapping[str, Any]
    """What the head's card says of the run: its name, the data, digests."""
    paired: bool = True
    """Whether validation may compare an image with the baseline's of its row."""


class Stage:
    """A stage of a run, of which nothing is written before `records` trains it.

    ``given`` is the head of the stage before, or the one that the run starts from; ``last`` says whether the run ends
    with this stage. Raises `UsageError` for a head that is missing or does not fit and for a device or batch that
    cannot be, `DataError` for pairs that do not fit and a damaged checkpoint.
    """

    def __init__(
        self, config: TrainConfig, inputs: RunInputs, progress: Progress, given: Head | None, *, last: bool
    ) -> None:
        self.config, start = starting_point(config, given, inputs.vae)
        self.inputs, self.folder, self.progress, self.is_last = inputs, inputs.folder, progress, last
        head = self.config.head
        self.processes = Processes(config.device, config.precision)
        self.share = self.processes.share(config.batch_size)
        if self.share % config.gradient_accumulation_steps:
            raise UsageError(
                f"each process takes {self.share} images of a batch; give gradient_accumulation_steps (--accumulate) a "
                "divisor of that"
            )
        device = self.processes.device
        self.features = channels_last(inputs.features.to(device))
        changes: list[Change] = []
        teacher = given if config.previous == "teacher" else inputs.teacher
        if teacher is not None:
            changes.append(taught_by(teacher.to(device)))
        if head.training_latents is not None and head.input == "image" and start is not None:
            changes.append(with_latents_of(start.to(device).network))
        encode = None
        if config.objective.compares_latents and inputs.vae is not None:
            encode = target_encoder(inputs.vae.encoder.to(device))
        pairs = CachedPairs(inputs.training, config.cache_mebibytes, head.training_latents, encode, changes)
        self.crop_cache = None
        if config.cached_crops and config.crop_px is not None:
            path = self.folder.crops(config.name)
            self.crop_cache = CropCache(path, len(pairs), config.cached_crops, config.crop_px)
        self.batches = Batches(
            pairs,
            paired=config.objective.paired,
            seed=config.seed,
            crop_px=config.crop_px,
            flip=config.flip,
            size_multiple=head.size_multiple,
            batch_size=config.batch_size,
            crops_per_decode=config.crops_per_decode,
            cache=self.crop_cache,
            workers=_default_workers() if config.workers is None else config.workers,
        )
        self.trainer = config.objective.trainer(self.config, self.features, self.processes, start)
        if progress.step > 0:
            self.folder.restore(self.trainer)

    @property
    def finished(self) -> bool:
        """Whether all images were seen."""
        return self.progress.images_seen >= self.config.images

    def records(self) -> Generator[TrainRecord, None, None]:
        """Train to the end of the stage; a record per step."""
        config, progress, processes = self.config, self.progress, self.processes
        size, offset = config.batch_size, processes.rank * self.share
        if processes.is_first:
            self.folder.begin(progress)
        processes.wait()
        trackers = validator = None
        if processes.is_first and not self.finished:
            trackers = Trackers(self.folder.path, config, self.inputs.facts)
            if len(self.inputs.validation) > 0:
                validator = Validator(
                    self.inputs.validation,
                    config.validation_images,
                    self.features,
                    processes.device,
                    self.trainer.head().latent_channels,
                    config.cache_mebibytes,
                    None if config.validation_features == "embedded" else feature_net(config.validation_features),
                    self.inputs.paired,
                )
        if self.crop_cache is not None and not self.finished:
            self.crop_cache.open()
        rate = 0.0
        whole = True  # False while a step is under way, when the state is neither before nor after it
        saved_at = time.monotonic()
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="topcoat-batches") as pool:
            upcoming = pool.submit(self.batches.batch, progress.images_seen + offset, self.share)
            try:
                while not self.finished:
                    started = time.perf_counter()
                    batch = upcoming.result()
                    upcoming = pool.submit(self.batches.batch, progress.images_seen + size + offset, self.share)
                    before = progress.images_seen
                    with held_back():  # a stop comes after the step, when the state is whole
                        whole = False
                        with memory_advice(_step_advice(config)):
                            result = self.trainer.step(batch, before + size)
                        self._advance(result)
                        whole = True
                    now = size / (time.perf_counter() - started)
                    rate = now if rate == 0 else 0.9 * rate + 0.1 * now
                    self._check_bad_steps()
                    validation = None
                    asked = self.finished or _crosses(before, size, config.validate_every_images)
                    if validator is not None and asked:
                        with memory_advice(_VALIDATION_ADVICE):
                            validation = self._validate(validator)
                    record = self._record(result, rate, validation)
                    if self.finished or validation or result.skipped or _crosses(before, size, LOG_EVERY_IMAGES):
                        if processes.is_first:
                            self.folder.log(record)
                        if trackers is not None:
                            trackers.write(record)
                    due = time.monotonic() - saved_at >= config.checkpoint_every_seconds
                    if self.finished or processes.decided(due):
                        self.save()
                        saved_at = time.monotonic()
                    if self.finished and self.crop_cache is not None:
                        self.crop_cache.remove()
                    yield record
            except (GeneratorExit, KeyboardInterrupt):
                if whole and progress.step > 0 and processes.count == 1:
                    self.save()
                raise
            finally:
                self.batches.close()
                if trackers is not None:
                    trackers.close()

    def save(self) -> None:
        """Write a checkpoint."""
        tensors = self.trainer.tensors()  # by every process: it may exchange
        if self.processes.is_first:
            ended = self.config.name if self.finished and not self.is_last else None
            self.folder.save(self.trainer.head(self.facts()), tensors, self.progress, ended)
        self.processes.wait()  # so that none goes on, and perhaps resumes, before the file is there

    def facts(self) -> dict[str, Any]:
        """What the head's card says of its training."""
        return {
            **self.inputs.facts,
            **({} if self.is_last and self.progress.stage == 0 else {"stage": self.config.name}),
            "images_seen": self.progress.total,
            "objective": self.config.objective.described(),
            "seed": self.config.seed,
            "precision": self.processes.precision,
            "torch": torch.__version__,
            "figures": dict(self.progress.figures),
        }

    def _validate(self, validator: Validator) -> ValidationRecord:
        head = self.trainer.head()
        record = validator(head)
        judge = self.config.validation_features
        self.progress.figures = record.figures("loss_net" if judge == "embedded" else judge.split(":")[0])
        if self.progress.best_score is None or record.score < self.progress.best_score:
            self.progress.best_score = record.score
            head.save_pretrained(self.folder.best, self.facts())
        validator.picture(head, self.folder.picture)
        return record

    def _advance(self, result: StepResult) -> None:
        progress = self.progress
        progress.images_seen += self.config.batch_size  # also when skipped: a bad batch is not met again at once
        progress.step += 1
        progress.skipped_steps += result.skipped
        progress.bad_in_a_row = progress.bad_in_a_row + 1 if result.skipped else 0

    def _check_bad_steps(self) -> None:
        """Save and raise `ModelError` after too many skipped steps in a row."""
        config, progress = self.config, self.progress
        if progress.bad_in_a_row < config.max_bad_steps:
            return
        sentence = (
            f"training stopped at {progress.total} images: {progress.bad_in_a_row} steps in a row had gradients that "
            f"are not finite or exploded; the last good head is in {self.folder.path}: go on from it with --init-from "
            f"in another folder, with a learning_rate below {config.learning_rate:g}"
            + (" or precision float32" if config.precision != "float32" else "")
        )
        progress.bad_in_a_row = 0  # skipped steps changed nothing: what is saved is good to go on from
        self.save()
        raise ModelError(sentence)

    def _record(self, result: StepResult, rate: float, validation: ValidationRecord | None) -> TrainRecord:
        return TrainRecord(
            images_seen=self.progress.total,
            step=self.progress.step,
            loss=result.loss,
            parts=result.parts,
            learning_rate=result.learning_rate,
            images_per_second=rate,
            skipped_steps=self.progress.skipped_steps,
            validation=validation,
            stage=self.config.name,
        )


def starting_point(config: TrainConfig, given: Head | None, vae: Vae | None) -> tuple[TrainConfig, Head | None]:
    """The settings and the head that a stage starts with; None for random weights.

    ``given`` is the head of the stage before. A head that changes latents starts with the weights of ``vae``, and a
    change of nothing whose inner weights come from the seed; a refiner takes its painter from ``given``, or goes on
    with a refiner. Raises `UsageError` for a head that is missing or of other settings.
    """
    if config.previous is not None and given is None:
        raise UsageError(
            f"the stage {config.name} goes on from the head of the stage before; give that head's folder (--init-from, "
            "or init_from in Python), or start the run from its first stage"
        )
    start = None if config.previous == "teacher" else given
    changed = config.head.latent_part
    if changed is not None:
        part = None if start is None else start.network.latent_part
        if part is not None and changed.vae is None:
            config = config.model_copy(update={"head": config.head.with_vae(part.decoder)})
        elif part is None and vae is not None:
            config = config.model_copy(update={"head": config.head.with_vae(vae.decoder)})
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(config.seed)
                network = config.head.build()
            network.adopt(vae, None if start is None else start.network)
            start = Head(network, config.head)
        elif part is None:
            raise UsageError(
                f"the head {config.head.name()} decodes with the distilled model's own VAE; give it (--pair, or vae in "
                "Python)"
            )
    if start is not None and start.config != config.head:
        raise UsageError(
            f"the head to start from is a {start.kind} of other settings than the run's {config.head.name()}; "
            "give the run the settings in that head's config.json"
        )
    return config, start


@contextmanager
def held_back() -> Iterator[None]:
    """Let Ctrl-C or SIGTERM that comes inside take effect at the end; a second one takes effect at once.

    So a stop finds a state that can be saved. Signals that Python does not handle, and threads other than the main
    one, are left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: handler for number in _HELD_SIGNALS if callable(handler := signal.getsignal(number))}
    caught: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        if len(caught) > 1:
            handlers[signal.Signals(number)](number, frame)

    for number in handlers:
        signal.signal(number, hold)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if caught:
        handlers[signal.Signals(caught[0])](caught[0], None)


def _default_workers() -> int:
    """Half of the processors, because the rest of training has work too."""
    return max(1, min(_MOST_WORKERS, usable_cores() // 2))


def _crosses(before: int, size: int, every: int) -> bool:
    return (before + size) // every > before // every


def _step_advice(config: TrainConfig) -> str:
    """What to lower so that a step fits in memory."""
    crop = "crop_px (now whole images)" if config.crop_px is None else f"crop_px (now {config.crop_px})"
    steps = config.gradient_accumulation_steps
    if config.batch_size > steps:
        best = f"raise gradient_accumulation_steps (--accumulate, now {steps}), which changes no result, or lower "
        return f"a training step needs more memory than there is; {best}batch_size (now {config.batch_size}) or {crop}"
    return f"a training step needs more memory than there is; lower {crop}, or take a smaller head"
