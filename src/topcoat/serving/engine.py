"""The engine: requests in, finished picture files out; it decides who waits, who is refused and who is too late."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from topcoat.errors import DataError, UsageError
from topcoat.pictures import FORMATS, Picture, seen_by_head
from topcoat.pictures.formats import Format
from topcoat.runtime.runner import MAX_STRENGTH
from topcoat.serving.admission import Admission, Wait
from topcoat.serving.backend import Backend, LocalBackend
from topcoat.serving.files import accepted_picture, enhanced_file, generated_file, mask_of
from topcoat.serving.settings import ServeConfig
from topcoat.serving.work import (
    Answer,
    Catalogue,
    Cost,
    EnhanceSettings,
    GenerateSettings,
    HeadFacts,
    Made,
    Sample,
    Seconds,
    Subject,
)

T = TypeVar("T")
_CODERS = 2  # threads that decode and encode
_DECODED = 4  # uploads whose pixels are in memory at a time: each may be of many megapixels


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture to enhance: the bytes of its file, and those of a mask, if any."""

    data: bytes
    mask: bytes | None = None
    name: str = "the picture"
    """What messages call it."""


class Engine:
    """Owns a pair's models and heads, batches what requests ask for, and gives marked picture files.

        async with Engine(ServeConfig()) as engine:
            answer = await engine.generate([Subject("studio portrait of an old man", 7)], GenerateSettings())

    `generate` and `enhance` raise `UsageError` and `DataError` for what was asked, `BusyError` where the queue is full,
    `TooLateError` past the time, `ClosingError` outside of `start` and `close`, and `ModelError` where a model fails.
    Cancelling one of them takes what it waits for off the queue.
    """

    catalogue: Catalogue
    """What is served; known after `start`."""

    def __init__(self, config: ServeConfig, backend: Backend | None = None) -> None:
        """``backend`` None runs the models in this process."""
        self.config = config
        self.admission = Admission(config)
        self.load = self.admission.load
        self._backend = backend or LocalBackend(config)
        self._coders = ThreadPoolExecutor(_CODERS, "topcoat pictures")
        self._decoded_uploads = asyncio.Semaphore(_DECODED)
        self._costs: dict[tuple[object, ...], Cost | None] = {}

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return self.admission.is_open

    async def start(self) -> None:
        """Load the models and warm them up; raises what loading them does."""
        self.catalogue = await self._backend.start()
        self.admission.is_open = True

    def drain(self) -> None:
        """Take no more requests; those that were taken go on."""
        self.admission.is_open = False

    async def close(self) -> None:
        """End after the batch that runs."""
        self.drain()
        await self._backend.close()
        self._coders.shutdown(wait=False, cancel_futures=True)

    async def __aenter__(self) -> Engine:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def generate(
        self,
        subjects: Sequence[Subject],
        settings: GenerateSettings,
        *,
        format_name: str = "png",
        quality: int | None = None,
        timeout_seconds: float | None = None,
    ) -> Answer:
        """An image for each subject. ``settings.head`` "default" is the first head that is served.

        ``format_name`` is one of `ACCEPTED`, ``quality`` (1 to 100) is for those that lose something.
        """
        settings, head = self._checked(subjects, settings)
        kind, pair = FORMATS[format_name], self.catalogue.pair
        assert pair is not None
        began = time.perf_counter()

        async def finish(subject: Subject, sample: Sample) -> Made:
            encode = partial(generated_file, subject=subject, settings=settings, pair=pair, head=head, kind=kind)
            before = None
            if sample.distilled is not None:
                plain = replace(sample, image=sample.distilled, decision=None)
                alone = replace(settings, head=None)
                before = await self._coded(partial(generated_file, plain, subject, alone, pair, None, kind, quality))
            content = await self._coded(partial(encode, sample, quality=quality))
            size_px = (sample.image.shape[1], sample.image.shape[0])
            strength = sample.used_strength(settings.strength) if head else 0.0
            return Made(content, kind, size_px, subject.seed, strength, sample.decision, before, ())

        async def work() -> Answer:
            done = await _all(self._one(settings, subject, partial(finish, subject)) for subject in subjects)
            cost = await self.cost(settings)
            spec = pair.distilled if settings.side == "distilled" else pair.baseline
            return _answer(done, head, settings, settings.steps or spec.steps, began, cost)

        return await self.admission.admit(len(subjects), work(), timeout_seconds)

    async def enhance(
        self,
        uploads: Sequence[Upload],
        settings: EnhanceSettings,
        *,
        format_name: str | None = "png",
        quality: int | None = None,
        timeout_seconds: float | None = None,
    ) -> Answer:
        """Enhance pictures; what their files carry is kept. ``format_name`` None keeps the format of each."""
        self.admission.check_open()
        head = self.catalogue.head(settings.head, to="edit")
        if head is None:
            raise UsageError("an edit needs a head, and none was named; leave head out, or name one that is served")
        _check_strength(settings.strength, head)
        began = time.perf_counter()

        async def one(upload: Upload) -> _Done:
            async with self._decoded_uploads:
                return await in_memory(upload)

        async def in_memory(upload: Upload) -> _Done:
            picture, seen, mask = await self._coded(partial(self._decoded, upload))

            async def finish(sample: Sample) -> Made:
                kind: Format = picture.format if format_name is None else FORMATS[format_name]
                content, notes = await self._coded(
                    partial(enhanced_file, picture, seen, sample, mask, settings, head, kind, quality)
                )
                strength = sample.used_strength(settings.strength)
                return Made(content, kind, picture.size, None, strength, sample.decision, None, notes)

            return await self._one(settings, seen, finish)

        async def work() -> Answer:
            return _answer(await _all(map(one, uploads)), head, settings, None, began, None)

        return await self.admission.admit(len(uploads), work(), timeout_seconds)

    def _decoded(self, upload: Upload) -> tuple[Picture, np.ndarray, np.ndarray | None]:
        limit = self.config.max_megapixels
        picture = accepted_picture(upload.data, upload.name, limit)
        mask = None
        if upload.mask is not None:
            mask = mask_of(upload.mask, f"the mask of {upload.name}", picture.size, limit)
        return picture, seen_by_head(picture), mask

    def _checked(
        self, subjects: Sequence[Subject], settings: GenerateSettings
    ) -> tuple[GenerateSettings, HeadFacts | None]:
        """The settings with all names resolved, and the head; raises for what can be known before any work."""
        from topcoat.generators.base import check_request, check_steps

        self.admission.check_open()
        catalogue = self.catalogue
        if catalogue.pair is None:
            raise UsageError("no model pair is served here, only edits; start the server with --pair")
        if settings.side == "baseline" and not catalogue.baseline:
            raise UsageError("the baseline is not served; start the server with --baseline")
        check_request([each.prompt for each in subjects], [each.seed for each in subjects])
        spec = catalogue.pair.distilled if settings.side == "distilled" else catalogue.pair.baseline
        check_steps(settings.steps, spec)
        if settings.size_px is not None and settings.size_px not in catalogue.sizes_px:
            sizes = ", ".join(f"{width}x{height}" for width, height in catalogue.sizes_px)
            raise UsageError(f"size {settings.size_px[0]}x{settings.size_px[1]} is not served; use one of: {sizes}")
        if settings.size_px == catalogue.sizes_px[0]:
            settings = replace(settings, size_px=None)
        if settings.steps == spec.steps:
            settings = replace(settings, steps=None)
        wanted = "none" if settings.side == "baseline" or settings.head is None else settings.head
        head = catalogue.head(None if wanted == "default" else wanted, to="generate")
        if head is None and (settings.strength != 1 or settings.gating):
            raise UsageError("strength and gates are a head's, and none is used; leave them out, or name a head")
        if head is not None:
            _check_strength(settings.strength, head)
        return replace(settings, head=head.name if head else None), head

    async def _one(self, settings: Hashable, item: Any, finish: Callable[[Sample], Awaitable[Made]]) -> _Done:
        """One image, from waiting to a finished file."""
        with Wait(self.load) as wait:
            sample = await self._backend.run(settings, item, wait.end)
        self.load.made((sample.generator_seconds + sample.head_seconds) / sample.batch_images)
        return _Done(sample, await finish(sample), wait.seconds)

    async def cost(self, settings: GenerateSettings) -> Cost | None:
        """Computed TFLOP of one image with these settings; None where the networks' sizes are not known."""
        key = (settings.side, settings.head, settings.steps, settings.size_px)
        if key not in self._costs:
            self._costs[key] = await self._backend.cost(settings)
        return self._costs[key]

    async def _coded(self, function: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._coders, function)
        except MemoryError:
            raise DataError("the picture needs more memory than there is; make it smaller") from None


@dataclass(frozen=True, slots=True)
class _Done:
    sample: Sample
    made: Made
    queued_seconds: float


async def _all(works: Any) -> list[_Done]:
    """The results in order; the first error cancels the others."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _answer(
    done: Sequence[_Done],
    head: HeadFacts | None,
    settings: GenerateSettings | EnhanceSettings,
    steps: int | None,
    began: float,
    cost: Cost | None,
) -> Answer:
    samples = [each.sample for each in done]
    seconds = Seconds(
        queued=max(each.queued_seconds for each in done),
        generator=max(each.generator_seconds for each in samples),
        head=max(each.head_seconds for each in samples),
        total=time.perf_counter() - began,
    )
    batch = max(each.batch_images for each in samples)
    return Answer(tuple(each.made for each in done), head, settings, steps, batch, seconds, cost)


def _check_strength(strength: float, head: HeadFacts) -> None:
    if not 0 <= strength <= MAX_STRENGTH:
        raise UsageError(f"strength is {strength:g}; give a number from 0 (no change) to {MAX_STRENGTH:g}")
    if strength != 1 and not head.has_strength:
        raise UsageError(f"the head {head.name} decodes latents and has no strength; leave strength at 1")
