"""The result of a study: typed, as ``study.json`` holds it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

from topcoat.config import StrictModel
from topcoat.metrics.base import Interval
from topcoat.metrics.c2st import TwoSample
from topcoat.metrics.gap import GapClosed
from topcoat.metrics.identity import Identity, IdentityPairs
from topcoat.metrics.record import FeatureRecord
from topcoat.proof.record import Saving, Steps


class Judged(StrictModel):
    """What was measured of one set of images, on the same subjects as every other."""

    gap: GapClosed
    """Share of the gap closed, and the Fréchet distances it is made of."""
    perceptual: Interval | None
    """Paired perceptual distance to the baseline's image of the same subject; None for a net without feature maps."""
    identity: Identity
    """Cosines to the distilled image of the same subject."""
    two_sample: TwoSample | None
    """How well a fresh classifier tells these images from the baseline's; None where there are too few."""
    grid_db: float | None = None
    """`topcoat.metrics.Artefacts.grid_db`; None for the distilled images themselves, and for images under 32 px."""
    flags: tuple[str, ...] = ()
    """Sentences on what is wrong with the images."""


class HeadResult(StrictModel):
    """One head of the study."""

    run: str
    kind: str
    takes: str
    images_seen: int
    starts_from: str | None
    teacher: str | None
    """The run whose head this one went on from, after its own images."""
    changed: tuple[str, ...]
    """What the study changed on the named run, and below why."""
    reason: str
    digest: str
    parameters: int
    judged: Judged
    head_tflop: float
    pipeline_tflop: float
    """Per image, computed; the pipeline is distilled + head, without the VAE where the head decodes latents."""
    head_seconds: float
    pipeline_seconds: float
    """Per image, measured medians."""
    saving: Saving
    """Of the whole pipeline, against the baseline at its own step count."""
    saving_at_28_steps: Saving


class Costs(StrictModel):
    """What one of the models takes per image: computed TFLOP and measured median seconds."""

    steps: int
    tflop: float
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Study:
    """Every head on the same subjects, and what they stand beside."""

    pair: str
    n: int
    width_px: int
    height_px: int
    training_pairs: int
    steps: Steps
    heads: tuple[HeadResult, ...]
    do_nothing: Judged
    """The distilled images themselves, judged like a head's."""
    floor_two_sample: TwoSample | None
    """The baseline told from itself at other seeds: what chance reads."""
    identity_pairs: IdentityPairs
    distilled: Costs
    baseline: Costs
    baseline_at_28_steps: Costs
    features: FeatureRecord
    hardware: dict[str, Any]
    versions: dict[str, str]
    settings: dict[str, Any]

    @property
    def best(self) -> HeadResult:
        """The head whose images are nearest to the baseline's."""
        return min(self.heads, key=_distance)

    def best_of(self, kinds: Collection[str]) -> HeadResult | None:
        """The nearest of the heads of some kinds; None where the study has none."""
        heads = [head for head in self.heads if head.kind in kinds]
        return min(heads, key=_distance, default=None)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""

        def plain(value: Any) -> Any:
            if isinstance(value, StrictModel):
                return value.model_dump(mode="json")
            if dataclasses.is_dataclass(value) and not isinstance(value, type):
                return dataclasses.asdict(value)
            return [plain(item) for item in value] if isinstance(value, tuple) else value

        return {field.name: plain(getattr(self, field.name)) for field in dataclasses.fields(self)}


def _distance(head: HeadResult) -> float:
    return head.judged.gap.enhanced.value
