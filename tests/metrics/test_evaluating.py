from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.features import FeatureNet, Features
from topcoat.images import gaussian_blur
from topcoat.metrics.embed import batches, embed
from topcoat.metrics.evaluate import OUT_OF_DOMAIN, evaluate
from topcoat.metrics.evaluation import Evaluation
from topcoat.metrics.frechet import GaussianStatistics, frechet_distance
from topcoat.reports.evaluation import write_report


def value(found: Evaluation, metric: str, arm: str = "enhanced") -> float:
    number = found.value(metric, arm)
    assert number is not None, (metric, arm)
    return number


def test_the_cut_of_a_stream_does_not_matter(images: Tensor, net: FeatureNet) -> None:
    whole = embed(images, net, 7)
    mixed = embed([images[0], images[1:11], *images[11:]], net, 5)
    assert len(whole) == len(images)
    torch.testing.assert_close(whole.embedding, mixed.embedding, rtol=1e-4, atol=1e-6)
    assert [len(batch) for batch in batches(iter(images), 10)] == [10, 10, 4]
    assert whole.embedding.shape == (24, 64)
    torch.testing.assert_close(whole.identity.norm(dim=1), torch.ones(24, dtype=torch.float64), rtol=1e-5, atol=0)


def test_full_evaluation(images: Tensor, other_images: Tensor, net: FeatureNet) -> None:
    soft, half = gaussian_blur(images, 1.2), gaussian_blur(images, 0.6)
    found = evaluate(half, reference=images, distilled=soft, floor=other_images, features=net, batch_size=5)
    features = [GaussianStatistics.of(embed(part, net).embedding) for part in (half, images)]
    assert value(found, "frechet") == pytest.approx(frechet_distance(*features), rel=1e-3)
    assert value(found, "frechet") < value(found, "frechet", "distilled")
    assert value(found, "psnr") > value(found, "psnr", "distilled")
    assert 0 < value(found, "identity_p05") <= value(found, "identity_mean") <= 1
    assert value(found, "identity_mismatched_mean", "reference") < value(found, "identity_mean", "reference")
    gap = found.score("gap_closed")
    assert gap is not None and gap.low is not None and gap.high is not None and gap.low <= gap.value <= gap.high
    assert found.features.dimensions == 64 and found.features.digest == "untrained" and found.features.net == "custom"
    json.dumps(found.as_dict(), allow_nan=False)
    text = found.summary()
    assert "24 enhanced images" in text and "identity baseline" in text and "biased" in text


def test_the_reference_against_itself(images: Tensor, net: FeatureNet) -> None:
    found = evaluate(images, reference=iter(images), features=net)
    assert found.value("frechet") == pytest.approx(0, abs=1e-6)
    assert found.value("psnr") == 100
    assert {score.arm for score in found.scores} == {"enhanced", "reference"}
    assert found.value("gap_closed") is found.value("identity_mean") is None


def test_a_longer_reference_is_a_set_not_pairs(images: Tensor, net: FeatureNet) -> None:
    found = evaluate(images[:8], reference=images, features=net, batch_size=3)
    assert (found.n, found.n_reference, found.value("psnr")) == (8, 24, None)


def test_every_score_says_its_net_weights_and_number(images: Tensor, other_images: Tensor, net: FeatureNet) -> None:
    soft = gaussian_blur(images, 1.0)
    found = evaluate(gaussian_blur(images, 0.5), reference=images, distilled=soft, floor=other_images, features=net)
    lines = found.scores
    of_nets = {"frechet", "frechet_infinity", "kernel", "cmmd", "precision", "recall", "density", "coverage"}
    of_nets |= {"perceptual", "gap_closed"}
    of_nets |= {"gain", "gain_after_jpeg"}
    for row in lines:
        assert row.n == 24 or "ita" in row.metric or "skin" in row.metric
        in_features = row.metric in of_nets or row.metric.startswith("identity")
        assert (row.net, row.digest) == (("custom", "untrained") if in_features else (None, None)), row.metric
        assert row.low is None or row.high is None or row.low <= row.high
    by_name = {(row.metric, row.arm): row for row in lines}
    assert len(by_name) == len(lines)
    assert {name for name, _ in by_name} >= of_nets | {"ssim", "checkerboard_db", "colour_difference"}
    assert by_name["frechet", "distilled"].value == found.value("frechet", "distilled")
    record = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert len(record["scores"]) == len(lines) and record["settings"]["seed"] == 0
    assert record["settings"]["frechet_infinity"]["enhanced"]["sizes"][-1] == 24


def test_the_text_holds_the_figures(images: Tensor, other_images: Tensor, net: FeatureNet) -> None:
    groups = [{"age": "old" if index % 2 else "young"} for index in range(24)]
    found = evaluate(
        gaussian_blur(images, 0.5),
        reference=images,
        distilled=gaussian_blur(images, 1.0),
        floor=other_images,
        features=net,
        groups=groups,
    )
    text = found.markdown()
    for word in (
        "FD-infinity",
        "MS-SSIM (2 scales)",
        "## Identity",
        "## Artefacts",
        "age = old",
        "two-sample test needs 50",
    ):
        assert word in text, word
    assert f"{found.value('frechet'):.4g}" in text
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) >= 4
    assert all(len({len(line) for line in lines}) == 1 for lines in tables)  # the columns are aligned


def test_metrics_that_were_not_asked_for_are_not_in_the_list(images: Tensor, net: FeatureNet) -> None:
    found = evaluate(images, reference=images, distilled=images, features=net, metrics=[])
    measured = {score.metric for score in found.scores}
    assert measured & {"frechet", "kernel", "psnr", "identity_mean"} == {"frechet", "kernel", "psnr", "identity_mean"}
    assert not measured & {"ssim", "cmmd", "recall", "changed", "identity_same_share", "ita_shift", "gain"}
    assert found.groups is None and found.value("psnr") == 100


def test_batches_do_not_change_an_evaluation(images: Tensor, other_images: Tensor, net: FeatureNet) -> None:
    soft = gaussian_blur(images, 1.0)
    found = [
        evaluate(soft, reference=images, distilled=soft, floor=other_images, features=net, batch_size=size).as_dict()
        for size in (24, 7)
    ]
    values = [[row["value"] for row in one["scores"]] + [row.get("low", 0) for row in one["scores"]] for one in found]
    assert values[0] == pytest.approx(values[1], rel=1e-3, abs=1e-4)


def test_order_does_not_change_the_distances(images: Tensor, other_images: Tensor, net: FeatureNet) -> None:
    one = evaluate(images, reference=other_images, features=net)
    other = evaluate(images.flip(0), reference=other_images.flip(0), features=net)
    for name in ("frechet", "kernel", "cmmd", "precision", "recall", "density", "coverage", "psnr"):
        assert one.value(name) == pytest.approx(other.value(name), rel=1e-6), name


def test_too_few_or_too_small_images_are_said_not_raised(images: Tensor, net: FeatureNet) -> None:
    few = evaluate(images[:3], reference=images[:3], distilled=images[:3], features=net)
    assert few.value("precision") is few.value("frechet_infinity") is None
    text = few.summary()
    for need in ("3 neighbours need 4 or more images on each side, not 3 and 3", "FD-infinity needs 10 or more"):
        assert need in text
    small = images[..., :24, :24]
    tiny = evaluate(small, reference=small, distilled=small, features=net)
    assert tiny.value("changed") is None and "32 or more pixels a side, not 24x24" in tiny.summary()


def test_a_net_without_feature_maps_has_no_perceptual_distance(images: Tensor) -> None:
    def flat(pixels: Tensor) -> Features:
        colours = pixels.mean(dim=(2, 3))
        return Features((), colours, torch.nn.functional.normalize(colours, dim=1))

    class Flat:
        digest = "flat"

        def __call__(self, images: Tensor) -> Features:
            return flat(images)

    found = evaluate(images, reference=images, features=Flat())
    assert found.value("perceptual") is None and "equal feature maps" in found.summary()
    assert found.value("ssim") is not None


def test_groups_are_compared_on_every_score(images: Tensor, other_images: Tensor, net: FeatureNet) -> None:
    soft = gaussian_blur(images, 1.0).repeat(2, 1, 1, 1)
    sharp = images.repeat(2, 1, 1, 1)
    spoiled = torch.cat([soft[:24], other_images])
    groups = [{"half": "first" if index < 24 else "second"} for index in range(48)]
    found = evaluate(spoiled, reference=sharp, distilled=soft, features=net, groups=groups)
    assert found.groups is not None and found.groups.gaps == ()
    assert {score.score for score in found.groups.scores} >= {"identity", "perceptual distance", "perceptual gain"}
    assert ("identity", "first") in {(finding.score, finding.group) for finding in found.groups.differences}
    assert "exceeds noise" in found.markdown() or "exceed noise" in found.markdown()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distilled": torch.rand(3, 3, 32, 32)}, "not pairs"),
        ({"reference": []}, "no images"),
        ({"reference": [torch.rand(3, 32, 32), torch.rand(3, 40, 40)]}, "mix sizes 32x32 and 40x40"),
        ({"reference": torch.rand(24, 3, 40, 40)}, "different sizes"),
        ({"reference": torch.rand(24, 3, 32, 32) * 255}, "divide by 255"),
        ({"batch_size": 0}, "batch size 0"),
        ({"metrics": ["quality"]}, "no metric is called 'quality'; use some of: distances"),
        ({"metrics": "paired"}, "must be a list"),
        ({"groups": [{"age": "old"}]}, "1 groups do not fit 24"),
        ({"features": "resnet"}, "no feature net is called 'resnet'"),
        ({"reference": torch.rand(1, 3, 32, 32)}, "2 or more"),
    ],
)
def test_refusals(images: Tensor, net: FeatureNet, change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"reference": images, "features": net} | change
    with pytest.raises(UsageError, match=message):
        evaluate(images, **arguments)


def test_a_net_out_of_its_domain_is_flagged_in_text_json_and_page(images: Tensor, tmp_path: Path) -> None:
    found = evaluate(images, reference=images.flip(0), metrics=[], pair="flux1")
    words = "images of the pair flux1, which it was not made for"
    assert found.as_dict()["flags"][0]["name"] == OUT_OF_DOMAIN and words in found.markdown()
    write_report(tmp_path, found)
    assert words in (tmp_path / "report.html").read_text() and words in (tmp_path / "report.json").read_text()
    names = [flag.name for flag in evaluate(images, reference=images.flip(0), metrics=[], pair="mini").flags]
    assert OUT_OF_DOMAIN not in names
