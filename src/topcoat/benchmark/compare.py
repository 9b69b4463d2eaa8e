"""Comparisons of arms: `run_benchmark`, the main job, and `sweep`, many arms; both with controls and noise floor."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from topcoat.benchmark.arms import Arm, Subjects
from topcoat.benchmark.record import (
    BASELINE,
    COLOUR,
    DISTILLED,
    ENHANCED,
    EXTRA,
    FLOOR,
    UNSHARP,
    BenchmarkResult,
    Evidence,
    Kind,
    common_settings,
)
from topcoat.benchmark.run import BATCH_SIZE, Benchmark, Progress
from topcoat.benchmark.scores import References, cost_scores, energy_score, ordered, time_scores
from topcoat.benchmark.store import Store, to_floats
from topcoat.cost.flops import EXTRA_STEPS
from topcoat.errors import UsageError
from topcoat.features import load_feature_net
from topcoat.generators.base import Generator, ModelPair
from topcoat.generators.diffusers import load_pair
from topcoat.generators.presets import model_pair
from topcoat.heads.head import Head
from topcoat.metrics.controls import fit_colour, fit_unsharp
from topcoat.metrics.embed import FeatureNetLike
from topcoat.metrics.identity import cosine, different_subjects
from topcoat.prompts import Prompt

HEAD = "head"
"""The name of the head of `run_benchmark`."""
CALIBRATION_IMAGES = 32
"""Subjects that the controls are fitted on: the benchmark's own first ones, which favours the controls."""
SHOWN = 12
"""Subjects of which a result holds pictures: the first ones, never picked."""


def run_benchmark(
    pair: ModelPair | str,
    head: Head,
    prompts: Sequence[str | Prompt],
    seeds: Sequence[int],
    *,
    on_progress: Progress | None = None,
    batch_size: int = BATCH_SIZE,
    cache: str | Path | None = None,
    generators: tuple[Generator, Generator] | None = None,
    features: FeatureNetLike | None = None,
) -> BenchmarkResult:
    """Compare distilled + head with both models, two controls and the noise floor.

    For an honest result, prompts *and* seeds must be held out: neither seen when the head was trained. Every image is
    measured as an 8-bit file holds it. ``on_progress(done, total, arm)`` counts images; ``cache`` is a folder in which
    generated batches are kept, so that a stopped run goes on (without one they stay in memory); ``generators``
    (distilled, baseline) and ``features`` replace what would be loaded.

    Raises `UsageError` for an impossible request, `ModelError` for a model that cannot be loaded, counted or run.
    """
    pair = model_pair(pair) if isinstance(pair, str) else pair
    fast, slow = pair.distilled.steps, pair.baseline.steps
    return _compare(
        "demo",
        pair,
        {HEAD: head},
        {
            DISTILLED: Arm("distilled", fast),
            ENHANCED: Arm("distilled", fast, HEAD),
            BASELINE: Arm("baseline", slow),
        },
        Subjects.of(prompts, seeds, what="a benchmark"),
        timed_only=None if slow == EXTRA_STEPS else {EXTRA: Arm("baseline", EXTRA_STEPS)},
        shown=(DISTILLED, ENHANCED, BASELINE),
        cache=cache,
        batch_size=batch_size,
        generators=generators,
        features=features,
        on_progress=on_progress,
    )


def sweep(
    pair: ModelPair,
    heads: Mapping[str, Head],
    arms: Sequence[Arm],
    prompts: Sequence[str | Prompt],
    seeds: Sequence[int],
    *,
    cache: str | Path | None = None,
    batch_size: int = BATCH_SIZE,
    generators: tuple[Generator, Generator] | None = None,
    features: FeatureNetLike | None = None,
    on_progress: Progress | None = None,
) -> BenchmarkResult:
    """Measure every arm on the same prompts and seeds, which no head may have been trained on.

    Both models at their own step counts and the noise floor are measured too. ``heads`` maps the names used in ``arms``
    to heads. ``cache`` is a folder in which generated batches are kept; ``generators`` (distilled, baseline) and
    ``features`` replace what would be loaded.

    Raises `UsageError` for an impossible request (an unknown head name, fewer than 2 subjects), `ModelError` for a
    model that cannot be loaded, counted or run.
    """
    subjects = Subjects.of(prompts, seeds, what="a frontier")
    unknown = sorted({arm.head for arm in arms if arm.head is not None} - set(heads))
    if unknown:
        given = ", ".join(heads) or "none"
        raise UsageError(f"an arm names a head that was not given: {unknown[0]}; given: {given}")
    own = Arm("baseline", pair.baseline.steps), Arm("distilled", pair.distilled.steps)
    return _compare(
        "frontier",
        pair,
        heads,
        {arm.label: arm for arm in (*arms, *own)},
        subjects,
        cache=cache,
        batch_size=batch_size,
        generators=generators,
        features=features,
        on_progress=on_progress,
    )


def _compare(
    kind: Kind,
    pair: ModelPair,
    heads: Mapping[str, Head],
    arms: Mapping[str, Arm],
    subjects: Subjects,
    *,
    timed_only: Mapping[str, Arm] | None = None,
    shown: Sequence[str] = (),
    cache: str | Path | None = None,
    batch_size: int = BATCH_SIZE,
    generators: tuple[Generator, Generator] | None = None,
    features: FeatureNetLike | None = None,
    on_progress: Progress | None = None,
) -> BenchmarkResult:
    """Measure ``arms``, among which must be both models at their own step counts, and whose heads are in ``heads``.

    ``timed_only`` are arms that are only timed, on a few batches. ``shown`` names the arms whose pictures the result
    holds. The other arguments are those of `run_benchmark`, which says what is raised.
    """
    distilled, baseline = Arm("distilled", pair.distilled.steps), Arm("baseline", pair.baseline.steps)
    floor = dataclasses.replace(baseline, other_seeds=True)
    controls = {name: dataclasses.replace(distilled, head=name) for name in (UNSHARP, COLOUR)}
    timed = {**arms, **(timed_only or {})}
    costs = cost_scores(pair, timed, heads)  # first: what cannot be counted should fail before the hours
    net = load_feature_net("eval") if features is None else features
    models = load_pair(pair) if generators is None else generators
    work = Benchmark(
        {"distilled": models[0], "baseline": models[1]}, heads, subjects, store=Store(cache), batch_size=batch_size
    )
    measured, seconds = work.measure(
        [*arms.values(), floor], net, timed_only=list((timed_only or {}).values()), on_progress=on_progress
    )
    few = [to_floats(work.first(arm, CALIBRATION_IMAGES)) for arm in (distilled, baseline)]
    unsharp, colour = fit_unsharp(*few), fit_colour(*few)
    work.add_control(UNSHARP, unsharp)
    work.add_control(COLOUR, colour)
    measured |= work.measure(list(controls.values()), net)[0]

    x, y, y2 = (measured[arm].embeddings for arm in (distilled, baseline, floor))
    references = References(x, y, y2, net, "eval" if features is None else "custom")
    names = {arm: name for name, arm in arms.items()}
    scores = [*costs, *time_scores(pair, timed, {name: seconds[arm] for name, arm in timed.items()})]
    scores += references.of_references(names[baseline], FLOOR)
    for name, arm in (*arms.items(), *controls.items()):
        scores += references.of_arm(name, measured[arm].embeddings)
    scores += [energy_score(name, measured[arm]) for name, arm in (*arms.items(), *controls.items(), (FLOOR, floor))]
    every = {**arms, **controls, FLOOR: floor, **(timed_only or {})}
    cosines = {"different subjects": different_subjects(x.identity, y.identity)}
    cosines["same subject, distilled to baseline"] = cosine(x.identity, y.identity)
    for name in shown:
        if arms[name].head is not None:
            cosines["head's input to output"] = cosine(x.identity, measured[arms[name]].embeddings.identity)
    return BenchmarkResult(
        kind=kind,
        pair=pair.name,
        n=len(subjects),
        width_px=pair.distilled.width_px,
        height_px=pair.distilled.height_px,
        arms=every,
        heads={name: {"digest": head.digest, "input": head.input} for name, head in heads.items()},
        scores=ordered(scores, list(every)),
        notes=(
            f"The unsharp mask (amount {unsharp.amount:.2f}, sigma {unsharp.sigma_px:g} px) is fitted to the baseline's"
            f" gradient energy, the colour matrix (one affine map of RGB for all images) to its colours, on the first "
            f"{unsharp.calibration_images} of these subjects: in the controls' favour.",
        ),
        settings={
            **common_settings(pair, subjects, references.features, work.batch_size),
            "controls": {UNSHARP: dataclasses.asdict(unsharp), COLOUR: dataclasses.asdict(colour)},
        },
        evidence=Evidence(
            {name: work.first(arms[name], SHOWN) for name in shown},
            subjects,
            (pair.distilled.licence, pair.baseline.licence),
            cosines,
        ),
    )
