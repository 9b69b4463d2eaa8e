"""A chosen setting as a file that `topcoat generate --config` runs."""

from __future__ import annotations

from pathlib import Path

import pydantic
import yaml

from topcoat.config import StrictModel
from topcoat.files import write_text
from topcoat.frontier.sweep import Frontier, Point
from topcoat.generators.base import MAX_STEPS


class PipelineConfig(StrictModel):
    """How to make images: the pair, the distilled model's steps, the head and its strength."""

    pair: str = pydantic.Field(min_length=1)
    steps: int = pydantic.Field(ge=1, le=MAX_STEPS)
    head: str | None = None
    """A head folder or hub id; None for the distilled images alone."""
    strength: float = pydantic.Field(default=1.0, ge=0, le=2)
    note: str = ""
    """Where the choice comes from, for a person."""


def save_choice(path: str | Path, frontier: Frontier, point: Point, pair: str, heads: dict[str, str]) -> PipelineConfig:
    """Write ``point`` as YAML; ``pair`` is the pair as `--pair` takes it, ``heads`` maps sweep names to folders or ids.

    Raises `DataError` if the file cannot be written.
    """
    tflop, seconds = frontier.saving(point)
    share = "no measurable gap" if point.share is None else f"{point.share:.0%} of the gap closed (measured)"
    setting = point.setting
    config = PipelineConfig(
        pair=pair,
        steps=setting.steps,
        head=None if setting.head is None else heads[setting.head],
        strength=setting.strength,
        note=(
            f"topcoat frontier, N = {frontier.n}: {share}, {tflop:.1%} less TFLOP (computed) and {seconds:.1%} less "
            f"time (measured) than {frontier.baseline.setting.label}, whole pipeline at "
            f"{frontier.width_px}x{frontier.height_px} px"
        ),
    )
    write_text(Path(path), yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True, width=120))
    return config
