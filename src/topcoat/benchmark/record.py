"""The result of a benchmark: arms, a list of scores, and the settings that repeat it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from topcoat.benchmark.arms import Arm, Model, Subjects
from topcoat.cost.machine import hardware
from topcoat.errors import DataError
from topcoat.files import read_json
from topcoat.generators.base import Licence, ModelPair
from topcoat.metrics.base import Score, Scored
from topcoat.metrics.evaluation import FeatureRecord
from topcoat.pairs.manifest import pair_identity, versions
from topcoat.seeds import FLOOR_SEED_OFFSET

FORMAT = "topcoat-benchmark"
FORMAT_VERSION = 2
DISTILLED, ENHANCED, BASELINE, EXTRA, FLOOR = "distilled", "enhanced", "baseline", "baseline_28_steps", "floor"
"""Names of arms."""
UNSHARP, COLOUR = "unsharp", "colour"
CONTROLS = (UNSHARP, COLOUR)
"""Arms that a head must beat: an unsharp mask, and one colour matrix for all images."""

Kind = Literal["demo", "frontier", "study"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a page shows and no JSON file holds."""

    pictures: Mapping[str, Tensor]
    """The first images of each arm, ``(N, 3, H, W)`` uint8."""
    subjects: Subjects
    licences: tuple[Licence, Licence]
    """Of the distilled model and of the baseline."""
    cosines: Mapping[str, Tensor] = dataclasses.field(default_factory=dict[str, Tensor])
    """Cosines of identity ``(N,)`` by what they compare."""


@dataclass(frozen=True, slots=True)
class BenchmarkResult(Scored):
    """Every arm on the same subjects."""

    kind: Kind
    pair: str
    n: int
    width_px: int
    height_px: int
    arms: dict[str, Arm]
    """What was run, by the name that scores use."""
    heads: dict[str, dict[str, Any]]
    """Facts on each head by its name; its digest at least."""
    scores: tuple[Score, ...]
    notes: tuple[str, ...]
    """Sentences on what a reader must know, flags included."""
    settings: dict[str, Any]
    """What repeats the benchmark: subjects, models, feature net, batch size, machine, versions."""
    evidence: Evidence | None = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def names(self) -> list[str]:
        """The arms in the order in which scores name them."""
        return list(dict.fromkeys(score.arm for score in self.scores))

    @property
    def baseline(self) -> str:
        """The name of the arm that quality is measured against: the baseline at its own step count."""
        return self._own("baseline")

    @property
    def distilled(self) -> str:
        """The name of the arm that closes 0 of the gap: the distilled model alone at its own step count."""
        return self._own("distilled")

    def best_head(self, kinds: Collection[str] | None = None) -> str | None:
        """The head whose images are nearest to the baseline's, of ``kinds`` where given; None where there is none."""
        names = (name for name, facts in self.heads.items() if kinds is None or facts["kind"] in kinds)
        return min(names, key=lambda name: self.value("frechet", name) or 0.0, default=None)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "kind": self.kind,
            "pair": self.pair,
            "n": self.n,
            "size_px": {"width": self.width_px, "height": self.height_px},
            "arms": {name: dataclasses.asdict(arm) for name, arm in self.arms.items()},
            "heads": self.heads,
            "scores": [score.as_dict() for score in self.scores],
            "notes": list(self.notes),
            "settings": self.settings,
        }

    @classmethod
    def from_dict(cls, data: Any, source: str = "this") -> BenchmarkResult:
        """A result from what `as_dict` gave; raises `DataError` for anything else, ``source`` being its name there."""
        if not isinstance(data, dict) or data.get("format") != FORMAT or data.get("format_version") != FORMAT_VERSION:
            raise DataError(f"{source} is no benchmark of format version {FORMAT_VERSION}; run the benchmark again")
        try:
            return cls(
                data["kind"], data["pair"], data["n"], data["size_px"]["width"], data["size_px"]["height"],
                {name: Arm(**arm) for name, arm in data["arms"].items()}, data["heads"],
                tuple(Score(**score) for score in data["scores"]), tuple(data["notes"]), data["settings"],
            )  # fmt: skip
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{source} is damaged ({error!r}); run the benchmark again") from error

    @classmethod
    def load(cls, path: str | Path) -> BenchmarkResult:
        """Read a JSON file; raises `DataError` like `read_json` and `from_dict`."""
        return cls.from_dict(read_json(Path(path)), str(path))

    def _own(self, model: Model) -> str:
        own = Arm(model, self.settings["models"][model]["steps"])
        return next(name for name, arm in self.arms.items() if arm == own)


def common_settings(pair: ModelPair, subjects: Subjects, features: FeatureRecord, batch_size: int) -> dict[str, Any]:
    """The settings that every benchmark records, free of this machine's paths."""
    return {
        "batch_size": batch_size,
        "subjects_sha256": subjects.digest,
        "seeds": {"first": subjects.seeds[0], "last": subjects.seeds[-1], "floor_offset": FLOOR_SEED_OFFSET},
        "models": pair_identity(pair),
        "features": dataclasses.asdict(features),
        "hardware": hardware().as_dict(),
        "versions": versions(),
    }
