"""Runs arms on subjects: generates, enhances, times in turns and embeds, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from topcoat.benchmark.arms import Arm, Model, Subjects
from topcoat.benchmark.store import Batch, CachedGenerator, Store, to_bytes, to_floats
from topcoat.cost.measure import Spent, Timing, summarise
from topcoat.errors import UsageError
from topcoat.generators.base import Generator
from topcoat.heads.head import Head
from topcoat.metrics.embed import Embeddings, FeatureNetLike, embed
from topcoat.metrics.paired import gradient_energy
from topcoat.pipeline import move_to_generator

BATCH_SIZE = 8
TIMED_BATCHES = 3
"""Batches of an arm that is there for its time alone."""

Progress = Callable[[int, int, str], None]
"""Called with pieces done, pieces in all and what is at work."""

Seconds = tuple[float, float | None]
"""Per image of one batch: of the generator, and of the head where there is one."""

Enhance = Callable[..., Tensor]
"""A head, or a control in its place: images in, images out."""


@dataclass(frozen=True, slots=True)
class Made:
    """One batch of an arm: images ``(N, 3, H, W)`` uint8 and what its two parts took, transfers included."""

    images: Tensor
    generator: Spent
    """Up to the head's input; up to the image for an arm without a head."""
    head: Spent | None

    @property
    def seconds_per_image(self) -> Seconds:
        """Of both parts."""
        count = len(self.images)
        return self.generator.seconds / count, None if self.head is None else self.head.seconds / count

    @property
    def spent(self) -> Spent:
        """Of both: seconds and joules add up, the higher peak of memory counts."""
        return self.generator if self.head is None else self.generator.then(self.head)


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of one arm."""

    embeddings: Embeddings
    gradient_energy: Tensor
    """``(N,)``."""


def timings(batches: Sequence[Seconds]) -> dict[str, Timing]:
    """Seconds per image by the metric of their score: ``seconds`` and, with a head, those of both parts."""
    heads = [head for _, head in batches if head is not None]
    whole = {"seconds": summarise([generator + (head or 0) for generator, head in batches])}
    if heads:
        whole |= {"generator_seconds": summarise([generator for generator, _ in batches])}
        whole |= {"head_seconds": summarise(heads)}
    return whole


class Benchmark:
    """Both models, named heads and subjects. A batch can be asked for again at any time: models' batches are kept."""

    def __init__(
        self,
        generators: Mapping[Model, Generator],
        heads: Mapping[str, Head],
        subjects: Subjects,
        *,
        store: Store,
        batch_size: int = BATCH_SIZE,
    ) -> None:
        """``generators`` are those of the arms that are asked for; heads are moved to the device of the distilled one.

        Raises `UsageError` for a batch size below 1.
        """
        if batch_size < 1:
            raise UsageError(f"batch size {batch_size} is not possible; use 1 or more")
        self.subjects = subjects
        self.batch_size = min(batch_size, len(subjects))
        self._models = {
            name: CachedGenerator(generator, store, self.batch_size) for name, generator in generators.items()
        }
        self._heads: dict[str, Enhance] = dict(heads)
        self._decoders = {name for name, head in heads.items() if head.input == "latent"}
        self._warm: set[str] = set()
        for head in heads.values():
            move_to_generator(head, self._models["distilled"].generator)

    def add_control(self, name: str, control: Enhance) -> None:
        """Make ``control``, a function of images, known as ``name``: arms use it like a head."""
        self._heads[name] = control

    def joules_note(self, model: Model) -> str:
        """Why the joules of a model are not known; empty where they are."""
        return self._models[model].meter.joules_note

    @property
    def starts(self) -> range:
        """The first subject of every batch."""
        return range(0, len(self.subjects), self.batch_size)

    def batch(self, arm: Arm, start: int) -> Made:
        """The batch of an arm that begins with subject ``start``, by the store or made now."""
        inputs = self._input(arm, start)
        if arm.head is None:
            return Made(inputs.images, inputs.spent, None)
        head = self._heads[arm.head]
        given = inputs.images.float() if arm.head in self._decoders else to_floats(inputs.images)
        arguments = (given,) if arm.strength == 1 else (given, arm.strength)
        if arm.head not in self._warm:
            head(*arguments)
            self._warm.add(arm.head)
        images, spent = self._models[arm.model].meter.run(lambda: head(*arguments))
        return Made(to_bytes(images), inputs.spent, spent)

    def images(self, arm: Arm, seconds: list[Seconds] | None = None) -> Iterator[Tensor]:
        """All images of an arm in batches ``(N, 3, H, W)`` uint8; ``seconds`` collects those of full batches."""
        for start in self.starts:
            made = self.batch(arm, start)
            if seconds is not None and len(made.images) == self.batch_size:
                seconds.append(made.seconds_per_image)
            yield made.images

    def first(self, arm: Arm, count: int) -> Tensor:
        """The first ``count`` images of an arm, uint8; all where there are fewer."""
        starts = range(0, min(count, len(self.subjects)), self.batch_size)
        return torch.cat([self.batch(arm, start).images for start in starts])[:count]

    def generate(
        self, arms: Sequence[Arm], *, timed_only: Sequence[Arm] = (), on_progress: Progress | None = None
    ) -> dict[Arm, Timing]:
        """Generate what ``arms`` start from, in turns; the generator's seconds per image of every arm.

        A kept batch counts with its seconds of then.
        """
        seconds: dict[Arm, list[float]] = {arm: [] for arm in (*arms, *timed_only)}
        for arm, start in self.turns(arms, timed_only, on_progress):
            batch = self._input(arm, start)
            if len(batch.images) == self.batch_size:
                seconds[arm].append(batch.spent.seconds / self.batch_size)
        return {arm: summarise(taken) for arm, taken in seconds.items()}

    def measure(
        self,
        arms: Sequence[Arm],
        net: FeatureNetLike,
        *,
        timed_only: Sequence[Arm] = (),
        on_progress: Progress | None = None,
    ) -> tuple[dict[Arm, Measured], dict[Arm, dict[str, Timing]]]:
        """Run all arms in turns: what ``net`` says of the images of ``arms``, and the `timings` of all."""
        sets: dict[Arm, list[tuple[Embeddings, Tensor]]] = {arm: [] for arm in arms}
        full: dict[Arm, list[Seconds]] = {arm: [] for arm in (*arms, *timed_only)}
        for arm, start in self.turns(arms, timed_only, on_progress):
            made = self.batch(arm, start)
            if len(made.images) == self.batch_size:
                full[arm].append(made.seconds_per_image)
            if arm in sets:
                images = to_floats(made.images)
                sets[arm].append((embed(images, net), gradient_energy(images)))
        measured = {
            arm: Measured(Embeddings.join([one for one, _ in parts]), torch.cat([energy for _, energy in parts]))
            for arm, parts in sets.items()
        }
        return measured, {arm: timings(taken) for arm, taken in full.items()}

    def turns(
        self, arms: Sequence[Arm], timed_only: Sequence[Arm] = (), on_progress: Progress | None = None
    ) -> Iterator[tuple[Arm, int]]:
        """Every arm with the first subject of a batch, batch after batch, so that all arms see the same machine.

        Arms ``timed_only`` run on the first `TIMED_BATCHES` batches.
        """
        count = len(self.subjects)
        total = len(arms) * count + len(timed_only) * min(count, TIMED_BATCHES * self.batch_size)
        done = 0
        for number, start in enumerate(self.starts):
            for arm in (*arms, *timed_only) if number < TIMED_BATCHES else arms:
                yield arm, start
                done += min(self.batch_size, count - start)
                if on_progress is not None:
                    on_progress(done, total, arm.label)

    def _input(self, arm: Arm, start: int) -> Batch:
        """What an arm's head takes, or the arm's image where it has none."""
        prompts, seeds = self.subjects.batch(start, self.batch_size, other_seeds=arm.other_seeds)
        return self._models[arm.model].batch(prompts, seeds, arm.steps, latents=arm.head in self._decoders)
