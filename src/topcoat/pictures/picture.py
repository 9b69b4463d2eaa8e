"""A picture as a file gave it, what a head sees of it, and how the head's result becomes a picture of the same kind."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from topcoat.pictures import colour
from topcoat.pictures.formats import Format
from topcoat.pictures.metadata import Metadata

_GROUND = 0.5
_LUMA = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)  # Rec. 709, on encoded values


@dataclass(frozen=True, slots=True)
class Picture:
    """An upright picture and all that its file carried."""

    samples: np.ndarray
    """``(H, W, C)``: uint8, uint16, or float32 in [0, 1]; C is 3, or 1 for grey. Not multiplied by alpha."""
    alpha: np.ndarray | None
    """``(H, W)`` of the same type, None for an opaque picture."""
    format: Format
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()
    """What the file had that is not here, each the end of the sentence "in the result ..."."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in px."""
        return self.samples.shape[1], self.samples.shape[0]

    @property
    def bits(self) -> int:
        """Of one sample: 8, 16 or 32."""
        return 8 * self.samples.itemsize

    @property
    def is_grey(self) -> bool:
        """Whether it has one channel."""
        return self.samples.shape[2] == 1


def seen_by_head(picture: Picture) -> np.ndarray:
    """``(H, W, 3)`` in sRGB: uint8 for a picture of 8 bits, else float32 in [0, 1].

    Grey is repeated, a colour profile is applied. Colours are those that the file gives, not mixed by alpha; where it
    is wholly transparent, and so has no colour, they are mid-grey.
    """
    samples = picture.samples if picture.bits == 8 else _floats(picture.samples)
    icc, kind = picture.metadata.icc, colour.kind_of(picture.metadata.icc)
    if picture.is_grey:
        if icc is not None and kind == "GRAY":
            samples = _curved(samples, np.arange(256.0), colour.grey_curve(icc))
        seen = np.repeat(samples, 3, axis=2)
    elif icc is not None and kind == "RGB " and not colour.is_srgb(icc):
        seen = colour.to_srgb(samples, icc)
    else:
        seen = samples
    if picture.alpha is not None:
        ground = np.uint8(128) if picture.bits == 8 else np.float32(_GROUND)
        seen = np.where((picture.alpha == 0)[..., None], ground, seen)
    return np.ascontiguousarray(seen)


def with_result(picture: Picture, seen: np.ndarray, result: np.ndarray) -> Picture:
    """The picture with the head's ``result``, of the type and shape of ``seen``, in its own colours, depth and alpha.

    Where grey, a profile or depth stand between the two, the *change* is carried over: so colours outside sRGB stay
    outside, and no change leaves every sample as it was.
    """
    samples = picture.samples if picture.bits == 8 else _floats(picture.samples)
    icc, kind = picture.metadata.icc, colour.kind_of(picture.metadata.icc)
    if picture.is_grey:
        before, after = (_floats(each) @ _LUMA for each in (seen, result))
        if icc is not None and kind == "GRAY":
            curve = colour.grey_curve(icc) / 255
            before, after = (np.interp(each, curve, np.linspace(0, 1, 256)) for each in (before, after))
        changed = _floats(samples) + (after - before)[..., None]
    elif icc is not None and kind == "RGB " and not colour.is_srgb(icc):
        before, after = (_floats(colour.from_srgb(each, icc)) for each in (seen, result))
        changed = _floats(samples) + (after - before)
    else:
        changed = result
    made = _as_type(changed, picture.samples.dtype)
    if picture.alpha is not None:
        made = np.where((picture.alpha == 0)[..., None], picture.samples, made)
    return replace(picture, samples=made)


def _floats(samples: np.ndarray) -> np.ndarray:
    if samples.dtype == np.uint8:
        return samples.astype(np.float32) / 255
    return samples.astype(np.float32) / 65535 if samples.dtype == np.uint16 else samples


def _as_type(samples: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if samples.dtype == dtype:
        return samples
    if dtype == np.float32:
        return samples.clip(0, 1).astype(np.float32)
    full = 255 if dtype == np.uint8 else 65535
    return np.rint(samples.clip(0, 1).astype(np.float64) * full).astype(dtype)


def _curved(samples: np.ndarray, at: np.ndarray, values: np.ndarray) -> np.ndarray:
    if samples.dtype == np.uint8:
        return np.rint(values).clip(0, 255).astype(np.uint8)[samples]
    return np.interp(samples * 255, at, values).astype(np.float32).clip(0, 255) / np.float32(255)
