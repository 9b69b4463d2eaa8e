"""Every metric on fixed sets: through `evaluate` on small portraits, and by itself on seeded features and images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.oracles.golden import Golden, fields
from tests.oracles.inputs import dulled, eight_bits, portraits
from topcoat.features import load_feature_net
from topcoat.metrics.base import Interval
from topcoat.metrics.c2st import two_sample
from topcoat.metrics.colour import colour_difference, patch_colours, skin_colour, skin_mask, to_lab, typology_angle
from topcoat.metrics.controls import ColourMatrix, fit_colour, fit_unsharp
from topcoat.metrics.embed import embed
from topcoat.metrics.evaluate import evaluate
from topcoat.metrics.examples import choose_examples
from topcoat.metrics.frechet import GaussianStatistics, frechet_distance, frechet_infinity
from topcoat.metrics.gap import GapClosed, extrapolated_gap, gap_closed
from topcoat.metrics.groups import Groups, compare_groups, group_gaps, holm, mean_interval
from topcoat.metrics.identity import cosine, identity, identity_pairs, identity_thresholds, identity_verdict
from topcoat.metrics.jpeg import jpeg_robustness, jpeg_round_trip
from topcoat.metrics.kernel import cmmd, kernel_distance
from topcoat.metrics.paired import gradient_agreement, gradient_energy, psnr
from topcoat.metrics.prdc import density_coverage, precision_recall
from topcoat.metrics.record import Evaluation, SetScores
from topcoat.metrics.spectrum import radial_spectrum, spectrum_distance
from topcoat.metrics.structure import ms_ssim, ssim

# Adapters: change these with the library, never the golden values.


class Brightness:
    """Stands in for a net that judges quality."""

    digest = "brightness"

    def __call__(self, images: Tensor) -> Tensor:
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
    )
    return {
        "subjects": [found.n, found.n_reference],
        "enhanced": _set(found.enhanced),
        "distilled": _set(found.distilled),
        "gated": _set(found.gated),
        "floor": _set(found.floor),
        "baseline_gradient_energy": found.reference_gradient_energy,
        "baseline_quality": _interval(found.reference_quality),
        "gap_closed": _gap(found.gap_closed),
        **_identity(found),
        **_pixels(found),
        "groups": None if found.groups is None else _groups(found.groups),
        "examples": [[one.place, one.index, one.value] for one in found.examples],
        "flags": sorted(flag.name for flag in found.flags),
    }


def _set(scores: SetScores | None) -> dict[str, Any]:
    assert scores is not None
    names = ("frechet", "frechet_infinity", "cmmd", "precision", "recall", "density", "coverage", "gradient_energy")
    found = fields(scores, "n", *names, "psnr", kid="kernel") | {"quality": _interval(scores.quality)}
    paired = scores.paired
    if paired is not None:
        for name in ("perceptual", "psnr", "ssim", "ms_ssim", "gradient_agreement", "spectrum_db"):
            found[f"paired_{name}"] = _interval(getattr(paired, name))
        found["ms_ssim_scales"] = paired.ms_ssim_scales
    return found


def _interval(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.value, interval.low, interval.high]


def _gap(gap: GapClosed | None) -> dict[str, Any]:
    assert gap is not None
    sides = {name: _interval(getattr(gap, name)) for name in ("distilled", "enhanced", "floor")}
    return fields(gap, "value", "low", "high", "gap_in_floors") | sides


def _identity(found: Evaluation) -> dict[str, Any]:
    gates = found.gates
    assert gates is not None
    return {
        "identity": fields(found.identity, "mean", "p05"),
        "identity_pairs": fields(found.identity_pairs, "same_mean", "same_p05", "different_mean", "different_p95"),
        "identity_thresholds": fields(found.identity_thresholds, *THRESHOLDS),
        "identity_verdict": fields(found.identity_verdict, "same", "unsure", "different"),
        "gates": fields(gates, "enhanced", "weakened", "distilled")
        | {"gap_closed": _gap(gates.gap_closed), "identity": fields(gates.identity, "mean", "p05")},
    }


THRESHOLDS = ("same", "different", "equal_error", "equal_error_rate", "pairs")


def _pixels(found: Evaluation) -> dict[str, Any]:
    artefacts, jpeg, skin, spectra = found.artefacts, found.jpeg, found.skin, found.spectra
    assert artefacts is not None and jpeg is not None and skin is not None and spectra is not None
    ours = {name: values for name, values in spectra.power.items() if name != "reference"}
    return {
        "artefacts": fields(
            artefacts,
            "n",
            "changed",
            "checkerboard_db",
            "checkerboard_period_px",
            "checkerboard_levels",
            "grid_db",
            "seams",
            "seam_period_px",
            "blobs",
            "halos",
            "halos_baseline",
            "high_frequency_db",
            "foreign_db",
            "foreign_period_px",
            "foreign_place",
            high_frequency_db_identity="high_frequency_db_do_nothing",
        ),
        "colour": fields(
            artefacts.colour, "shift", "spread", "difference", difference_identity="difference_do_nothing"
        ),
        "jpeg": fields(jpeg, "n", "quality", "gain", "gain_after"),
        "skin": {
            "n": [skin.n, skin.n_to_baseline],
            "ita_shift": _interval(skin.ita_shift),
            "difference": _interval(skin.difference),
            "ita_to_baseline": _interval(skin.ita_to_baseline),
            "ita_to_baseline_identity": _interval(skin.ita_to_baseline_do_nothing),
        },
        "spectra": {"frequencies": spectra.cycles_per_px, **ours, "baseline": spectra.power["reference"]},
    }


def _groups(groups: Groups) -> dict[str, Any]:
    """By number, since scores are named in words."""
    scores = [
        [one.attribute, one.group, one.n, one.mean, one.low, one.high, one.rest_mean, one.p_value]
        for one in groups.scores
    ]
    gaps = [[one.attribute, one.group, one.n, one.value, one.low, one.high] for one in groups.gaps]
    return {"comparisons": groups.comparisons, "scores": scores, "gaps": gaps}


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
        "precision_recall": fields(precision_recall(z, y), "precision", "recall"),
        "density_coverage": fields(density_coverage(z, y), "density", "coverage"),
        "gap_closed": _gap(gap_closed(x, z, y, floor)),
        "gap_closed_other_floor": _gap(gap_closed(x, z, y, floor[:150])),
        "extrapolated_gap": _gap(extrapolated_gap(x, z, y, floor)),
        "mean_interval": _interval(mean_interval(z[:, 0])),
        "groups": _groups(groups),
        "group_gaps": [
            [one.attribute, one.group, one.n, one.value, one.low, one.high] for one in group_gaps(x, z, y, floor, names)
        ],
        "holm": holm([0.01, 0.04, 0.03, 0.005, 0.9]),
        "examples": [[one.place, one.index, one.value] for one in choose_examples("a", z[:, 0], best_is_high=True)],
    }


def on_identities(x: Tensor, z: Tensor, y: Tensor) -> dict[str, Any]:
    """Cosines of identity vectors ``(200, 16)``."""
    thresholds = identity_thresholds(cosine(x, y), cosine(x, y.roll(1, 0)))
    return {
        "identity": fields(identity(x, z), "mean", "p05"),
        "pairs": fields(identity_pairs(x, y), "same_mean", "same_p05", "different_mean", "different_p95"),
        "thresholds": fields(thresholds, *THRESHOLDS),
        "verdict": fields(identity_verdict(cosine(x, z), thresholds), "same", "unsure", "different"),
    }


def on_images(x: Tensor, z: Tensor, y: Tensor) -> dict[str, Any]:
    """Per-image measures."""
    unsharp, colour = fit_unsharp(x, y), fit_colour(x, y)
    assert isinstance(colour, ColourMatrix)
    mask = skin_mask(y)
    return {
        "psnr": psnr(z, y).tolist(),
        "ssim": ssim(z, y).tolist(),
        "ms_ssim": ms_ssim(z, y).tolist(),
        "gradient_energy": gradient_energy(z).tolist(),
        "gradient_agreement": gradient_agreement(z, y).tolist(),
        "spectrum": radial_spectrum(z[:2]).tolist(),
        "spectrum_distance": spectrum_distance(z, y).tolist(),
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


def on_eval_net(images: Tensor) -> dict[str, Any]:
    """What the embedded nets see in images."""
    net = load_feature_net("eval")
    seen = embed(images, net, 8)
    return {
        "embedding": seen.embedding[:3].tolist(),
        "identity": seen.identity[:3].tolist(),
        "loss_net": load_feature_net("loss")(images[:2]).embedding.tolist(),
        "jpeg": fields(jpeg_robustness(dulled(images), dulled(images, 0.4), images, net), "gain", "gain_after"),
    }


def classified(a: Tensor, b: Tensor) -> dict[str, Any]:
    """The two-sample test, shortened."""
    return fields(two_sample(a, b, folds=2, steps=20), "n", "accuracy", "accuracy_low", "accuracy_high", "auc", "folds")


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
