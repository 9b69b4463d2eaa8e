"""Gates: per image, as much of the head as keeps the person and makes the portrait no worse.

Two rules, each measured with the embedded net for losses (never the one that evaluates), or with published nets:

- *identity floor*: the strength is lowered until the identities of distilled image and result have that cosine; where
  no strength does, the distilled image stays.
- *never worse*: a result that scores below its own distilled image is not used. The score is Fisher's linear
  discriminant (1936) of the embeddings of distilled and baseline images, in units of the mean way between the two.

Both are calibrated on a dataset of pairs and stored in ``gates.json`` with the head's weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pydantic
import torch
from torch import Tensor, nn

from topcoat.config import StrictModel, parse_config
from topcoat.errors import DataError, UsageError
from topcoat.features import FeatureNetLike, domain_flags, feature_net, whole
from topcoat.files import write_json
from topcoat.heads.head import GATES_NAME, Head
from topcoat.runtime.record import HeadRecord

WEAKER = (1.0, 0.75, 0.5, 0.25)
"""Shares of the asked strength that are tried, in this order; after the last one the distilled image stays."""
FEWEST_PAIRS = 100
"""Fewer pairs give no discriminant of 64 dimensions that can be trusted."""
SHRINKAGE = 0.1
"""Share of the mean variance that is mixed into the covariance's diagonal."""
FLOOR_PERCENTILE = 0.05

Kept = Literal["enhanced", "weakened", "distilled"]


class GateRules(StrictModel):
    """Calibrated thresholds: what ``gates.json`` holds."""

    format: Literal["topcoat-gates"] = "topcoat-gates"
    version: Literal[1] = 1
    net_digest: str
    features: str = "embedded"
    identity: str | None = None
    """Names of the nets, as `topcoat.features.feature_net` takes them."""
    identity_digest: str | None = None
    """Where identity has a net of its own."""
    dataset_digest: str
    pairs: int = pydantic.Field(ge=1)
    identity_floor: float = pydantic.Field(ge=-1, le=1)
    """The 5th percentile of the cosines of distilled and baseline: one subject, two models."""
    direction: tuple[float, ...]
    """The score of an image is the product of this with its embedding."""
    pairs_told_apart: float = pydantic.Field(ge=0, le=1)
    """Share of pairs, not used for the direction, whose baseline scores above its distilled image; 0.5 is blind."""


@dataclass(frozen=True, slots=True)
class GateDecision:
    """What the gates did with one image."""

    kept: Kept
    strength: float
    """Of the head, as used; 0 where the distilled image stayed."""
    identity: float
    """Cosine of identity between the distilled image and the result."""
    gain: float | None
    """Score of the head's result minus that of the distilled image, 1 being the mean way to the baseline; None where
    it was not measured."""


@dataclass(frozen=True, slots=True)
class Gated:
    """Images ``(N, 3, H, W)`` that passed the gates, and the decision on each."""

    images: Tensor
    decisions: tuple[GateDecision, ...]


class Gates:
    """Applies the rules; ``identity_floor`` None leaves identity alone, ``never_worse`` needs calibrated ``rules``."""

    def __init__(
        self,
        net: FeatureNetLike,
        *,
        identity_floor: float | None = None,
        never_worse: bool = False,
        rules: GateRules | None = None,
    ) -> None:
        """Raises `UsageError` for no rule at all, a floor outside [-1, 1], and rules that are missing or do not fit."""
        if identity_floor is None and not never_worse:
            raise UsageError("gates without a rule do nothing; give an identity floor, never_worse, or no gates")
        if identity_floor is not None and not -1 <= identity_floor <= 1:
            raise UsageError(f"identity floor {identity_floor:g} is no cosine; use -1 to 1, such as 0.9")
        self._net, self._floor, self._direction = net, identity_floor, None
        if not never_worse:
            return
        if rules is None:
            raise UsageError(
                "never_worse needs a calibrated score; run topcoat calibrate --data PAIRS --head HEAD first"
            )
        _check_digest(rules.net_digest, digests_of(net)[0])
        self._direction = torch.tensor(rules.direction, dtype=torch.float64)

    def flags(self, pair: str | None, width_px: int, height_px: int) -> list[str]:
        """`topcoat.features.domain_flags` of the net that judges."""
        return domain_flags(self._net, pair, width_px, height_px)

    @torch.no_grad()
    def __call__(self, distilled: Tensor, enhanced: Tensor, strength: float = 1.0) -> Gated:
        """Choose for each of ``(N, 3, H, W)`` distilled images and the head's results at ``strength``, on the CPU.

        A weaker head is the straight way between the two, which differs from running it weaker only where the head left
        the range [0, 1] and was cut.
        """
        first_embedding, first_identity = _seen(self._net, distilled)
        images, embeddings = distilled.clone(), first_embedding.clone()
        share, cosines = torch.zeros(len(images)), torch.ones(len(images))
        left = torch.arange(len(images))
        for part in WEAKER:
            if not len(left):
                break
            weaker = torch.lerp(distilled[left], enhanced[left], part)
            embedding, identity = _seen(self._net, weaker)
            cosine = nn.functional.cosine_similarity(first_identity[left], identity, dim=1)
            good = torch.ones_like(cosine, dtype=torch.bool) if self._floor is None else cosine >= self._floor
            done = left[good]
            share[done], cosines[done] = part, cosine[good]
            images[done], embeddings[done] = weaker[good], embedding[good]
            left = left[~good]
        gains: list[float | None] = [None] * len(images)
        if self._direction is not None:
            gain = (embeddings - first_embedding).double() @ self._direction
            gains = list(gain.tolist())
            worse = gain < 0
            share[worse], cosines[worse], images[worse] = 0.0, 1.0, distilled[worse]
        decisions = [
            GateDecision(_kept(part), part * strength, cosine, gain)
            for part, cosine, gain in zip(share.tolist(), cosines.tolist(), gains, strict=True)
        ]
        return Gated(images, tuple(decisions))

    def enhanced(
        self, head: Callable[[np.ndarray, float], np.ndarray], images: np.ndarray, strength: float = 1.0
    ) -> tuple[np.ndarray, tuple[GateDecision, ...]]:
        """Enhance images ``(N, H, W, 3)``, uint8 or float32 in [0, 1], as far as the rules allow; of the same type.

        ``head`` is a `topcoat.runtime.runner.Runtime`, or another function of images ``(N, 3, H, W)`` and a strength.
        """
        given = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        floats = given.astype(np.float32) / np.float32(255) if images.dtype == np.uint8 else given
        gated = self(torch.from_numpy(floats), torch.from_numpy(head(floats, strength)), strength)
        result = gated.images.permute(0, 2, 3, 1).contiguous()
        result = result.mul(255).round().to(torch.uint8) if images.dtype == np.uint8 else result
        return result.numpy(), gated.decisions


def gates_for(
    head: Head | HeadRecord | None,
    identity_floor: float | Literal["calibrated"] | None,
    never_worse: bool,
    identity: str | None = None,
) -> Gates | None:
    """The gates of a head, by its own calibration where that is asked for; None where neither rule is.

    A head that another runtime runs is given by its record. ``identity`` names the net that compares people, by default
    that of the calibration, else the embedded one. Raises `UsageError` for gates that cannot work: without a head whose
    strength can be lowered, not calibrated, or calibrated with another net.
    """
    if identity_floor is None and not never_worse:
        return None
    if head is None or not head.has_strength:
        given = "none" if head is None else "one that decodes latents by itself"
        raise UsageError(
            f"gates weigh a head's result against the distilled image, and the head is {given}; leave the gates out, "
            "or use a head that takes images"
        )
    rules = rules_of(head)
    features, calibrated = ("embedded", None) if rules is None else (rules.features, rules.identity)
    if identity_floor == "calibrated" and rules is None:
        raise UsageError(
            "the head has no calibrated identity floor; run topcoat calibrate --data PAIRS --head HEAD, or give a "
            "number such as 0.9"
        )
    net = feature_net(features, identity or calibrated, embedded="loss")
    if identity_floor == "calibrated":
        assert rules is not None
        _check_digest(rules.identity_digest or rules.net_digest, digests_of(net)[1])
        identity_floor = rules.identity_floor
    return Gates(net, identity_floor=identity_floor, never_worse=never_worse, rules=rules)


def digests_of(net: FeatureNetLike) -> tuple[str, str]:
    """Of the net that makes embeddings, and of the one that makes identity vectors."""
    return getattr(net, "features_digest", net.digest), getattr(net, "identity_digest", net.digest)


def _check_digest(calibrated: str, used: str) -> None:
    if calibrated != used:
        raise UsageError(
            f"the gates were calibrated with the feature net {calibrated}, this one is {used}; calibrate them again "
            "with topcoat calibrate, or name that net"
        )


def _seen(net: FeatureNetLike, images: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings and identity vectors, on the CPU."""
    features = whole(net, images)
    return features.embedding.cpu(), features.identity.cpu()


@torch.no_grad()
def calibrate_gates(
    batches: Iterable[tuple[Tensor, Tensor]],
    net: FeatureNetLike,
    *,
    dataset_digest: str,
    features: str = "embedded",
    identity: str | None = None,
) -> GateRules:
    """Rules from batches of distilled and baseline images ``(N, 3, H, W)`` of the same subjects.

    ``features`` and ``identity`` are the names of ``net``. Of every ten pairs nine give the direction and one says how
    well it tells pairs apart. Raises `UsageError` for fewer than 100 pairs, or where both models make the same images.
    """
    rows: list[tuple[Tensor, Tensor, Tensor]] = []
    for distilled, baseline in batches:
        (x, person_x), (y, person_y) = _seen(net, distilled), _seen(net, baseline)
        cosines = nn.functional.cosine_similarity(person_x, person_y, dim=1)
        rows.append((x.double(), y.double(), cosines.double()))
    count = sum(len(x) for x, _, _ in rows)
    if count < FEWEST_PAIRS:
        raise UsageError(f"gates cannot be calibrated on {count} pairs; use {FEWEST_PAIRS} or more")
    x, y, cosines = (torch.cat(parts) for parts in zip(*rows, strict=True))
    held_out = torch.arange(count) % 10 == 9
    direction = discriminant(x[~held_out], y[~held_out])
    ranked = ((y - x)[held_out] @ direction > 0).double().mean()
    return GateRules(
        net_digest=digests_of(net)[0],
        features=features,
        identity=identity,
        identity_digest=None if identity is None else digests_of(net)[1],
        dataset_digest=dataset_digest,
        pairs=count,
        identity_floor=float(cosines.quantile(FLOOR_PERCENTILE)),
        direction=tuple(direction.tolist()),
        pairs_told_apart=float(ranked),
    )


def discriminant(distilled: Tensor, baseline: Tensor) -> Tensor:
    """Fisher's direction ``(D,)`` from ``(N, D)`` to ``(N, D)`` embeddings, scaled so that the means lie 1 apart.

    Raises `UsageError` if the means do not differ.
    """
    way = baseline.mean(dim=0) - distilled.mean(dim=0)
    within = (torch.cov(distilled.T) + torch.cov(baseline.T)) / 2
    shrunk = within + SHRINKAGE * within.diagonal().mean() * torch.eye(len(way), dtype=within.dtype)
    direction = torch.linalg.lstsq(shrunk, way.unsqueeze(1)).solution.squeeze(1)
    length = float(direction @ way)
    if not length > 0:
        raise UsageError("both models make the same images, so nothing tells better from worse; check the dataset")
    return direction / length


def rules_of(head: Head | HeadRecord) -> GateRules | None:
    """The rules that were calibrated for ``head``, None where there are none; raises `DataError` for damaged ones."""
    if head.gates is None:
        return None
    try:
        return parse_config(head.gates, GateRules, source=GATES_NAME)
    except UsageError as error:
        raise DataError(f"{error}; calibrate the gates again with topcoat calibrate") from None


def write_gates(folder: Path, rules: GateRules) -> Path:
    """Write the rules into a head's folder, atomically; returns the file."""
    path = folder / GATES_NAME
    write_json(path, rules.model_dump(mode="json"))
    return path


def _kept(share: float) -> Kept:
    if share == 1:
        return "enhanced"
    return "weakened" if share > 0 else "distilled"
