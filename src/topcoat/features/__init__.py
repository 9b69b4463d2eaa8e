"""The two embedded feature nets: one only for losses, one only for evaluation."""

from topcoat.features.net import FeatureNet, FeatureNetConfig, Features, load_feature_net

__all__ = ["FeatureNet", "FeatureNetConfig", "Features", "load_feature_net"]
