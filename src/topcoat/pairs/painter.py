"""Painting a batch of pairs: every column, with a retry of what fails, smaller lots where memory ends, and filters."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from topcoat.errors import ModelError, UsageError
from topcoat.generators.base import Generator, Img2ImgGenerator, LatentGenerator, check_strength
from topcoat.images import check_images, encode_png, to_pil
from topcoat.pairs.manifest import Dropped, Failure
from topcoat.pairs.painting import Painting
from topcoat.pairs.records import BASELINE_LATENTS, PairRecord, distilled_column, latents_column

if TYPE_CHECKING:
    from topcoat.pairs.filters import PairFilter

Columns = dict[str, Tensor]
"""What is painted of one record, by column: an image ``(3, H, W)`` in [0, 1], or latents ``(C, h, w)``."""
_Stage = Callable[[Sequence[PairRecord]], list[Columns]]


@dataclass(frozen=True, slots=True)
class Painted:
    """One pair, painted and kept: images as an 8-bit file holds them, float16 latents, both by column."""

    images: Mapping[str, Image.Image]
    """Pillow's, because a thread that encodes must not compute with torch: each such thread would start a team of
    threads of its own, which take the processors from the networks."""
    latents: Mapping[str, np.ndarray]

    def encoded(self) -> dict[str, bytes]:
        """PNG file bytes by image column."""
        return {name: encode_png(image) for name, image in self.images.items()}


Outcome = Painted | Failure | Dropped
"""What becomes of a planned pair."""


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Why a stage gave nothing; ``memory`` where it was for want of it."""

    reason: str
    memory: bool


class Painter:
    """Both loaded models and what they are to paint; remembers how many images fit into memory."""

    def __init__(
        self,
        generators: tuple[Generator, Generator],
        painting: Painting,
        filters: Sequence[PairFilter] = (),
    ) -> None:
        """For ``(distilled, baseline)``; raises `UsageError` if one of them cannot do what ``painting`` asks."""
        self._distilled, self._baseline = generators
        self._painting = painting
        self._filters = tuple(filters)
        self._limit: int | None = None
        for kept, generator in ((painting.latents, self._distilled), (painting.baseline_latents, self._baseline)):
            if kept and not isinstance(generator, LatentGenerator):
                raise UsageError(f"{generator.spec.name} gives no latents; build without keeping its latents")
        if painting.pairing == "rerender":
            if not isinstance(self._baseline, Img2ImgGenerator):
                raise UsageError(f"{self._baseline.spec.name} cannot re-render an image; use the pairing same-seed")
            check_strength(painting.strength or 0.0, self._baseline.spec.steps)

    @property
    def columns(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The image columns and the latents columns of a shard."""
        spec = self._distilled.spec
        return self._painting.image_columns(spec), self._painting.latents_columns(spec)

    def paint(self, batch: Sequence[PairRecord], missing: Collection[str]) -> dict[str, Outcome]:
        """What becomes of each ``missing`` id of ``batch``; nothing is painted if none is missing.

        The batch is painted whole even where some of it is not missing: a network's rounding depends on the shape of
        the batch, and so an image does not depend on what was there already. A batch that fails is painted one by one,
        each image once more; one that is too large for the memory is halved, and so are all after it.

        Raises `ModelError` if a filter fails.
        """
        if not missing:
            return {}
        found: dict[str, Columns] = {record.id: {} for record in batch}
        reasons: dict[str, str] = {}
        for steps in (None, *self._painting.extra_steps(self._distilled.spec)):
            self._run(self._distilled_stage(steps), batch, missing, found, reasons)
        if self._painting.pairing == "same-seed":
            self._run(self._baseline_stage, batch, missing, found, reasons)
        else:
            ready = [record for record in batch if "distilled" in found[record.id]]
            self._run(self._rerender_stage(found), ready, missing, found, reasons)
        wanted = [record for record in batch if record.id in missing]
        outcomes: dict[str, Outcome] = {
            record.id: Failure(id=record.id, prompt=record.prompt, seed=record.seed, error=reasons[record.id])
            for record in wanted
            if record.id in reasons
        }
        painted = [record for record in wanted if record.id not in reasons]
        dropped = self._judge(painted, found)
        latents = self.columns[1]
        for record in painted:
            columns = found[record.id]
            outcomes[record.id] = dropped.get(record.id) or Painted(
                {name: to_pil(value) for name, value in columns.items() if name not in latents},
                {name: columns[name].numpy() for name in latents},
            )
        return outcomes

    def _run(
        self,
        stage: _Stage,
        batch: Sequence[PairRecord],
        missing: Collection[str],
        found: dict[str, Columns],
        reasons: dict[str, str],
    ) -> None:
        """Paint one stage of a batch into ``found``; what fails for good goes to ``reasons``."""
        start = 0
        while start < len(batch):
            lot = batch[start : start + (self._limit or len(batch))]
            rows = _attempt(stage, lot)
            if isinstance(rows, _Trouble) and rows.memory and len(lot) > 1:
                self._limit = len(lot) // 2
                _free_memory()
                continue
            start += len(lot)
            if not isinstance(rows, _Trouble):
                for record, row in zip(lot, rows, strict=True):
                    found[record.id] |= row
                continue
            for record in lot:
                if record.id not in missing:
                    continue
                alone = _attempt(stage, [record])
                if isinstance(alone, _Trouble):
                    reasons.setdefault(record.id, alone.reason)
                else:
                    found[record.id] |= alone[0]

    def _distilled_stage(self, steps: int | None) -> _Stage:
        column, latents_name, generator = distilled_column(steps), latents_column(steps), self._distilled

        def stage(records: Sequence[PairRecord]) -> list[Columns]:
            texts, seeds = _request(records)
            if not (self._painting.latents and isinstance(generator, LatentGenerator)):
                images = generator.generate(texts, seeds) if steps is None else _at(generator, texts, seeds, steps)
                return [{column: image} for image in self._checked(images, generator, records)]
            return self._with_latents(generator, records, steps, column, latents_name)

        return stage

    def _with_latents(
        self, generator: LatentGenerator, records: Sequence[PairRecord], steps: int | None, image: str, latents: str
    ) -> list[Columns]:
        """Both columns of what ``generator`` paints."""
        made = generator.generate_latents(*_request(records), steps=steps)
        halves = made.half()
        if not torch.isfinite(halves).all():
            raise ModelError(f"latents of {generator.spec.name} are not finite in float16; build without latents")
        images = self._checked(generator.decode(made), generator, records)
        return [{image: one, latents: half} for one, half in zip(images, halves, strict=True)]

    def _baseline_stage(self, records: Sequence[PairRecord]) -> list[Columns]:
        generator = self._baseline
        if self._painting.baseline_latents and isinstance(generator, LatentGenerator):
            return self._with_latents(generator, records, None, "baseline", BASELINE_LATENTS)
        images = generator.generate(*_request(records))
        return [{"baseline": image} for image in self._checked(images, generator, records)]

    def _rerender_stage(self, found: Mapping[str, Columns]) -> _Stage:
        """From the distilled images as their files hold them, so that anyone can do it again from the dataset."""
        generator, strength = self._baseline, self._painting.strength

        def stage(records: Sequence[PairRecord]) -> list[Columns]:
            assert isinstance(generator, Img2ImgGenerator) and strength is not None
            sources = torch.stack([found[record.id]["distilled"] for record in records])
            images = generator.img2img(sources, *_request(records), strength=strength)
            return [{"baseline": image} for image in self._checked(images, generator, records)]

        return stage

    def _checked(self, images: Tensor, generator: Generator, records: Sequence[PairRecord]) -> Tensor:
        """Images as 8-bit files hold them; raises if they are none, not finite, or not one for each record."""
        check_images(images, f"the images of {generator.spec.name}")
        if len(images) != len(records):
            raise ModelError(f"{generator.spec.name} made {len(images)} images of {len(records)} prompts")
        return images.detach().float().cpu().clamp(0, 1).mul(255).round().div(255)

    def _judge(self, records: Sequence[PairRecord], found: Mapping[str, Columns]) -> dict[str, Dropped]:
        """The records that a filter drops, each by the first filter that does."""
        dropped: dict[str, Dropped] = {}
        for chosen in self._filters:
            left = [record for record in records if record.id not in dropped]
            if not left:
                break
            sides = (torch.stack([found[record.id][side] for record in left]) for side in ("distilled", "baseline"))
            try:
                verdicts = chosen.judge(*sides)
            except Exception as error:
                raise ModelError(
                    f"the filter {chosen.name} failed ({_words(error)}); mend it, or build without it"
                ) from error
            if len(verdicts) != len(left):
                raise ModelError(
                    f"the filter {chosen.name} gave {len(verdicts)} verdicts on {len(left)} pairs; give one for each"
                )
            for record, verdict in zip(left, verdicts, strict=True):
                if not verdict.keep:
                    dropped[record.id] = dropped_entry(record, chosen.name, verdict.reason, verdict.score)
        return dropped


def dropped_entry(record: PairRecord, filter_name: str, reason: str, score: float) -> Dropped:
    """The manifest's entry for a pair that ``filter_name`` dropped; JSON has no NaN, so such a score is left out."""
    return Dropped(
        id=record.id,
        prompt=record.prompt,
        seed=record.seed,
        filter=filter_name,
        reason=reason,
        score=float(score) if math.isfinite(score) else None,
    )


def _attempt(stage: _Stage, records: Sequence[PairRecord]) -> list[Columns] | _Trouble:
    """What a stage makes of all records together, or why it made nothing."""
    try:
        return stage(records)
    except Exception as error:  # whatever a model raises, the pairs around it must not be lost
        return _Trouble(_words(error), _is_memory(error))


def _is_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; the libraries have no common type for that."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "out of memory" in str(error).lower()


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _request(records: Sequence[PairRecord]) -> tuple[list[str], list[int]]:
    return [record.prompt for record in records], [record.seed for record in records]


def _at(generator: Generator, texts: list[str], seeds: list[int], steps: int) -> Tensor:
    return generator.generate(texts, seeds, steps=steps)
