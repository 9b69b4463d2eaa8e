"""What a server is started with: its models, and the limits that keep it up."""

from __future__ import annotations

import pydantic

from topcoat.config import StrictModel
from topcoat.embedded import DEFAULT_HEAD, EMBEDDED_HEADS
from topcoat.errors import UsageError
from topcoat.runtime import RuntimeName

MEBIBYTE = 2**20


class ServeConfig(StrictModel):
    """Models and limits of a server."""

    pair: str | None = "mini"
    """Name or file of the model pair; None serves edits alone, without torch."""
    heads: tuple[str, ...] | None = None
    """Names, folders, hub ids or ONNX files; the first is the default. None: the embedded head, for the mini pair."""
    baseline: bool = False
    """Whether the pair's baseline is there too, as a model of its own."""
    sizes_px: tuple[tuple[int, int], ...] = ()
    """Widths and heights that may be asked for besides the pair's own."""
    runtime: RuntimeName = "auto"
    """What runs heads on uploads."""
    max_batch: int = pydantic.Field(default=16, ge=1, le=256)
    """Images that are made at a time."""
    batch_wait_seconds: float = pydantic.Field(default=0.003, ge=0, le=1)
    """How long a request waits for others to join it, when nothing runs."""
    max_queue: int = pydantic.Field(default=32, ge=1)
    """Images that wait or are being made; more are refused."""
    max_images: int = pydantic.Field(default=10, ge=1)
    """Images of one request."""
    timeout_seconds: float = pydantic.Field(default=120, gt=0)
    """A request that takes longer is ended."""
    max_upload_bytes: int = pydantic.Field(default=32 * MEBIBYTE, ge=1024)
    """Of one request."""
    max_megapixels: float = pydantic.Field(default=32, gt=0, le=100)
    """Of one picture that is sent."""

    def chosen_heads(self) -> tuple[str, ...]:
        """The heads to open; raises `UsageError` where none is named and none is shipped for the pair."""
        if self.heads is None and self.pair not in (None, "mini"):
            raise UsageError(
                f"no head is shipped for the pair {self.pair}; give --head DIR, or --head none for the distilled images"
            )
        heads = (DEFAULT_HEAD,) if self.heads is None else self.heads
        wrong = [head for head in heads if head in EMBEDDED_HEADS and self.pair not in (None, "mini")]
        if wrong:
            raise UsageError(f"the head {wrong[0]} is the mini pair's own; name one that was trained for {self.pair}")
        if not heads and self.pair is None:
            raise UsageError("without a pair and without a head there is nothing to serve; give --pair or --head")
        return heads
