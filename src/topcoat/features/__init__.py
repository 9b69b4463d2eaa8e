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
from topcoat.features.pretrained import FEATURE_NETS, FeatureNetLike, domain_flags, feature_net, open_net
from topcoat.features.quality import QUALITY_NETS, ClipQuality, QualityNet, quality_net

__all__ = [
    "FEATURE_NETS",
    "QUALITY_NETS",
    "WORKING_PX",
    "ClipQuality",
    "FeatureNet",
    "FeatureNetConfig",
    "FeatureNetLike",
    "Features",
    "QualityNet",
    "at_working_size",
    "domain_flags",
    "feature_net",
    "load_feature_net",
    "open_net",
    "quality_net",
    "whole",
]
