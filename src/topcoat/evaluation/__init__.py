"""Measures of images, each importable alone: features -> statistics -> number. Nothing here knows a pipeline."""

from topcoat.evaluation.artefacts import Artefacts, ArtefactScan
from topcoat.evaluation.cache import FeatureCache
from topcoat.evaluation.colour import (
    ciede2000,
    colour_difference,
    patch_colours,
    skin_colour,
    skin_mask,
    to_lab,
    typology_angle,
)
from topcoat.evaluation.controls import ColourMatrix, UnsharpMask, fit_colour, fit_unsharp, unsharp_mask
from topcoat.evaluation.embed import Embeddings, FeatureNetLike, Images, batches, embed
from topcoat.evaluation.evaluate import METRICS, evaluate
from topcoat.evaluation.examples import choose_examples
from topcoat.evaluation.frechet import FrechetInfinity, GaussianStatistics, frechet_distance, frechet_infinity
from topcoat.evaluation.gap import GapClosed, Interval, extrapolated_gap, gap_closed
from topcoat.evaluation.groups import Groups, GroupScore, compare_groups, holm, mean_interval
from topcoat.evaluation.identity import (
    Identity,
    IdentityPairs,
    IdentityThresholds,
    IdentityVerdict,
    cosine,
    different_subjects,
    identity,
    identity_pairs,
    identity_thresholds,
    identity_verdict,
)
from topcoat.evaluation.jpeg import JpegRobustness, jpeg_robustness, jpeg_round_trip
from topcoat.evaluation.kernel import cmmd, kernel_distance
from topcoat.evaluation.manifold import DensityCoverage, PrecisionRecall, density_coverage, precision_recall
from topcoat.evaluation.paired import gradient_agreement, gradient_energy, perceptual_distance, psnr
from topcoat.evaluation.record import (
    Evaluation,
    Example,
    FeatureRecord,
    Flag,
    GatesEffect,
    PairedScores,
    SetScores,
    Skin,
    Spectra,
)
from topcoat.evaluation.report import Looked, write_report
from topcoat.evaluation.text import describe_gap
from topcoat.evaluation.two_sample import TwoSample, two_sample
from topcoat.measures.spectrum import radial_spectrum, spectrum_decibels, spectrum_distance
from topcoat.measures.structure import ms_ssim, ssim

__all__ = [
    "METRICS",
    "ArtefactScan",
    "Artefacts",
    "ColourMatrix",
    "DensityCoverage",
    "Embeddings",
    "Evaluation",
    "Example",
    "FeatureCache",
    "FeatureNetLike",
    "FeatureRecord",
    "Flag",
    "FrechetInfinity",
    "GapClosed",
    "GatesEffect",
    "GaussianStatistics",
    "GroupScore",
    "Groups",
    "Identity",
    "IdentityPairs",
    "IdentityThresholds",
    "IdentityVerdict",
    "Images",
    "Interval",
    "JpegRobustness",
    "Looked",
    "PairedScores",
    "PrecisionRecall",
    "SetScores",
    "Skin",
    "Spectra",
    "TwoSample",
    "UnsharpMask",
    "batches",
    "choose_examples",
    "ciede2000",
    "cmmd",
    "colour_difference",
    "compare_groups",
    "cosine",
    "density_coverage",
    "describe_gap",
    "different_subjects",
    "embed",
    "evaluate",
    "extrapolated_gap",
    "fit_colour",
    "fit_unsharp",
    "frechet_distance",
    "frechet_infinity",
    "gap_closed",
    "gradient_agreement",
    "gradient_energy",
    "holm",
    "identity",
    "identity_pairs",
    "identity_thresholds",
    "identity_verdict",
    "jpeg_robustness",
    "jpeg_round_trip",
    "kernel_distance",
    "mean_interval",
    "ms_ssim",
    "patch_colours",
    "perceptual_distance",
    "precision_recall",
    "psnr",
    "radial_spectrum",
    "skin_colour",
    "skin_mask",
    "spectrum_decibels",
    "spectrum_distance",
    "ssim",
    "to_lab",
    "two_sample",
    "typology_angle",
    "unsharp_mask",
    "write_report",
]
