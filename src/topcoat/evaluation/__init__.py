"""Measures of images, each importable alone: features -> statistics -> number. Nothing here knows a pipeline."""

from topcoat.evaluation.controls import UnsharpMask, fit_unsharp, unsharp_mask
from topcoat.evaluation.embed import Embeddings, FeatureNetLike, Images, batches, embed
from topcoat.evaluation.evaluate import Evaluation, FeatureRecord, SetScores, describe_gap, evaluate
from topcoat.evaluation.frechet import GaussianStatistics, frechet_distance
from topcoat.evaluation.gap import GapClosed, Interval, gap_closed
from topcoat.evaluation.identity import Identity, IdentityPairs, cosine, different_subjects, identity, identity_pairs
from topcoat.evaluation.kernel import kernel_distance
from topcoat.evaluation.paired import gradient_energy, psnr

__all__ = [
    "Embeddings",
    "Evaluation",
    "FeatureNetLike",
    "FeatureRecord",
    "GapClosed",
    "GaussianStatistics",
    "Identity",
    "IdentityPairs",
    "Images",
    "Interval",
    "SetScores",
    "UnsharpMask",
    "batches",
    "cosine",
    "describe_gap",
    "different_subjects",
    "embed",
    "evaluate",
    "fit_unsharp",
    "frechet_distance",
    "gap_closed",
    "gradient_energy",
    "identity",
    "identity_pairs",
    "kernel_distance",
    "psnr",
    "unsharp_mask",
]
