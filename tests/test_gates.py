"""Gates: the person is kept, nothing gets worse, and every decision is said."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from topcoat.errors import DataError, UsageError
from topcoat.features import FeatureNet, feature_net
from topcoat.features.net import Features
from topcoat.gates import GateRules, Gates, calibrate_gates, discriminant, gates_for, rules_of, write_gates
from topcoat.heads import Head, UNet, UNetConfig


class MeanColour(FeatureNet):
    """A net whose embedding is the image's mean colour, and whose identity turns with the mean of red."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.digest = "mean-colour"

    def forward(self, images: Tensor) -> Features:
        mean = images.mean(dim=(2, 3))
        angle = mean[:, 0] * torch.pi
        return Features((), mean, torch.stack([angle.cos(), angle.sin()], dim=1))


RULES = GateRules(
    net_digest="mean-colour", dataset_digest="d", pairs=100, identity_floor=0.5, direction=(0.0, 1.0, 0.0),
    pairs_told_apart=1.0,
)  # fmt: skip


def _flat(*colours: tuple[float, float, float]) -> Tensor:
    return torch.tensor(colours)[:, :, None, None].expand(-1, -1, 4, 4).contiguous()


def test_strength_falls_until_the_person_is_kept() -> None:
    gates = Gates(MeanColour(), identity_floor=0.9)
    x = _flat((0.0, 0, 0), (0.0, 0, 0), (0.0, 0, 0), (0.0, 0, 0))
    # cos(pi * red) >= 0.9 up to red = 0.1436
    z = _flat((0.1, 0, 0), (0.18, 0, 0), (0.5, 0, 0), (1.0, 0, 0))
    gated = gates(x, z, strength=2.0)
    assert [decision.strength for decision in gated.decisions] == [2.0, 1.5, 0.5, 0.0]
    assert [decision.kept for decision in gated.decisions] == ["enhanced", "weakened", "weakened", "distilled"]
    assert all(decision.identity >= 0.9 for decision in gated.decisions)
    assert all(decision.gain is None for decision in gated.decisions)
    torch.testing.assert_close(gated.images[:, 0, 0, 0], torch.tensor([0.1, 0.135, 0.125, 0.0]))


def test_what_is_judged_worse_is_left_as_it_was() -> None:
    gates = Gates(MeanColour(), never_worse=True, rules=RULES)
    x, z = _flat((0, 0.5, 0), (0, 0.5, 0)), _flat((0, 0.7, 0), (0, 0.3, 0))
    gated = gates(x, z)
    assert [decision.kept for decision in gated.decisions] == ["enhanced", "distilled"]
    assert [decision.gain for decision in gated.decisions] == pytest.approx([0.2, -0.2])
    torch.testing.assert_close(gated.images, torch.stack([z[0], x[1]]))


def test_a_decision_does_not_depend_on_the_batch() -> None:
    net = FeatureNet.tiny(0)
    rules = RULES.model_copy(update={"net_digest": net.digest, "direction": tuple(torch.randn(64).tolist())})
    gates = Gates(net, identity_floor=0.99, never_worse=True, rules=rules)
    generator = torch.Generator().manual_seed(0)
    x, z = (torch.rand(6, 3, 32, 32, generator=generator) for _ in range(2))
    together = gates(x, z)
    for row in range(6):
        alone = gates(x[row : row + 1], z[row : row + 1])
        assert alone.decisions[0].kept == together.decisions[row].kept
        torch.testing.assert_close(alone.images[0], together.images[row])


def test_the_discriminant_is_fishers() -> None:
    generator = torch.Generator().manual_seed(1)
    mixing = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    x = torch.randn(4000, 5, generator=generator, dtype=torch.float64) @ mixing
    y = x[torch.randperm(4000, generator=generator)] + torch.tensor([1.0, 0, 0, 0, 0], dtype=torch.float64)
    direction = discriminant(x, y)
    assert float((y.mean(0) - x.mean(0)) @ direction) == pytest.approx(1)
    within = torch.cov(x.T)
    shrunk = within + 0.1 * within.diagonal().mean() * torch.eye(5, dtype=torch.float64)
    expected = torch.linalg.inv(shrunk)[:, 0]
    torch.testing.assert_close(functional.normalize(direction, dim=0), functional.normalize(expected, dim=0), atol=1e-3,
                               rtol=0)  # fmt: skip


def _pairs(count: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(count, 3, 8, 8, generator=generator) * 0.5
    y = x + torch.tensor([0.01, 0.2, 0.0]).view(1, 3, 1, 1)
    return list(zip(x.split(16), y.split(16), strict=True))


def saved_head(folder: Path, gates: Mapping[str, Any] | None = None) -> None:
    config = UNetConfig(channels=(4, 8))
    Head(UNet(config), config, gates=gates).save_pretrained(folder)


def test_calibrated_rules_tell_the_baseline_from_the_distilled(tmp_path: Path) -> None:
    rules = calibrate_gates(_pairs(120), MeanColour(), dataset_digest="data")
    assert rules.pairs == 120 and rules.pairs_told_apart == 1.0 and rules.identity_floor > 0.99
    saved_head(tmp_path)
    assert rules_of(Head.from_pretrained(tmp_path)) is None
    write_gates(tmp_path, rules)
    assert rules_of(Head.from_pretrained(tmp_path)) == rules


def test_rules_must_fit() -> None:
    net = MeanColour()
    other = RULES.model_copy(update={"net_digest": "other"})
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "without a rule"),
        ({"identity_floor": 2.0}, "is no cosine"),
        ({"never_worse": True}, "topcoat calibrate"),
        ({"never_worse": True, "rules": other}, "calibrate them again"),
    ]
    for options, words in wrong:
        with pytest.raises(UsageError, match=words):
            Gates(net, **options)
    with pytest.raises(UsageError, match="99 pairs"):
        calibrate_gates([(x[:99], y[:99]) for x, y in [tuple(map(torch.cat, zip(*_pairs(120), strict=True)))]], net,
                        dataset_digest="d")  # fmt: skip
    with pytest.raises(UsageError, match="make the same images"):
        calibrate_gates([(x, x) for x, _ in _pairs(120)], net, dataset_digest="d")


def test_damaged_rules_are_one_sentence(tmp_path: Path) -> None:
    saved_head(tmp_path)
    (tmp_path / "gates.json").write_text('{"format": "topcoat-gates", "pairs": 0}')
    with pytest.raises(DataError, match="calibrate the gates again"):
        rules_of(Head.from_pretrained(tmp_path))


def test_rules_travel_with_their_head(tmp_path: Path) -> None:
    saved_head(tmp_path, gates=RULES.model_dump(mode="json"))
    assert rules_of(Head.from_pretrained(tmp_path)) == RULES
    saved_head(tmp_path)
    assert Head.from_pretrained(tmp_path).gates is None


class RedIdentity(MeanColour):
    """Another net for identity."""

    def __init__(self) -> None:
        super().__init__()
        self.digest = "red"


def test_identity_and_score_may_have_nets_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nets = {"embedded": MeanColour(), "red": RedIdentity()}
    monkeypatch.setattr("topcoat.features.pretrained._net", lambda name, embedded: nets[name])
    net = feature_net("embedded", "red", embedded="loss")
    rules = calibrate_gates(_pairs(120), net, dataset_digest="data", identity="red")
    assert (rules.net_digest, rules.identity_digest, rules.identity) == ("mean-colour", "red", "red")
    saved_head(tmp_path, gates=rules.model_dump(mode="json"))
    head = Head.from_pretrained(tmp_path)
    gates = gates_for(head, "calibrated", True)  # by the nets that the calibration names
    assert gates is not None and gates(_flat((0, 0.5, 0)), _flat((0, 0.7, 0))).decisions[0].kept == "enhanced"
    with pytest.raises(UsageError, match="calibrated with the feature net red, this one is mean-colour"):
        gates_for(head, "calibrated", False, "embedded")
    assert gates_for(head, 0.9, False, "embedded") is not None
