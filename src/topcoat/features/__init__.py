"""Feature nets: two that are embedded, one only for losses and one only for evaluation, and published ones by name."""

from topcoat.features.net import FeatureNet, FeatureNetConfig, Features, load_feature_net
from topcoat.features.pretrained import FEATURE_NETS, ClipQuality, feature_net, quality_net

__all__ = [
    "FEATURE_NETS",
    "ClipQuality",
    "FeatureNet",
    "FeatureNetConfig",
    "Features",
    "feature_net",
    "load_feature_net",
    "quality_net",
]
