"""Colour profiles: what a head sees is sRGB, what a file gets back is in its own profile.

Conversions are Little CMS's, through Pillow, which has 8 bits a channel only. For deeper samples a table of its values
is interpolated, so that smooth stays smooth.
"""

from __future__ import annotations

import functools
import io

import numpy as np
from PIL import Image, ImageCms

_NODES = 33
_SAME = 2
"""Of 255: a profile whose colours differ less from sRGB's is taken for sRGB."""
_MODES = {"GRAY": "L", "RGB ": "RGB", "CMYK": "CMYK"}


@functools.lru_cache(maxsize=8)
def kind_of(icc: bytes | None) -> str | None:
    """The colour space of a profile (``RGB ``, ``GRAY``, ``CMYK``, ...).

    None for no profile, and for one that cannot be used: damaged, or without a way back from sRGB.
    """
    if icc is None:
        return None
    try:
        kind = ImageCms.core.profile_frombytes(icc).xcolor_space
        if kind in _MODES:
            _transform(icc, _MODES[kind], back=False)
        if kind == "RGB ":
            _transform(icc, "RGB", back=True)
    except (OSError, ImageCms.PyCMSError, ValueError):
        return None
    return kind


def name_of(icc: bytes) -> str:
    """What a profile calls itself."""
    try:
        return ImageCms.getProfileDescription(_profile(icc)).strip()
    except (OSError, ImageCms.PyCMSError, ValueError):
        return "a damaged profile"


@functools.lru_cache(maxsize=8)
def is_srgb(icc: bytes) -> bool:
    """Whether an RGB profile means the same colours as sRGB."""
    lattice = _lattice(9)
    return int(np.abs(_converted(lattice, icc, back=False).astype(int) - lattice).max()) <= _SAME


def to_srgb(samples: np.ndarray, icc: bytes) -> np.ndarray:
    """``(H, W, 3)`` in an RGB profile as sRGB; uint8 stays uint8, float32 in [0, 1] stays that."""
    return _rgb(samples, icc, back=False)


def from_srgb(samples: np.ndarray, icc: bytes) -> np.ndarray:
    """``(H, W, 3)`` in sRGB as colours of an RGB profile; the opposite of `to_srgb` inside both gamuts."""
    return _rgb(samples, icc, back=True)


@functools.lru_cache(maxsize=8)
def grey_curve(icc: bytes) -> np.ndarray:
    """sRGB's grey, 0 to 255 as float64, of each of 256 values in a grey profile; it rises everywhere."""
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    values = np.asarray(_transform(icc, "L", back=False).apply(ramp), dtype=np.float64)[0].mean(axis=1)
    return np.maximum.accumulate(values + np.arange(256) * 1e-6)


def picture_to_srgb(picture: Image.Image, icc: bytes | None) -> Image.Image:
    """A CMYK or Lab picture as RGB in sRGB, by its profile where it has one that fits."""
    if picture.mode == "LAB":
        lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        transform = ImageCms.ImageCmsTransform(lab, _srgb(), "LAB", "RGB")
        return transform.apply(picture)
    if icc is not None and kind_of(icc) == "CMYK":
        return _transform(icc, "CMYK", back=False).apply(picture)
    return picture.convert("RGB")


def srgb_profile() -> bytes:
    """A profile of sRGB, for a picture that was converted to it."""
    return _srgb().tobytes()


def _rgb(samples: np.ndarray, icc: bytes, *, back: bool) -> np.ndarray:
    if samples.dtype == np.uint8:
        return _converted(samples, icc, back=back)
    return _interpolated(samples, _table(icc, back))


def _converted(samples: np.ndarray, icc: bytes, *, back: bool) -> np.ndarray:
    transform = _transform(icc, "RGB", back=back)
    return np.asarray(transform.apply(Image.fromarray(np.ascontiguousarray(samples))))


@functools.lru_cache(maxsize=8)
def _transform(icc: bytes, mode: str, back: bool) -> ImageCms.ImageCmsTransform:
    profile, srgb = _profile(icc), _srgb()
    ends = (srgb, profile, "RGB", mode) if back else (profile, srgb, mode, "RGB")
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    return ImageCms.ImageCmsTransform(*ends, intent=ImageCms.Intent.RELATIVE_COLORIMETRIC, flags=flags)


@functools.lru_cache(maxsize=4)
def _table(icc: bytes, back: bool) -> np.ndarray:
    """``(33, 33, 33, 3)`` float32 in [0, 1]: the conversion at the nodes of a lattice."""
    lattice = _lattice(_NODES)
    return (_converted(lattice, icc, back=back).astype(np.float32) / 255).reshape(_NODES, _NODES, _NODES, 3)


def _lattice(nodes: int) -> np.ndarray:
    """``(nodes^2, nodes, 3)`` uint8: every combination of evenly spaced values."""
    axis = np.round(np.linspace(0, 255, nodes)).astype(np.uint8)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(nodes * nodes, nodes, 3)


def _interpolated(samples: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Trilinear, between the nodes where 8 bits put them."""
    axis = np.round(np.linspace(0, 255, _NODES)) / 255
    flat = samples.reshape(-1, 3)
    result = np.empty_like(flat)
    for start in range(0, len(flat), 1 << 18):  # the corners of a whole picture would need gigabytes
        part = flat[start : start + (1 << 18)]
        cell = np.clip(np.searchsorted(axis, part, side="right") - 1, 0, _NODES - 2)
        share = ((part - axis[cell]) / (axis[cell + 1] - axis[cell])).astype(np.float32)
        total = np.zeros_like(part)
        for corner in np.ndindex(2, 2, 2):
            weight = np.prod(np.where(corner, share, 1 - share), axis=1, keepdims=True)
            at = cell + corner
            total += weight * table[at[:, 0], at[:, 1], at[:, 2]]
        result[start : start + (1 << 18)] = total
    return result.reshape(samples.shape)


@functools.lru_cache(maxsize=8)
def _profile(icc: bytes) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(io.BytesIO(icc))


@functools.cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
