"""Comparisons of arms: `run_benchmark`, the main job, and `sweep`, many arms; both with controls and noise floor."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from topcoat.benchmark.arms import Arm, Subjects, own_arms
from topcoat.benchmark.record import (
    BASELINE,
    COLOUR,
    CONTROLS,
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
from topcoat.benchmark.scores import cost_scores, energy_score, feature_scores, ordered, time_scores
from topcoat.benchmark.store import Store, to_floats
from topcoat.cost.flops import EXTRA_STEPS
from topcoat.errors import UsageError
from topcoat.features import domain_flags, open_net
from topcoat.generators.base import Generator, ModelPair
from topcoat.generators.callables import open_pair
from topcoat.generators.presets import model_pair
from topcoat.heads.head import Head
from topcoat.metrics.controls import fit_colour, fit_unsharp
from topcoat.metrics.embed import FeatureNetLike
from topcoat.metrics.evaluation import FeatureRecord
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
    features: str | FeatureNetLike = "embedded",
    identity: str | None = None,
) -> BenchmarkResult:
    """Compare distilled + head with both models, two controls and the noise floor.

    For an honest result, prompts *and* seeds must be held out: neither seen when the head was trained. Every image is
    measured as an 8-bit file holds it. ``on_progress(done, total, arm)`` counts images; ``cache`` is a folder in which
    generated batches are kept, so that a stopped run goes on (without one they stay in memory); ``generators``
    (distilled, baseline) replace what would be loaded; ``features`` and ``identity`` are as for
    `topcoat.metrics.evaluate.evaluate`.

    Raises `UsageError` for an impossible request, `ModelError` for a model that cannot be loaded, counted or run.
    """
    pair = model_pair(pair) if isinstance(pair, str) else pair
    distilled, baseline, _ = own_arms(pair)
    arms = {DISTILLED: distilled, ENHANCED: dataclasses.replace(distilled, head=HEAD), BASELINE: baseline}
    heads, subjects = {HEAD: head}, Subjects.of(prompts, seeds, what="a benchmark")
    return _compare("demo", pair, heads, arms, subjects, cache, batch_size, generators, features, identity, on_progress)


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
    features: str | FeatureNetLike = "embedded",
    identity: str | None = None,
    on_progress: Progress | None = None,
) -> BenchmarkResult:
    """Measure every arm, both models at their own step counts, the controls and the noise floor.

    ``heads`` maps the names used in ``arms`` to heads. Everything else, errors included, is as for `run_benchmark`; an
    unknown head name is a `UsageError` too.
    """
    subjects = Subjects.of(prompts, seeds, what="a frontier")
    unknown = sorted({arm.head for arm in arms if arm.head is not None} - set(heads))
    if unknown:
        given = ", ".join(heads) or "none"
        raise UsageError(f"an arm names a head that was not given: {unknown[0]}; given: {given}")
    distilled, baseline, _ = own_arms(pair)
    every = {arm.label: arm for arm in (*arms, baseline, distilled)}
    return _compare(
        "frontier", pair, heads, every, subjects, cache, batch_size, generators, features, identity, on_progress
    )


def flagged(net: FeatureNetLike, pair: ModelPair) -> list[str]:
    """A note where the net was not made for the pair's images."""
    return [f"Feature net out of its domain: {flag}." for flag in domain_flags(net, pair.name)]


def _compare(
    kind: Kind,
    pair: ModelPair,
    heads: Mapping[str, Head],
    arms: Mapping[str, Arm],
    subjects: Subjects,
    cache: str | Path | None,
    batch_size: int,
    generators: tuple[Generator, Generator] | None,
    features: str | FeatureNetLike,
    identity: str | None,
    on_progress: Progress | None,
) -> BenchmarkResult:
    """Measure ``arms``, among which must be both models at their own step counts.

    A demo holds pictures of them, and times the baseline at `EXTRA_STEPS` too, on a few batches.
    """
    demo = kind == "demo"
    distilled, baseline, floor = own_arms(pair)
    controls = {name: dataclasses.replace(distilled, head=name) for name in CONTROLS}
    timed_only = {EXTRA: Arm("baseline", EXTRA_STEPS)} if demo and baseline.steps != EXTRA_STEPS else {}
    timed = {**arms, **timed_only}
    costs = cost_scores(pair, timed, heads)  # first: what cannot be counted should fail before the hours
    net, net_name = open_net(features, identity)
    models = generators or open_pair(pair)
    work = Benchmark(
        {"distilled": models[0], "baseline": models[1]}, heads, subjects, store=Store(cache), batch_size=batch_size
    )
    measured, seconds = work.measure(
        [*arms.values(), floor], net, timed_only=list(timed_only.values()), on_progress=on_progress
    )
    few = [to_floats(work.first(arm, CALIBRATION_IMAGES)) for arm in (distilled, baseline)]
    unsharp, colour = fit_unsharp(*few), fit_colour(*few)
    work.add_control(UNSHARP, unsharp)
    work.add_control(COLOUR, colour)
    measured |= work.measure(list(controls.values()), net)[0]

    sets = {"distilled": distilled, "reference": baseline, "floor": floor}
    references = {name: measured[arm].embeddings for name, arm in sets.items()}
    of_references = {"floor": FLOOR, "reference": next(name for name, arm in arms.items() if arm == baseline)}
    scores = feature_scores(net, net_name, {**references, "enhanced": references["reference"]}, of_references)
    scores = [one for one in scores if one.arm == FLOOR or "mismatched" in one.metric]
    for name, arm in (compared := {**arms, **controls}).items():
        scores += feature_scores(
            net, net_name, {**references, "enhanced": measured[arm].embeddings}, {"enhanced": name}
        )
    scores += [energy_score(name, measured[arm]) for name, arm in {**compared, FLOOR: floor}.items()]
    scores += [*costs, *time_scores(pair, timed, {name: seconds[arm] for name, arm in timed.items()})]
    every = {**compared, FLOOR: floor, **timed_only}
    x, y = references["distilled"].identity, references["reference"].identity
    cosines = {"different subjects": different_subjects(x, y), "same subject, distilled to baseline": cosine(x, y)}
    if demo:
        cosines["head's input to output"] = cosine(x, measured[arms[ENHANCED]].embeddings.identity)
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
            *flagged(net, pair),
            f"The unsharp mask (amount {unsharp.amount:.2f}, sigma {unsharp.sigma_px:g} px) is fitted to the baseline's"
            f" gradient energy, the colour matrix (one affine map of RGB for all images) to its colours, on the first "
            f"{unsharp.calibration_images} of these subjects: in the controls' favour.",
        ),
        settings={
            **common_settings(
                pair, subjects, FeatureRecord(net_name, net.digest, references["floor"].dimensions), work.batch_size
            ),
            "controls": {UNSHARP: dataclasses.asdict(unsharp), COLOUR: dataclasses.asdict(colour)},
        },
        evidence=Evidence(
            {name: work.first(arm, SHOWN) for name, arm in arms.items()} if demo else {},
            subjects,
            (pair.distilled.licence, pair.baseline.licence),
            cosines,
        ),
    )
