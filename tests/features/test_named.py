from __future__ import annotations

import subprocess
import sys

import pytest

from topcoat.errors import ModelError, UsageError
from topcoat.features import FeatureNet, domain_flags, feature_net, load_feature_net


def test_mini_is_the_net_for_evaluation_and_never_that_for_losses() -> None:
    net = feature_net()
    assert isinstance(net, FeatureNet)
    assert net.digest == feature_net("mini").digest == load_feature_net("eval").digest
    assert net.digest != load_feature_net("loss").digest
    with pytest.raises(UsageError, match="no feature net is called 'loss'"):
        feature_net("loss")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "dino",
            "no feature net is called 'dino'; use one of: embedded, dinov2, clip, inception, face, a folder or a hub "
            "id, did you mean dinov2?",
        ),
        ("", "use one of: embedded"),
        ("mini:folder", "no feature net is called 'mini:folder'"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        feature_net(name)
    assert message in str(error.value)


def test_a_folder_that_is_not_there() -> None:
    with pytest.raises(ModelError, match="there is no folder"):
        feature_net("dinov2:./nowhere")


def test_the_embedded_net_needs_no_transformers() -> None:
    script = "import sys, topcoat.features as f; f.feature_net(); print('transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_net_that_was_not_made_for_the_images_is_flagged() -> None:
    net = feature_net()
    assert domain_flags(net, "mini", 128, 128) == domain_flags(net, None, 128, 128) == []
    for pair, words in (("flux1", "images of the pair flux1"), (None, "images of 1024x1024 px")):
        for one in (net, "embedded", load_feature_net("loss")):
            assert words in domain_flags(one, pair, 1024, 1024)[0]
    assert domain_flags(FeatureNet.tiny(0), "flux1") == domain_flags("dinov2", "flux1") == []
