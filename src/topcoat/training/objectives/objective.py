"""What every objective has: the settings that fit it, and the trainer that it makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from topcoat.config import StrictModel
from topcoat.heads.head import Head
from topcoat.training.distributed import Processes
from topcoat.training.losses import HasStages
from topcoat.training.settings import Settings
from topcoat.training.trainer import Trainer


class Objective(StrictModel):
    """Settings of the losses. A kind has a field ``kind`` of one literal."""

    @property
    def paired(self) -> bool:
        """Whether x and y of a batch are of the same subjects, cut and mirrored alike."""
        return True

    @property
    def compares_latents(self) -> bool:
        """Whether it needs the latents of baseline images."""
        return False

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

    def check(self, settings: Settings) -> None:
        """Raise `ValueError` for settings that this objective cannot train."""

    def trainer(
        self, settings: Settings, features: Callable[[Tensor], HasStages], processes: Processes, start: Head | None
    ) -> Trainer:
        """The trainer of a stage; ``features`` is the frozen net for losses, ``start`` the head to start from."""
        raise NotImplementedError
