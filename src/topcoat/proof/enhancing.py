"""A head at work on painted batches, timed: on images as files hold them, or on latents."""

from __future__ import annotations

from torch import Tensor

from topcoat.cost import timed
from topcoat.heads.head import HeadProtocol
from topcoat.proof.painter import Painter
from topcoat.proof.store import Shard, to_bytes, to_floats


class Enhancer:
    """A head with what it is given: the distilled images, or their latents where it decodes those.

    It is warmed up on its first batch, so that no seconds hold the costs of a first run. Nothing is kept: painting is
    what takes long, and a head is what changes.
    """

    def __init__(self, head: HeadProtocol) -> None:
        self._head = head
        self.takes_latents = head.input == "latent"
        self._warm = False

    def given(
        self, painter: Painter, stage: str, prompts: list[str], seeds: list[int], steps: int | None = None
    ) -> Shard:
        """What the head takes of one batch, and the seconds it took to make; for latents without any decoding."""
        paint = painter.paint_latents if self.takes_latents else painter.paint
        return paint(stage, prompts, seeds, steps)

    def enhance(self, given: Shard, strength: float = 1.0) -> Shard:
        """The head's images as 8-bit values, and its own seconds."""
        inputs = given.images.float() if self.takes_latents else to_floats(given.images)
        if not self._warm:
            self._head(inputs, strength)
            self._warm = True
        made: list[Tensor] = []
        seconds = timed(lambda: made.append(self._head(inputs, strength)))
        return Shard(to_bytes(made[0]), seconds)
