"""Feature nets by name, as ``--features`` takes them."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from topcoat.errors import UsageError
from topcoat.features.net import FeatureNet, load_feature_net

if TYPE_CHECKING:
    from topcoat.features.hub import HubFeatureNet
    from topcoat.features.inception import InceptionNet
    from topcoat.features.quality import ClipQuality

FEATURE_NETS = ("mini", "dinov2", "clip", "inception")
"""Names of `feature_net`; the middle two also take a model of their kind, as in ``dinov2:facebook/dinov2-large``."""


def feature_net(name: str = "mini") -> FeatureNet | HubFeatureNet | InceptionNet:
    """The net for evaluation called ``name``: ``mini`` is embedded, the others are fetched or read from a folder.

    ``dinov2`` and ``clip`` can be followed by a colon and a local folder or hub id. The net for losses has no name
    here: no head is evaluated by the net it was trained against. Raises `UsageError` for an unknown name,
    `ModelError` where weights or packages cannot be loaded.
    """
    kind, _, source = name.partition(":")
    if kind == "mini" and not source:
        return load_feature_net("eval")
    if kind == "dinov2" or kind == "clip":
        from topcoat.features.hub import HubFeatureNet

        return HubFeatureNet.load(kind, source or None)
    if kind == "inception" and not source:
        from topcoat.features.inception import InceptionNet

        return InceptionNet.load()
    close = difflib.get_close_matches(kind, FEATURE_NETS, n=1)
    hint = f", did you mean {close[0]}?" if close and close[0] != name else ""
    raise UsageError(f"no feature net is called {name!r}; use one of: {', '.join(FEATURE_NETS)}{hint}")


def quality_net(name: str) -> ClipQuality:
    """The quality net called ``name``: ``clip``, or ``clip:`` and a local folder or hub id.

    Raises `UsageError` for an unknown name, `ModelError` where the weights cannot be loaded.
    """
    from topcoat.features.quality import ClipQuality

    kind, _, source = name.partition(":")
    if kind != "clip":
        raise UsageError(f"no quality net is called {name!r}; use clip, or clip: and a folder or hub id")
    return ClipQuality.load(source or None)
