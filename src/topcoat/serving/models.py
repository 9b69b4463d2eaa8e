"""The models of a server, and the work on one batch. Not for several threads: the engine calls from one."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from topcoat.embedded import name_of_head
from topcoat.errors import TopcoatError, UsageError
from topcoat.memory import free_cached_memory, is_out_of_memory
from topcoat.serving.batching import whole_batch
from topcoat.serving.settings import ServeConfig
from topcoat.serving.work import (
    Catalogue,
    Cost,
    EnhanceSettings,
    Gating,
    GenerateSettings,
    HeadFacts,
    Sample,
    Side,
    Subject,
)

if TYPE_CHECKING:
    from topcoat.gates import Gates
    from topcoat.generators.base import Generator, ModelPair
    from topcoat.heads.head import Head
    from topcoat.pipeline import Pipeline, PortraitBatch
    from topcoat.runtime.runner import Runtime

_LOG = logging.getLogger(__name__)
_REMEMBERED = 16  # pipelines and gates, which hold no weights of their own but the gates' net


class Models:
    """The pair and the heads that `ServeConfig` names, loaded."""

    def __init__(self, config: ServeConfig, generators: dict[Side, Generator] | None = None) -> None:
        """``generators`` stand in for those of the pair, such as in a test.

        Raises `UsageError` for names that cannot be, `DataError` and `ModelError` for what cannot be loaded,
        `ModuleNotFoundError` for an extra that is missing.
        """
        self._config = config
        self._pair: ModelPair | None = None
        self._generators: dict[Side, Generator] = {}
        self._heads: dict[str, Head] = {}
        self._runtimes: dict[str, Runtime] = {}
        self._avoided: set[tuple[Hashable, int]] = set()
        """Settings and batch sizes for which there is no memory, or at which an image is not bit for bit that alone."""
        self._exact: set[tuple[Hashable, int]] = set()
        names = config.chosen_heads()
        if config.pair is not None:
            self._open_pair(config.pair, generators)
        for name in names:
            self._open_head(name)
        self._pipeline = functools.lru_cache(_REMEMBERED)(self._make_pipeline)
        self._gates = functools.lru_cache(_REMEMBERED)(self._make_gates)
        self._cost_of = functools.lru_cache(_REMEMBERED)(self._count)

    def _open_pair(self, name: str, generators: dict[Side, Generator] | None) -> None:
        from topcoat.generators.callables import open_generator, open_pair
        from topcoat.generators.presets import model_pair

        pair = model_pair(name)
        if generators is not None:
            self._generators = generators
            specs = {side: generators[side].spec for side in generators}
            pair = pair.model_copy(update=specs)
        elif self._config.baseline:
            self._generators["distilled"], self._generators["baseline"] = open_pair(pair)
        else:
            self._generators["distilled"] = open_generator(pair.distilled)
        self._pair = pair

    def _open_head(self, head: str) -> None:
        name = name_of_head(head)
        if name in self._heads or name in self._runtimes:
            raise UsageError(f"two heads are called {name}; give folders of different names")
        if self._pair is not None and Path(head).suffix != ".onnx":
            from topcoat.heads.head import Head

            self._heads[name] = Head.load(head)
        if name not in self._heads or self._heads[name].input == "image":
            from topcoat.runtime.opening import open_runtime

            self._runtimes[name] = open_runtime(head, self._config.runtime)

    @property
    def catalogue(self) -> Catalogue:
        """What is here, by the names that a request may use."""
        sizes = list(self._config.sizes_px)
        if self._pair is not None:
            spec = self._pair.distilled
            sizes = [(spec.width_px, spec.height_px), *sizes]
        names = list(dict.fromkeys([*self._heads, *self._runtimes]))
        runtimes = {runtime.name for runtime in self._runtimes.values()}
        return Catalogue(
            self._pair,
            tuple(self._facts(name) for name in names),
            tuple(dict.fromkeys(sizes)),
            "baseline" in self._generators,
            ", ".join(sorted(runtimes)),
        )

    def _facts(self, name: str) -> HeadFacts:
        if name in self._runtimes:
            record = self._runtimes[name].record
        else:
            from topcoat.runtime.torch_session import record_of

            record = record_of(self._heads[name], name)
        digest = record.digest if record.precision == "float32" else f"{record.digest}-{record.precision}"
        edits, generates = name in self._runtimes, name in self._heads
        return HeadFacts(name, digest, record.kind, record.licence, record.has_strength, generates, edits, record.gates)

    def warm_up(self) -> None:
        """One image of each kind, so that the first request finds everything read and compiled."""
        catalogue = self.catalogue
        if self._pair is not None:
            head = catalogue.head(None, to="generate")
            settings = GenerateSettings(head=head.name if head else None)
            self.run(settings, [Subject("portrait", 0)])
            self.cost(settings)
        editing = catalogue.head(None, to="edit")
        if editing is not None:
            self.run(EnhanceSettings(editing.name), [np.zeros((64, 64, 3), np.uint8)])

    def run(self, settings: Hashable, items: Sequence[Any]) -> list[Sample]:
        """A batch: `Subject` for `GenerateSettings`, images ``(H, W, 3)`` of one shape and type for `EnhanceSettings`.

        An image is bit for bit the same in any batch: a batch size at which that does not hold is found when it first
        occurs, and is not used again. Raises `UsageError` for settings that the models cannot do, `ModelError` if they
        fail.
        """
        if isinstance(settings, EnhanceSettings):
            return self._enhance(settings, np.stack(items))
        assert isinstance(settings, GenerateSettings)
        return self._generate(settings, items)

    def _generate(self, settings: GenerateSettings, subjects: Sequence[Subject]) -> list[Sample]:
        count, whole = len(subjects), whole_batch(len(subjects))
        shape = (_kernels(settings), count)
        if whole < count or shape in self._avoided:
            first = whole if whole < count else count // 2
            return self._generate(settings, subjects[:first]) + self._generate(settings, subjects[first:])
        import torch

        try:
            made = self._batch(settings, subjects)
        except Exception as error:
            if count == 1 or not is_out_of_memory(error):
                raise
            self._avoided.add(shape)
            free_cached_memory()
            return self._generate(settings, subjects)
        if count == 1 or shape in self._exact:
            return _samples([made], settings)
        alone = [self._batch(settings, [subject]) for subject in subjects]
        same = made.enhanced.equal(torch.cat([each.enhanced for each in alone]))
        (self._exact if same else self._avoided).add(shape)
        _LOG.info("batches of %d: %s", count, "the same bits" if same else "other bits, not used")
        return _samples([made] if same else alone, settings)

    def _batch(self, settings: GenerateSettings, subjects: Sequence[Subject]) -> PortraitBatch:
        pipeline = self._pipeline(settings)
        batches = pipeline.stream(
            [each.prompt for each in subjects],
            [each.seed for each in subjects],
            steps=settings.steps,
            strength=settings.strength,
            batch_size=len(subjects),
            with_distilled=settings.with_distilled,
        )
        with _image_by_image(pipeline, len(subjects)):
            return next(iter(batches))

    def _make_pipeline(self, settings: GenerateSettings) -> Pipeline:
        from topcoat.generators.diffusers import DiffusersGenerator
        from topcoat.pipeline import Pipeline

        generator = self._generators[settings.side]
        asked = (settings.size_px, settings.guidance_scale, settings.negative_prompt or None)
        if asked != (None, None, None):
            if not isinstance(generator, DiffusersGenerator):
                raise UsageError(
                    f"{generator.spec.name} has its own size and guidance alone; leave size, guidance_scale and "
                    "negative_prompt out"
                )
            size_px, guidance_scale, negative_prompt = asked
            generator = generator.with_call(
                size_px=size_px, guidance_scale=guidance_scale, negative_prompt=negative_prompt
            )
        pipeline = Pipeline(generator, None if settings.head is None else self._heads[settings.head])
        if settings.gating:
            if settings.head is None:
                raise UsageError("gates need a head whose strength can be lowered; leave them out, or name a head")
            pipeline.gates = self._gates(settings.head, settings.gating)
        return pipeline

    def _make_gates(self, head: str, gating: Gating) -> Gates | None:
        from topcoat.gates import gates_for

        if head not in self._heads:
            raise UsageError(f"the head {head} is an ONNX file, and gates need its folder; leave the gates out")
        opened: Head = self._heads[head]
        return gates_for(opened, gating.identity_floor, gating.never_worse)

    def _enhance(self, settings: EnhanceSettings, images: np.ndarray) -> list[Sample]:
        head = self._runtimes[settings.head]
        began = time.perf_counter()
        if settings.gating:
            gates = self._gates(settings.head, settings.gating)
            assert gates is not None
            enhanced, decisions = gates.enhanced(head, images, settings.strength)
        else:
            enhanced, decisions = head(images.transpose(0, 3, 1, 2), settings.strength).transpose(0, 2, 3, 1), ()
        seconds = time.perf_counter() - began
        return [
            Sample(image, None, decisions[index] if decisions else None, len(images), 0.0, seconds)
            for index, image in enumerate(enhanced)
        ]

    def cost(self, settings: GenerateSettings) -> Cost | None:
        """Computed TFLOP of one image with these settings; None where the networks' sizes are not known."""
        if self._pair is None:
            return None
        return self._cost_of(settings.side, settings.head, settings.steps, settings.size_px)

    def _count(self, side: Side, head: str | None, steps: int | None, size_px: tuple[int, int] | None) -> Cost | None:
        from topcoat.cost.flops import pair_cost

        assert self._pair is not None
        try:
            table = pair_cost(self._pair, None if head is None else self._heads[head], size_px, baseline_steps=())
        except (TopcoatError, OSError) as error:
            _LOG.info("no cost: %s", error)
            return None
        if side == "baseline":
            ours = table.baseline if steps is None else table.baseline.at_steps(steps)
            sentence = f"{ours.title}, computed"
            return Cost(ours.tflop, table.baseline.tflop, 1 - ours.tflop / table.baseline.tflop, sentence)
        table = table if steps is None else table.at_distilled_steps(steps)
        saving = table.saving()
        return Cost(saving.value, saving.against_value, saving.share, saving.sentence)


def _kernels(settings: GenerateSettings) -> GenerateSettings:
    """The settings without those that have no part in which kernels run: equal ones agree on batch sizes."""
    guided = None if settings.guidance_scale is None else float(settings.guidance_scale > 1)
    negative = None if settings.negative_prompt is None else ""
    gating = Gating(never_worse=bool(settings.gating))
    return replace(settings, strength=1.0, steps=None, guidance_scale=guided, negative_prompt=negative, gating=gating)


def _image_by_image(pipeline: Pipeline, images: int) -> AbstractContextManager[Any]:
    """On a CPU, what gives an image the same bits in most batches; see `topcoat.serving.exact`."""
    from topcoat.serving.exact import ImageByImage

    device = getattr(pipeline.generator, "device", None)
    return ImageByImage(images) if getattr(device, "type", "cpu") == "cpu" else nullcontext()


def _samples(batches: Sequence[PortraitBatch], settings: GenerateSettings) -> list[Sample]:
    from topcoat.images import to_pil

    samples: list[Sample] = []
    for batch in batches:
        for index, image in enumerate(batch.enhanced):
            before = batch.distilled if settings.with_distilled else None
            sample = Sample(
                np.array(to_pil(image)),
                None if before is None else np.array(to_pil(before[index])),
                batch.decisions[index] if batch.decisions else None,
                len(batch.prompts),
                batch.generator_seconds,
                batch.head_seconds,
            )
            samples.append(sample)
    return samples
