"""Feature nets: two that are embedded, one only for losses and one only for evaluation, and others by name."""

from topcoat.features.named import FEATURE_NETS, feature_net, quality_net
from topcoat.features.net import FeatureNet, FeatureNetConfig, Features, QualityNet, load_feature_net

__all__ = [
    "FEATURE_NETS",
    "FeatureNet",
    "FeatureNetConfig",
    "Features",
    "QualityNet",
    "feature_net",
    "load_feature_net",
    "quality_net",
]
