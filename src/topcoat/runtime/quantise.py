"""8-bit whole numbers: static quantisation of a graph's convolutions, and what it costs.

ONNX Runtime's own quantiser (QDQ, one scale per output channel of a convolution) is calibrated on distilled images. The
loss is measured on other pairs than those, and the file is kept only below two limits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from topcoat.errors import ModelError, UsageError
from topcoat.runtime.onnx_session import OnnxSession
from topcoat.runtime.record import HeadRecord
from topcoat.runtime.tiles import pad_to_multiple

if TYPE_CHECKING:
    from topcoat.pairs.dataset import PairDataset

FEWEST_PAIRS = 32
CALIBRATION_PAIRS = 64
MEASURED_PAIRS = 64
CHANGE_LIMIT = 1 / 255
"""Largest root-mean-square difference to float32 that is allowed, of the value range."""
DISTANCE_LIMIT = 0.01
"""By what share the root-mean-square distance to the baseline may grow."""


@dataclass(frozen=True, slots=True)
class QuantisationLoss:
    """What int8 costs on pairs that it was not calibrated on."""

    pairs: int
    rms_to_float32: float
    rms_to_baseline: float
    rms_to_baseline_float32: float

    @property
    def too_much(self) -> bool:
        """Whether it is above one of the limits."""
        grown = self.rms_to_baseline / max(self.rms_to_baseline_float32, 1e-9) - 1
        return self.rms_to_float32 > CHANGE_LIMIT or grown > DISTANCE_LIMIT

    def __str__(self) -> str:
        return (
            f"on {self.pairs} pairs int8 differs from float32 by rms {255 * self.rms_to_float32:.2f} of 255 (at most "
            f"{255 * CHANGE_LIMIT:.0f}), and its distance to the baseline is rms {255 * self.rms_to_baseline:.2f} "
            f"instead of {255 * self.rms_to_baseline_float32:.2f} (at most {DISTANCE_LIMIT:.0%} more)"
        )


def quantise(plain: Path, path: Path, record: HeadRecord, pairs: PairDataset) -> QuantisationLoss:
    """Write the graph ``plain`` in int8 to ``path``; half of ``pairs`` calibrates it, others measure it.

    Raises `UsageError` for a head of latents or too few pairs, `ModelError` if int8 loses too much.
    """
    from onnxruntime import quantization

    if record.input == "latent":
        raise UsageError("int8 is calibrated on images, and this head decodes latents; export it in float32 or --fp16")
    if len(pairs) < FEWEST_PAIRS:
        raise UsageError(f"int8 cannot be calibrated on {len(pairs)} pairs; give {FEWEST_PAIRS} or more")
    half = len(pairs) // 2
    images: Any = _Images(pairs, range(min(half, CALIBRATION_PAIRS)), record)  # as onnxruntime's reader is called
    quantization.quantize_static(
        str(plain),
        str(path),
        images,
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )
    loss = _loss(OnnxSession(plain), OnnxSession(path), pairs, range(half, min(len(pairs), half + MEASURED_PAIRS)))
    if loss.too_much:
        raise ModelError(f"{loss}; that is too much, so nothing was written: use --fp16, or leave --int8 out")
    return loss


def _loss(plain: OnnxSession, quantised: OnnxSession, pairs: PairDataset, rows: range) -> QuantisationLoss:
    squares = np.zeros(3)
    for index in rows:
        distilled, baseline = (pairs.image(index, side).numpy()[None] for side in ("distilled", "baseline"))
        height, width = distilled.shape[2:]
        padded = pad_to_multiple(distilled, plain.record.size_multiple, plain.record.smallest)
        before, after = (session.run(padded, 1.0)[..., :height, :width] for session in (plain, quantised))
        for place, (one, other) in enumerate(((after, before), (after, baseline), (before, baseline))):
            squares[place] += float(np.square(one - other).mean())
    return QuantisationLoss(len(rows), *(float(value) for value in np.sqrt(squares / len(rows))))


class _Images:
    """Distilled images as onnxruntime's calibration asks for them."""

    def __init__(self, pairs: PairDataset, rows: range, record: HeadRecord) -> None:
        images = (pairs.image(index, "distilled").numpy()[None] for index in rows)
        self._inputs: Iterator[dict[str, Any]] = (
            record.feed(pad_to_multiple(one, record.size_multiple, record.smallest), 1.0) for one in images
        )

    def get_next(self) -> dict[str, Any] | None:
        """The next inputs; None at the end."""
        return next(self._inputs, None)
