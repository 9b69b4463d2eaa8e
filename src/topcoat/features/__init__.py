"""Feature nets: two that are embedded, one only for losses and one only for evaluation, and published ones by name."""

from topcoat.features.net import (
    WORKING_PX,
    FeatureNet,
    FeatureNetConfig,
    Features,
    at_working_size,
    load_feature_net,
    whole,
)
from topcoat.features.pretrained import FEATURE_NETS, ClipQuality, feature_net, quality_net

__all__ = [
    "FEATURE_NETS",
    "WORKING_PX",
    "ClipQuality",
    "FeatureNet",
    "FeatureNetConfig",
    "Features",
    "at_working_size",
    "feature_net",
    "load_feature_net",
    "quality_net",
    "whole",
]
