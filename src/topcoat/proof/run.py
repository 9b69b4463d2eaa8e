"""`prove`: the main job, from prompts to a report that says what the head bought and at which price."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from topcoat.contact import contact_sheet
from topcoat.cost import BASELINE_STEPS_BESIDE, CostTable, Timing, hardware, pair_cost
from topcoat.errors import UsageError
from topcoat.features import load_feature_net
from topcoat.files import atomic_path, write_json
from topcoat.generators.base import Generator, ModelPair, check_request
from topcoat.generators.diffusers import load_pair
from topcoat.generators.presets import model_pair
from topcoat.heads.head import HeadProtocol
from topcoat.metrics.controls import ColourMatrix, UnsharpMask, fit_colour, fit_unsharp
from topcoat.metrics.embed import Embeddings, FeatureNetLike, embed
from topcoat.metrics.gap import GapClosed, extrapolated_gap, gap_closed
from topcoat.metrics.identity import cosine, different_subjects, identity, identity_pairs
from topcoat.metrics.paired import gradient_energy
from topcoat.metrics.record import FeatureRecord
from topcoat.pairs.manifest import pair_identity, versions
from topcoat.prompts import Prompt, as_prompts
from topcoat.proof.collect import FLOOR_SEED_OFFSET, Collected, Progress, collect
from topcoat.proof.record import CONTROLS, Distances, ExtrapolatedGap, PerImage, Proof, Saving, Share, Steps
from topcoat.proof.report import Evidence, write_report
from topcoat.proof.store import ShardStore, to_bytes, to_floats

BATCH_SIZE = 8
CALIBRATION_IMAGES = 32
"""Subjects that the controls are fitted on: the proof's own first ones, which favours the controls."""
SHEET_COLUMNS = 10
FEATURE_BATCH = 32


def prove(
    pair: ModelPair | str,
    head: HeadProtocol,
    prompts: Sequence[str | Prompt],
    seeds: Sequence[int],
    *,
    output: str | Path,
    on_progress: Progress | None = None,
    batch_size: int = BATCH_SIZE,
    cache: str | Path | None = None,
    generators: tuple[Generator, Generator] | None = None,
    features: FeatureNetLike | None = None,
) -> Proof:
    """Run prompts and seeds through distilled, distilled + head, the controls and the baseline, and measure.

    For an honest proof, prompts *and* seeds must be held out: neither seen when the head was trained. Every image is
    judged as an 8-bit file holds it. ``on_progress(done, total, stage)`` counts images; ``cache`` is a folder in which
    painted batches are kept, so that a proof that was stopped goes on; ``generators`` (distilled, baseline) and
    ``features`` replace what would be loaded.

    Writes ``report.json``, ``report.html``, ``contact.png`` and ``subjects.json`` into ``output``. Raises `UsageError`
    for a request that cannot be, `ModelError` for a model that cannot be had, counted or run.
    """
    pair = model_pair(pair) if isinstance(pair, str) else pair
    texts, numbers = check_request([prompt.text for prompt in as_prompts(prompts)], seeds)
    if len(texts) < 2:
        raise UsageError("a proof needs 2 or more prompts (64 or more to say anything); give more")
    if batch_size < 1:
        raise UsageError(f"batch size {batch_size} is not possible; use 1 or more")
    table = pair_cost(pair, head)  # first: it takes seconds, and what cannot be counted should fail before the hours
    net = load_feature_net("eval") if features is None else features
    distilled, baseline = generators or load_pair(pair)
    images = collect(
        distilled,
        baseline,
        head,
        texts,
        numbers,
        batch_size=min(batch_size, len(texts)),
        store=ShardStore(None if cache is None else Path(cache)),
        on_progress=on_progress,
    )
    judged = judge(images, net)
    net_name = "eval" if features is None else "custom"
    proof = _proof(pair, head, images, judged, table, net, net_name, texts, numbers, min(batch_size, len(texts)))
    _write(Path(output), proof, images, judged, pair, texts, numbers)
    return proof


@dataclass(frozen=True, slots=True)
class Judged:
    """Everything that is measured on images."""

    unsharp: UnsharpMask
    colour: ColourMatrix
    features: dict[str, Embeddings]
    gap: GapClosed
    gap_by: dict[str, GapClosed]
    """The same with a control in place of the head: ``unsharp`` and ``colour``."""
    extrapolated: GapClosed | None
    """The gap extrapolated to endless subjects; None for fewer than twice as many as the features have dimensions."""
    extrapolated_by: dict[str, GapClosed]
    """The same with a control in place of the head; empty where there is no extrapolation."""
    gradient_energy: dict[str, float]
    seconds: float


def judge(images: Collected, net: FeatureNetLike) -> Judged:
    """Fit the controls, embed all sets and measure distances."""
    start = time.perf_counter()
    few = slice(0, CALIBRATION_IMAGES)
    calibration = to_floats(images.distilled[few]), to_floats(images.baseline[few])
    unsharp, colour = fit_unsharp(*calibration), fit_colour(*calibration)
    sets = {
        "distilled": images.distilled,
        "enhanced": images.enhanced,
        "unsharp": _controlled(unsharp, images.distilled),
        "colour": _controlled(colour, images.distilled),
        "baseline": images.baseline,
        "floor": images.floor,
    }
    found = {name: embed(map(to_floats, one.split(FEATURE_BATCH)), net, FEATURE_BATCH) for name, one in sets.items()}
    energy = {
        name: float(torch.cat([gradient_energy(to_floats(part)) for part in one.split(FEATURE_BATCH)]).mean())
        for name, one in sets.items()
    }
    x, y, floor = (found[name].embedding for name in ("distilled", "baseline", "floor"))
    gap = gap_closed(x, found["enhanced"].embedding, y, floor)
    gap_by = {name: gap_closed(x, found[name].embedding, y, floor) for name in CONTROLS}
    endless: dict[str, GapClosed] = {}
    if len(y) >= 2 * y.shape[1]:
        endless = {name: extrapolated_gap(x, found[name].embedding, y, floor) for name in ("enhanced", *CONTROLS)}
    extrapolated = endless.pop("enhanced", None)
    return Judged(unsharp, colour, found, gap, gap_by, extrapolated, endless, energy, time.perf_counter() - start)


def _controlled(control: UnsharpMask | ColourMatrix, images: Tensor) -> Tensor:
    """A control's version of ``images``, uint8 in and out."""
    return torch.cat([to_bytes(control(to_floats(part))) for part in images.split(FEATURE_BATCH)])


def _proof(
    pair: ModelPair,
    head: HeadProtocol,
    images: Collected,
    judged: Judged,
    table: CostTable,
    net: FeatureNetLike,
    net_name: str,
    prompts: list[str],
    seeds: list[int],
    batch_size: int,
) -> Proof:
    gap, timing = judged.gap, images.seconds
    given = timing.get("distilled_latents", timing["distilled"])
    bare, of_head, slow = (timing[name].median_seconds for name in ("distilled", "head", "baseline"))
    ours = given.median_seconds + of_head
    seconds = PerImage(bare, of_head, slow, ours)
    x, z, y = (judged.features[name].identity for name in ("distilled", "enhanced", "baseline"))
    return Proof(
        pair=pair.name,
        n=len(prompts),
        steps=Steps(pair.distilled.steps, pair.baseline.steps),
        frechet=Distances(
            distilled=gap.distilled.value,
            enhanced=gap.enhanced.value,
            unsharp=judged.gap_by["unsharp"].enhanced.value,
            colour=judged.gap_by["colour"].enhanced.value,
            baseline_floor=gap.floor.value,
        ),
        gap_closed=Share(gap.value, gap.low, gap.high),
        gap_extrapolated=_extrapolated(judged.extrapolated),
        identity=identity(x, z),
        identity_pairs=identity_pairs(x, y),
        seconds_per_image=seconds,
        tflop_per_image=PerImage(table.distilled.tflop, table.head_tflop, table.baseline.tflop, table.enhanced.tflop),
        saving=Saving(table.saving(), 1 - ours / seconds.baseline),
        saving_at_28_steps=Saving(
            table.saving(BASELINE_STEPS_BESIDE), 1 - ours / timing["baseline_beside"].median_seconds
        ),
        hardware=hardware().as_dict(),
        features=FeatureRecord(net_name, net.digest, judged.features["baseline"].embedding.shape[1]),
        versions=versions(),
        settings=_settings(pair, head, images, judged, table, prompts, seeds, batch_size),
    )


def _settings(
    pair: ModelPair,
    head: HeadProtocol,
    images: Collected,
    judged: Judged,
    table: CostTable,
    prompts: list[str],
    seeds: list[int],
    batch_size: int,
) -> dict[str, Any]:
    """What repeats the proof, and the figures beside the main ones."""
    gap = judged.gap
    beside = next(cost for cost in table.baseline_at if cost.steps == BASELINE_STEPS_BESIDE)
    unsharp, colour = judged.gap_by["unsharp"], judged.gap_by["colour"]
    return {
        "width_px": table.width_px,
        "height_px": table.height_px,
        "batch_size": batch_size,
        "subjects_sha256": hashlib.sha256(json.dumps([prompts, seeds]).encode()).hexdigest(),
        "seeds": {"first": seeds[0], "last": seeds[-1], "floor_offset": FLOOR_SEED_OFFSET},
        "models": pair_identity(pair),  # free of this machine's paths
        "head_digest": head.digest,
        "control": dataclasses.asdict(judged.unsharp),
        "colour_control": dataclasses.asdict(judged.colour),
        "gap_closed_by_unsharp": _share(unsharp),
        "gap_closed_by_colour": _share(colour),
        "gap_extrapolated_by": {name: _share(found) for name, found in judged.extrapolated_by.items()},
        "gap_in_floors": gap.gap_in_floors,
        "frechet_intervals": {
            "distilled": _ends(gap.distilled.low, gap.distilled.high),
            "enhanced": _ends(gap.enhanced.low, gap.enhanced.high),
            "unsharp": _ends(unsharp.enhanced.low, unsharp.enhanced.high),
            "colour": _ends(colour.enhanced.low, colour.enhanced.high),
            "baseline_floor": _ends(gap.floor.low, gap.floor.high),
        },
        "gradient_energy": judged.gradient_energy,
        "seconds_spread": {name: _spread(timing) for name, timing in images.seconds.items()},
        "baseline_at_28_steps": {
            "seconds": images.seconds["baseline_beside"].median_seconds,
            "tflop": beside.tflop,
        },
        "stage_seconds": images.stage_seconds | {"evaluation": judged.seconds},
        "cost": table.as_dict(),
    }


def _extrapolated(gap: GapClosed | None) -> ExtrapolatedGap | None:
    if gap is None:
        return None
    share = Share(gap.value, gap.low, gap.high)
    return ExtrapolatedGap(share, gap.distilled.value, gap.enhanced.value, gap.floor.value)


def _share(gap: GapClosed) -> dict[str, float | None]:
    return {"value": gap.value, "low": gap.low, "high": gap.high}


def _ends(low: float, high: float) -> dict[str, float]:
    return {"low": low, "high": high}


def _spread(timing: Timing) -> dict[str, float | int]:
    return {"low": timing.low, "high": timing.high, "batches": timing.runs}


def _write(
    output: Path,
    proof: Proof,
    images: Collected,
    judged: Judged,
    pair: ModelPair,
    prompts: list[str],
    seeds: list[int],
) -> None:
    subjects = [{"prompt": prompt, "seed": seed} for prompt, seed in zip(prompts, seeds, strict=True)]
    write_json(output / "subjects.json", subjects)
    shown = slice(0, SHEET_COLUMNS)
    labelled = (("distilled", images.distilled), ("+ head", images.enhanced), ("baseline", images.baseline))
    rows = [(label, to_floats(one[shown])) for label, one in labelled]
    scale = 2 if proof.settings["width_px"] <= 256 else 1
    with atomic_path(output / "contact.png") as temporary:
        contact_sheet(rows, scale=scale).save(temporary, "PNG")
    x, z, y = (judged.features[name].identity for name in ("distilled", "enhanced", "baseline"))
    evidence = Evidence(
        distilled=images.distilled,
        enhanced=images.enhanced,
        baseline=images.baseline,
        prompts=prompts,
        seeds=seeds,
        kept=cosine(x, z),
        same=cosine(x, y),
        different=different_subjects(x, y),
        licences=(pair.distilled.licence, pair.baseline.licence),
    )
    write_report(output / "report.html", proof, evidence)
    write_json(output / "report.json", proof.as_dict())
