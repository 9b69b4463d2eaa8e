"""What every objective has: the settings that fit it, and the trainer that it makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field
from torch import Tensor

from topcoat.config import StrictModel
from topcoat.heads.head import Head
from topcoat.training.distributed import Processes
from topcoat.training.losses import HasStages
from topcoat.training.trainer import Trainer

if TYPE_CHECKING:
    from topcoat.training.config import TrainConfig


Weight = Annotated[float, Field(ge=0, le=1e6)]
"""Factor of a loss; 0 leaves it out."""


class Objective(StrictModel):
    """Settings of the losses. A kind has a field ``kind`` of one literal."""

    paired: ClassVar[bool] = True
    """Whether x and y of a batch are of the same subjects, cut and mirrored alike."""
    compares_latents: ClassVar[bool] = False
    """Whether it needs the latents of baseline images."""

    @property
    def passes(self) -> int:
        """How often a step calls the head's network, or one of its size, for each image."""
        return 1

    def weights(self) -> dict[str, float]:
        """The factors by the name of their loss."""
        raise NotImplementedError

    def described(self) -> dict[str, Any]:
        """Its kind, every weight above 0, and what is not at its default, as JSON values."""
        changed = self.model_dump(mode="json", exclude_defaults=True)
        used = {name: weight for name, weight in self.weights().items() if weight}
        return {"kind": type(self).model_fields["kind"].default, **used, **changed}

    def check(self, settings: TrainConfig) -> None:
        """Raise `ValueError` for settings that this objective cannot train."""

    def trainer(
        self, settings: TrainConfig, features: Callable[[Tensor], HasStages], processes: Processes, start: Head | None
    ) -> Trainer:
        """The trainer of a stage; ``features`` is the frozen net for losses, ``start`` the head to start from."""
        raise NotImplementedError
