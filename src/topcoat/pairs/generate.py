"""Generate the pairs of a shard, stage by stage: every column, a retry of what fails, smaller batches, and filters."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from topcoat.errors import ModelError, UsageError
from topcoat.generators.base import Generator, Img2ImgGenerator, LatentGenerator, StagedGenerator, check_strength
from topcoat.images import check_images, to_pil
from topcoat.memory import free_cached_memory, is_out_of_memory
from topcoat.pairs.manifest import Dropped, Failure
from topcoat.pairs.schema import BASELINE_LATENTS, PairingConfig, PairRecord, distilled_column, latents_column

if TYPE_CHECKING:
    from topcoat.pairs.filters import PairFilter

Columns = dict[str, Tensor]
"""What was generated of one record, by column: an image ``(3, H, W)`` in [0, 1], or latents ``(C, h, w)``."""
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class GeneratedPair:
    """One pair: images as an 8-bit file holds them, float16 latents, both by column."""

    images: Mapping[str, Image.Image]
    """Pillow's, because a thread that encodes must not compute with torch: each such thread would start a team of
    threads of its own, which take the processors from the networks."""
    latents: Mapping[str, np.ndarray]


Outcome = GeneratedPair | Failure | Dropped
"""What becomes of a planned pair."""


@dataclass(frozen=True, slots=True)
class _Failed:
    """Why nothing was generated. An exception would keep the tensors of its frames in memory."""

    reason: str
    out_of_memory: bool


@dataclass(frozen=True, slots=True)
class _Run:
    """One generation of every pair from its noise, and the columns that it fills."""

    generator: Generator
    steps: int | None
    image: str
    latents: str | None

    @property
    def cost(self) -> int:
        """Steps for each pair: what a run takes, next to the others."""
        return self.steps or self.generator.spec.steps


def _check_one_space(distilled: Generator, baseline: Generator) -> None:
    """Raise `UsageError` where the latents of two generators are those of two VAEs, which cannot be compared."""
    one, other = (getattr(generator, "latent_space", None) for generator in (distilled, baseline))
    if one is None or other is None:
        return
    normalised = (one["normalisation"], other["normalisation"])
    if one["channels"] != other["channels"] or (None not in normalised and normalised[0] != normalised[1]):
        raise UsageError(
            f"{distilled.spec.name} and {baseline.spec.name} have two VAEs ({one['channels']} and {other['channels']} "
            "channels), whose latents cannot be compared; build without --baseline-latents: heads of images, and heads "
            "that decode the distilled latents, need none"
        )


class PairGenerator:
    """Both loaded models and how they are paired; remembers how many images fit into memory."""

    def __init__(
        self, generators: tuple[Generator, Generator], pairing: PairingConfig, filters: Sequence[PairFilter] = ()
    ) -> None:
        """For ``(distilled, baseline)``; raises `UsageError` if one of them cannot do what ``pairing`` asks."""
        self._distilled, self._baseline = generators
        self.pairing = pairing
        self._filters = tuple(filters)
        self._limits: dict[str, int] = {}
        for wanted, generator in ((pairing.latents, self._distilled), (pairing.baseline_latents, self._baseline)):
            if wanted and not isinstance(generator, LatentGenerator):
                raise UsageError(f"{generator.spec.name} gives no latents; build without keeping its latents")
        if pairing.latents and pairing.baseline_latents:
            _check_one_space(self._distilled, self._baseline)
        if pairing.method == "img2img":
            if not isinstance(self._baseline, Img2ImgGenerator):
                raise UsageError(f"{self._baseline.spec.name} cannot do image-to-image; use the pairing same-seed")
            check_strength(pairing.strength or 0.0, self._baseline.spec.steps)
        self._runs = [
            _Run(self._distilled, steps, distilled_column(steps), latents_column(steps) if pairing.latents else None)
            for steps in (None, *pairing.distilled_steps)
        ]
        if pairing.method == "same-seed":
            latents = BASELINE_LATENTS if pairing.baseline_latents else None
            self._runs.append(_Run(self._baseline, None, "baseline", latents))

    def generate(
        self,
        batches: Sequence[Sequence[PairRecord]],
        missing: Collection[str],
        progress: Callable[[float], None] = lambda share: None,
    ) -> Iterator[dict[str, Outcome]]:
        """For each batch what becomes of its ``missing`` ids; nothing is generated for a batch that misses none.

        All batches pass through one stage before the next begins, so that the networks can take turns on the device:
        the texts are encoded, the distilled model denoises, then the baseline, and the images are decoded batch by
        batch as they are asked for. ``progress`` is told the share of the work that is done.

        A batch is generated whole even where some of it exists: a network's rounding depends on the shape of the
        batch, so only in this way an image does not depend on what existed before. A batch that fails is generated one
        by one, each image once more; one that is too large for the memory is halved, and so are all after it.

        Raises `ModelError` if a filter fails.
        """
        work = [batch for batch in batches if any(record.id in missing for record in batch)]
        staged = [run for run in self._runs if isinstance(run.generator, StagedGenerator)]
        done, total = 0, sum(run.cost + 1 for run in self._runs) * len(work)
        made: dict[str, dict[str, Tensor | _Failed]] = {}
        try:
            self._encode_texts(work)
            for run in staged:
                made[run.image] = {}
                with _resident(run.generator):
                    for batch in work:
                        made[run.image] |= self._run("denoise", partial(_denoised, run), batch, missing)
                        done += run.cost
                        progress(done / total)
            left = (total - done) / max(1, len(work))
            for batch in batches:
                if not any(record.id in missing for record in batch):
                    yield {}
                    continue
                yield self._finished(batch, missing, made)
                done += left
                progress(min(1.0, done / total))
        finally:
            for generator in (self._distilled, self._baseline):
                if isinstance(generator, StagedGenerator):
                    generator.forget_texts()

    def _encode_texts(self, work: Sequence[Sequence[PairRecord]]) -> None:
        """Encode the texts of all batches once; where that fails, the denoiser's stage does it for smaller ones.

        The baseline comes first because it is the one with guidance: what it encodes serves both.
        """
        for generator in (self._baseline, self._distilled):
            if isinstance(generator, StagedGenerator):
                with _resident(generator):
                    for batch in work:
                        for part in _parts(batch, self._limits.get("denoise")):
                            if _attempt(partial(_encoded, generator), part) is not None:
                                free_cached_memory()

    def _finished(
        self, batch: Sequence[PairRecord], missing: Collection[str], made: Mapping[str, Mapping[str, Tensor | _Failed]]
    ) -> dict[str, Outcome]:
        """What becomes of the missing ids of one batch, whose latents are ``made`` by image column."""
        pairing = self.pairing
        columns: dict[str, Columns] = {record.id: {} for record in batch}
        reasons: dict[str, str] = {}

        def enter(results: Mapping[str, Columns | _Failed]) -> None:
            for name, result in results.items():
                if isinstance(result, _Failed):
                    reasons.setdefault(name, result.reason)
                else:
                    columns[name] |= result

        for run in self._runs:
            latents = made.get(run.image)
            if latents is None:
                enter(self._run("denoise", partial(_from_noise, run), batch, missing))
                continue
            for record in batch:
                failure = latents.get(record.id)
                if isinstance(failure, _Failed):
                    reasons.setdefault(record.id, failure.reason)
            ready = [record for record in batch if isinstance(latents.get(record.id), Tensor)]
            enter(self._run("decode", partial(_decoded, run, latents), ready, missing))
        if pairing.method == "img2img":
            ready = [record for record in batch if "distilled" in columns[record.id]]
            task = partial(_from_image, self._baseline, pairing.strength or 0.0, columns)
            enter(self._run("denoise", task, ready, missing))
        wanted = [record for record in batch if record.id in missing]
        failed: dict[str, Outcome] = {
            record.id: Failure(id=record.id, prompt=record.prompt, seed=record.seed, error=reasons[record.id])
            for record in wanted
            if record.id in reasons
        }
        complete = [record for record in wanted if record.id not in failed]
        dropped = self._filtered(complete, columns)
        return failed | {
            record.id: dropped.get(record.id)
            or GeneratedPair(
                {name: to_pil(columns[record.id][name]) for name in pairing.image_columns},
                {name: columns[record.id][name].numpy() for name in pairing.latents_columns},
            )
            for record in complete
        }

    def _run(
        self,
        stage: Literal["denoise", "decode"],
        task: Callable[[Sequence[PairRecord]], Sequence[Made]],
        batch: Sequence[PairRecord],
        missing: Collection[str],
    ) -> dict[str, Made | _Failed]:
        """What one task makes of each record of a batch, or why a missing one failed for good."""
        results: dict[str, Made | _Failed] = {}
        start = 0
        while start < len(batch):
            part = batch[start : start + self._limits.get(stage, len(batch))]
            rows = _attempt(task, part)
            if isinstance(rows, _Failed) and rows.out_of_memory and len(part) > 1:
                self._limits[stage] = len(part) // 2
                free_cached_memory()
                continue
            start += len(part)
            if not isinstance(rows, _Failed):
                results |= {record.id: row for record, row in zip(part, rows, strict=True)}
                continue
            for record in part:
                if record.id in missing:
                    alone = _attempt(task, [record])
                    results[record.id] = alone if isinstance(alone, _Failed) else alone[0]
        return results

    def _filtered(self, records: Sequence[PairRecord], columns: Mapping[str, Columns]) -> dict[str, Dropped]:
        """The records that a filter drops, each by the first filter that does."""
        dropped: dict[str, Dropped] = {}
        for chosen in self._filters:
            left = [record for record in records if record.id not in dropped]
            if not left:
                break
            sides = (torch.stack([columns[record.id][side] for record in left]) for side in ("distilled", "baseline"))
            try:
                results = chosen.check(*sides)
            except Exception as error:
                raise ModelError(
                    f"the filter {chosen.name} failed ({_reason(error)}); correct it, or build without it"
                ) from error
            if len(results) != len(left):
                raise ModelError(
                    f"the filter {chosen.name} gave {len(results)} results for {len(left)} pairs; give one for each"
                )
            for record, result in zip(left, results, strict=True):
                if not result.keep:
                    dropped[record.id] = dropped_entry(record, chosen.name, result.reason, result.score)
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


def _parts(batch: Sequence[PairRecord], limit: int | None) -> Iterator[Sequence[PairRecord]]:
    """A batch in parts of at most ``limit`` records."""
    for start in range(0, len(batch), limit or len(batch)):
        yield batch[start : start + (limit or len(batch))]


@contextmanager
def _resident(generator: Generator) -> Iterator[None]:
    with generator.resident() if isinstance(generator, StagedGenerator) else nullcontext():
        yield


def _encoded(generator: StagedGenerator, records: Sequence[PairRecord]) -> None:
    generator.encode_texts([record.prompt for record in records])


def _denoised(run: _Run, records: Sequence[PairRecord]) -> list[Tensor]:
    assert isinstance(run.generator, LatentGenerator)
    return list(run.generator.generate_latents(*_request(records), steps=run.steps))


def _decoded(run: _Run, made: Mapping[str, Tensor | _Failed], records: Sequence[PairRecord]) -> list[Columns]:
    return _columns(run, torch.stack([made[record.id] for record in records]), records)  # type: ignore[misc]


def _from_noise(run: _Run, records: Sequence[PairRecord]) -> list[Columns]:
    """The columns of a run whose generator has no stages."""
    if run.latents is not None:
        return _columns(run, torch.stack(_denoised(run, records)), records)
    images = run.generator.generate(*_request(records), steps=run.steps)
    return [{run.image: one} for one in _as_stored(images, run.generator, records)]


def _columns(run: _Run, made: Tensor, records: Sequence[PairRecord]) -> list[Columns]:
    """The image column of latents and, if wanted, theirs."""
    assert isinstance(run.generator, LatentGenerator)
    images = _as_stored(run.generator.decode(made), run.generator, records)
    if run.latents is None:
        return [{run.image: one} for one in images]
    halves = made.half()
    if not torch.isfinite(halves).all():
        raise ModelError(f"latents of {run.generator.spec.name} are not finite in float16; build without latents")
    return [{run.image: one, run.latents: half} for one, half in zip(images, halves, strict=True)]


def _from_image(
    generator: Generator, strength: float, columns: Mapping[str, Columns], records: Sequence[PairRecord]
) -> list[Columns]:
    """The baseline from the distilled images as their files hold them, so that it can be repeated from the dataset."""
    assert isinstance(generator, Img2ImgGenerator)
    sources = torch.stack([columns[record.id]["distilled"] for record in records])
    images = generator.img2img(sources, *_request(records), strength=strength)
    return [{"baseline": one} for one in _as_stored(images, generator, records)]


def _as_stored(images: Tensor, generator: Generator, records: Sequence[PairRecord]) -> Tensor:
    """Images as 8-bit files hold them; raises if they are none, not finite, or not one for each record."""
    check_images(images, f"the images of {generator.spec.name}")
    if len(images) != len(records):
        raise ModelError(f"{generator.spec.name} made {len(images)} images of {len(records)} prompts")
    return images.detach().float().cpu().clamp(0, 1).mul(255).round().div(255)


def _attempt(task: Callable[[Sequence[PairRecord]], Made], records: Sequence[PairRecord]) -> Made | _Failed:
    """What a task makes of all records together, or why it made nothing."""
    try:
        return task(records)
    except Exception as error:  # whatever a model raises, the pairs around it must not be lost
        return _Failed(_reason(error), is_out_of_memory(error))


def _reason(error: BaseException) -> str:
    return textwrap.shorten(str(error), 300, placeholder="...") or type(error).__name__


def _request(records: Sequence[PairRecord]) -> tuple[list[str], list[int]]:
    return [record.prompt for record in records], [record.seed for record in records]
