"""Every metric on fixed sets: through `evaluate` on small portraits, and by itself on seeded features and images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.oracles.golden import Golden, fields
from tests.oracles.inputs import dulled, eight_bits, portraits
from topcoat.features import ClipQuality, load_feature_net
from topcoat.metrics.artefacts import ArtefactMetric, Artefacts
from topcoat.metrics.base import Interval, mean_interval
from topcoat.metrics.c2st import two_sample
from topcoat.metrics.colour import colour_difference, patch_colours, skin_colour, skin_mask, to_lab, typology_angle
from topcoat.metrics.context import Context
from topcoat.metrics.controls import ColourMatrix, fit_colour, fit_unsharp
from topcoat.metrics.embed import ImageBatch, embed
from topcoat.metrics.evaluate import evaluate
from topcoat.metrics.evaluation import Evaluation, choose_examples
from topcoat.metrics.frechet import GaussianStatistics, frechet_distance, frechet_infinity
from topcoat.metrics.gap import GapClosed, gap_closed
from topcoat.metrics.groups import GroupGap, Groups, compare_groups, group_gaps, holm
from topcoat.metrics.identity import cosine, different_subjects, identity_thresholds
from topcoat.metrics.jpeg import gain, jpeg_round_trip
from topcoat.metrics.kernel import cmmd, kernel_distance
from topcoat.metrics.paired import gradient_agreement, gradient_energy, psnr, structural_similarities
from topcoat.metrics.prdc import density_coverage, precision_recall
from topcoat.metrics.spectrum import decibels, radial_spectrum

# Adapters: change these with the library, never the golden values.


class Brightness(ClipQuality):
    """Stands in for a net that rates quality."""

    def __init__(self) -> None:
        self.digest = "brightness"

    def __call__(self, images: Tensor, prompts: Sequence[str] = ()) -> Tensor:
        return images.mean(dim=(1, 2, 3))


def evaluated(sets: dict[str, Tensor], groups: list[dict[str, str]]) -> dict[str, Any]:
    """Everything but the two-sample test, which takes too long here and stands by itself below."""
    families = ("distances", "diversity", "paired", "identity", "artefacts", "groups")
    found = evaluate(
        sets["enhanced"],
        reference=sets["baseline"],
        distilled=sets["distilled"],
        gated=sets["gated"],
        floor=sets["floor"],
        quality=Brightness(),
        metrics=families,
        groups=groups,
        batch_size=16,
        pair="mini",
    )
    net = load_feature_net("eval")
    metric = ArtefactMetric(Context(net, "mini"))
    arms = {"distilled": "distilled", "enhanced": "enhanced", "reference": "baseline"}
    metric.update({arm: ImageBatch(sets[name], net) for arm, name in arms.items()})
    return {
        "subjects": [found.n, found.n_reference],
        **{arm: _set(found, arm) for arm in ("enhanced", "distilled", "gated", "floor")},
        "baseline_gradient_energy": found.value("gradient_energy", "reference"),
        "baseline_quality": _interval(found, "quality", "reference"),
        "gap_closed": _gap_of(found, "enhanced"),
        **_identity(found),
        **_artefacts(metric.result(), len(sets["baseline"])),
        **_pixels(found),
        "groups": None if found.groups is None else _groups(found.groups),
        "examples": [[one.place, one.index, one.value] for one in found.examples],
        "flags": sorted(flag.name for flag in found.flags),
    }


def _set(found: Evaluation, arm: str) -> dict[str, Any]:
    names = ("frechet", "frechet_infinity", "cmmd", "precision", "recall", "density", "coverage", "gradient_energy")
    frechet = found.score("frechet", arm)
    assert frechet is not None
    values: dict[str, Any] = {"n": frechet.n} | {name: found.value(name, arm) for name in (*names, "psnr")}
    values |= {"kid": found.value("kernel", arm), "quality": _interval(found, "quality", arm)}
    if arm == "floor":
        return values
    for name in ("perceptual", "psnr", "ssim", "ms_ssim", "gradient_agreement", "spectrum_db"):
        values[f"paired_{name}"] = _interval(found, name, arm)
    scales = found.score("ms_ssim", arm)
    assert scales is not None
    values["ms_ssim_scales"] = int(scales.label.partition("(")[2].partition(" ")[0] or 5)
    return values


def _interval(found: Evaluation, metric: str, arm: str = "enhanced") -> list[float] | None:
    score = found.score(metric, arm)
    return None if score is None else _ends(score.interval)


def _ends(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.value, interval.low, interval.high]


def _gap(gap: GapClosed) -> dict[str, Any]:
    sides = {name: _ends(getattr(gap, name)) for name in ("distilled", "enhanced", "floor")}
    share = dict(zip(("value", "low", "high"), _ends(gap.share) or [None] * 3, strict=True))
    return share | {"gap_in_floors": gap.distilled.value / gap.floor.value} | sides


def _gap_of(found: Evaluation, arm: str) -> dict[str, Any]:
    share = found.score("gap_closed", arm)
    sides = [found.score("frechet", name) for name in ("distilled", arm, "floor")]
    distilled, enhanced, floor = (None if one is None else one.interval for one in sides)
    assert share is not None and distilled is not None and enhanced is not None and floor is not None
    return _gap(GapClosed(share.interval, distilled, enhanced, floor))


def _identity(found: Evaluation) -> dict[str, Any]:
    def values(arm: str, form: str = "{}", **names: str) -> dict[str, float | None]:
        return {old: found.value(form.format(new), arm) for old, new in names.items()}

    thresholds = values("distilled", "identity_{}", same="same_threshold", different="different_threshold",
                        equal_error="equal_error", equal_error_rate="equal_error_rate")  # fmt: skip
    pairs = found.score("identity_equal_error", "distilled")
    assert pairs is not None
    return {
        "identity": values("enhanced", "identity_{}", mean="mean", p05="p05"),
        "identity_pairs": values(
            "reference", "identity_{}", same_mean="mean", same_p05="p05",
            different_mean="mismatched_mean", different_p95="mismatched_p95",
        ),
        "identity_thresholds": thresholds | {"pairs": pairs.n},
        "identity_verdict": values(
            "enhanced", "identity_{}_share", same="same", unsure="unsure", different="different"
        ),
        "gates": values("gated", "{}_share", enhanced="enhanced", weakened="weakened", distilled="distilled")
        | {
            "gap_closed": _gap_of(found, "gated"),
            "identity": values("gated", "identity_{}", mean="mean", p05="p05"),
        },
    }  # fmt: skip


THRESHOLDS = ("same", "different", "equal_error", "equal_error_rate", "pairs")


def _artefacts(artefacts: Artefacts, n: int) -> dict[str, Any]:
    renamed = {"seam_ratio": "seams", "blob_share": "blobs", "halo_luma": "halos"}
    renamed |= {"halo_luma_baseline": "halos_baseline", "high_frequency_db_distilled": "high_frequency_db_identity"}
    names = [one.name for one in dataclasses.fields(Artefacts) if "lab" not in one.name and "colour" not in one.name]
    names.sort(key=lambda name: name == "high_frequency_db_distilled")
    return {
        "artefacts": {"n": n} | {renamed.get(name, name): getattr(artefacts, name) for name in names},
        "colour": fields(
            artefacts, shift="lab_shift", spread="lab_std", difference="colour_difference",
            difference_identity="colour_difference_distilled",
        ),
    }  # fmt: skip


def _pixels(found: Evaluation) -> dict[str, Any]:
    shift, to_baseline, before = (found.score(name) for name in ("ita_shift", "ita_to_baseline", "gain"))
    assert shift is not None and to_baseline is not None and before is not None
    curves = {one.arm: one.y for one in found.curves}
    power = {arm: curves[arm] for arm in ("distilled", "enhanced", "gated")} | {"baseline": curves["reference"]}
    return {
        "jpeg": {
            "n": before.n, "quality": 90, "gain": before.value, "gain_after": found.value("gain_after_jpeg"),
        },
        "skin": {
            "n": [shift.n, to_baseline.n],
            "ita_shift": _interval(found, "ita_shift"),
            "difference": _interval(found, "skin_difference"),
            "ita_to_baseline": _interval(found, "ita_to_baseline"),
            "ita_to_baseline_identity": _interval(found, "ita_to_baseline", "distilled"),
        },
        "spectra": {"frequencies": found.curves[0].x, **power},
    }  # fmt: skip


def _groups(groups: Groups) -> dict[str, Any]:
    """By number, since scores are named in words."""
    scores = [
        [one.attribute, one.group, one.n, one.mean, one.low, one.high, one.rest_mean, one.p_value]
        for one in groups.scores
    ]
    return {"comparisons": groups.comparisons, "scores": scores, "gaps": _gaps(groups.gaps)}


def _gaps(gaps: Sequence[GroupGap]) -> list[list[Any]]:
    return [[one.attribute, one.group, one.n, *(_ends(one.gap) or [None] * 3)] for one in gaps]


def on_features(x: Tensor, z: Tensor, y: Tensor, floor: Tensor) -> dict[str, Any]:
    """Distances and shares of sets of features ``(200, 16)``."""
    infinity = frechet_infinity(z, y)
    names = [{"age": "old" if row % 3 else "young", "hair": "red" if row < 90 else "grey"} for row in range(len(y))]
    scores = {"a": z[:, 0] - y[:, 0], "b": x[:, 1] * torch.arange(len(x))}
    groups = compare_groups(scores, names)
    return {
        "frechet": frechet_distance(GaussianStatistics.of(z), GaussianStatistics.of(y)),
        "frechet_infinity": [infinity.value, list(infinity.sizes), list(infinity.distances)],
        "kid": kernel_distance(z, y),
        "cmmd": cmmd(z, y),
        "precision_recall": precision_recall(z, y),
        "density_coverage": density_coverage(z, y),
        "gap_closed": _gap(gap_closed(x, z, y, floor)),
        "gap_closed_other_floor": _gap(gap_closed(x, z, y, floor[:150])),
        "extrapolated_gap": _gap(gap_closed(x, z, y, floor, extrapolated=True)),
        "mean_interval": _ends(mean_interval(z[:, 0])),
        "groups": _groups(groups),
        "group_gaps": [
            [one.attribute, one.group, one.n, *(_ends(one.gap) or [None] * 3)]
            for one in group_gaps(x, z, y, floor, names)
        ],
        "holm": holm([0.01, 0.04, 0.03, 0.005, 0.9]),
        "examples": [[one.place, one.index, one.value] for one in choose_examples("a", z[:, 0], best_is_high=True)],
    }


def on_identities(x: Tensor, z: Tensor, y: Tensor) -> dict[str, Any]:
    """Cosines of identity vectors ``(200, 16)``."""
    thresholds = identity_thresholds(cosine(x, y), cosine(x, y.roll(1, 0)))
    return {
        "identity": _mean_and(cosine(x, z), p05=0.05),
        "pairs": _mean_and(cosine(x, y), "same_", p05=0.05)
        | _mean_and(different_subjects(x, y), "different_", p95=0.95),
        "thresholds": fields(thresholds, *THRESHOLDS),
        "verdict": dict(zip(("same", "unsure", "different"), thresholds.shares(cosine(x, z)), strict=True)),
    }


def _mean_and(values: Tensor, prefix: str = "", **quantiles: float) -> dict[str, float]:
    named = {f"{prefix}{name}": float(values.quantile(share)) for name, share in quantiles.items()}
    return {f"{prefix}mean": float(values.mean())} | named


def on_images(x: Tensor, z: Tensor, y: Tensor) -> dict[str, Any]:
    """Per-image measures."""
    unsharp, colour = fit_unsharp(x, y), fit_colour(x, y)
    assert isinstance(colour, ColourMatrix)
    mask = skin_mask(y)
    return {
        "psnr": psnr(z, y).tolist(),
        "ssim": structural_similarities(z, y)[0].tolist(),
        "ms_ssim": structural_similarities(z, y)[1].tolist(),
        "gradient_energy": gradient_energy(z).tolist(),
        "gradient_agreement": gradient_agreement(z, y).tolist(),
        "spectrum": radial_spectrum(z[:2]).tolist(),
        "spectrum_distance": _spectrum_distance(z, y).tolist(),
        "ciede2000": colour_difference(patch_colours(z), patch_colours(y)).tolist(),
        "lab": to_lab(y).mean(dim=(2, 3)).tolist(),
        "skin_share": mask.double().flatten(1).mean(dim=1).tolist(),
        "ita": typology_angle(skin_colour(y, mask)).tolist(),
        "jpeg": psnr(jpeg_round_trip(y, 75), y).tolist(),
        "unsharp": fields(unsharp, "amount", "sigma_px"),
        "unsharp_energy": float(gradient_energy(unsharp(x)).mean()),
        "colour": colour.rows,
        "colour_psnr": psnr(colour(x), y).tolist(),
    }


def _spectrum_distance(a: Tensor, b: Tensor) -> Tensor:
    return decibels(*(radial_spectrum(part).nan_to_num(0) for part in (a, b))).abs().mean(dim=1)


def on_eval_net(images: Tensor) -> dict[str, Any]:
    """What the embedded nets see in images."""
    net = load_feature_net("eval")
    seen = embed(images, net, 8)
    sets = (dulled(images), dulled(images, 0.4), images)
    return {
        "embedding": seen.embedding[:3].tolist(),
        "identity": seen.identity[:3].tolist(),
        "loss_net": load_feature_net("loss")(images[:2]).embedding.tolist(),
        "jpeg": {
            "gain": gain([embed(part, net).embedding for part in sets]),
            "gain_after": gain([embed(jpeg_round_trip(part), net).embedding for part in sets]),
        },
    }


def classified(a: Tensor, b: Tensor) -> dict[str, Any]:
    """The two-sample test, shortened."""
    accuracy, auc = two_sample(a, b, folds=2, steps=20)
    ends = {"accuracy": accuracy.value, "accuracy_low": accuracy.low, "accuracy_high": accuracy.high}
    return {"n": len(a), **ends, "auc": auc, "folds": 2}


# Oracles


@pytest.fixture(scope="module")
def sets() -> dict[str, Tensor]:
    """60 subjects of 64 px; the head brings back a good part of what was lost, and adds a faint grid."""
    baseline, floor = portraits(60, seed=1), portraits(60, seed=2)
    grid = torch.zeros(64, 64)
    grid[::2, ::2] = 0.02
    enhanced = eight_bits(dulled(baseline, 0.35) + grid)
    distilled = dulled(dulled(baseline))
    gated = torch.cat([enhanced[:30], distilled[30:45], eight_bits(torch.lerp(distilled, enhanced, 0.5))[45:]])
    return {"distilled": distilled, "enhanced": enhanced, "gated": gated, "baseline": baseline, "floor": floor}


@pytest.fixture(scope="module")
def features() -> tuple[Tensor, ...]:
    """x, z, y of 200 subjects and y', 16 dimensions, as the eyes of a net might see them."""
    random = torch.Generator().manual_seed(5)
    subject, other, noise = torch.randn(3, 200, 16, generator=random, dtype=torch.float64)
    spread = torch.linspace(0.5, 2, 16)
    y, floor = subject * spread, other * spread
    return 0.8 * y + 0.5 + 0.1 * noise, 0.95 * y + 0.15 + 0.1 * noise, y, floor


def test_evaluation(golden: Golden, sets: dict[str, Tensor]) -> None:
    groups = [{"age": "old" if row % 2 else "young", "hair": "red" if row < 35 else "grey"} for row in range(60)]
    for name, value in evaluated(sets, groups).items():
        golden.close(f"evaluation {name}", value, rel=2e-3, abs=1e-4)


def test_features(golden: Golden, features: tuple[Tensor, ...]) -> None:
    for name, value in on_features(*features).items():
        golden.close(f"features {name}", value, rel=1e-6, abs=1e-9)


def test_identities(golden: Golden, features: tuple[Tensor, ...]) -> None:
    golden.close("identities", on_identities(*features[:3]), rel=1e-6, abs=1e-9)


def test_images(golden: Golden, sets: dict[str, Tensor]) -> None:
    few = [sets[name][:6] for name in ("distilled", "enhanced", "baseline")]
    for name, value in on_images(few[0], few[1], few[2]).items():
        golden.close(f"images {name}", value, abs=1e-5)


def test_nets(golden: Golden, sets: dict[str, Tensor]) -> None:
    golden.close("nets", on_eval_net(sets["baseline"][:16]), abs=1e-4)


def test_two_sample(golden: Golden, sets: dict[str, Tensor]) -> None:
    small = sets["baseline"][:50, :, :48, :48]
    golden.close("two_sample", classified(dulled(small, 0.1), small), rel=0.05, abs=0.05)
