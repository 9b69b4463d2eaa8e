"""Where in a picture a head works: masks from files and around faces, and the picture that both make.

Pictures are mixed as sRGB encodes them, not in linear light. A head adds its change to encoded values, and a strength
scales it there; so a mask of one half gives what half the strength gives. Both sides show one scene: there are no two
lights to be added up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from topcoat.enhance.faces import FaceDetector, around_faces
from topcoat.enhance.jobs import Found, Job, LeftOut
from topcoat.errors import DataError, UsageError
from topcoat.pictures import Picture, decode_picture, seen_by_head
from topcoat.pictures.formats import suffixes

_FEATHER = 1 / 100  # of the shorter side
_SAME_SHAPE = 0.01  # relative difference of two ratios of sides


def with_masks(jobs: Sequence[Job], found: Found, masks: Path) -> list[Job]:
    """The jobs with their masks: one file for all, or in a folder the file of each picture's name, of any type.

    A picture without a mask, or with several, goes to ``found.left_out``. Raises `UsageError` where there is neither
    file nor folder.
    """
    masks = masks.expanduser()
    if masks.is_file():
        return [replace(job, mask=masks) for job in jobs]
    if not masks.is_dir():
        raise UsageError(f"there is no mask {masks}; give a picture, or a folder with one for each picture")
    by_name: dict[Path, list[Path]] = defaultdict(list)
    for path in sorted(masks.rglob("*")):
        if path.suffix.lower() in suffixes():
            by_name[path.relative_to(masks).with_suffix("")].append(path)
    ready: list[Job] = []
    for job, (source, name) in zip(jobs, found.pictures, strict=True):
        match by_name.get(name.with_suffix(""), []):
            case [mask]:
                ready.append(replace(job, mask=mask))
            case []:
                found.left_out.append(LeftOut(source, f"has no mask {masks / name.with_suffix('')}.*; add one"))
            case several:
                names = " and ".join(path.name for path in several)
                found.left_out.append(LeftOut(source, f"has several masks ({names}); keep one of them"))
    return ready


def mask_of(
    picture: Picture,
    seen: np.ndarray,
    given: tuple[bytes, Path] | None,
    detector: FaceDetector | None,
    feather_px: int | None = None,
) -> np.ndarray | None:
    """How much of the head each pixel of a picture gets: ``(H, W)`` float32 in [0, 1], or None for all of it.

    ``seen`` is `seen_by_head` of the picture, ``given`` the bytes and the path of its mask file. With a detector the
    mask is that of the faces; with both, where both say so. Raises `DataError` for a mask that does not fit.
    """
    mask: np.ndarray | None = None
    if given is not None:
        data, path = given
        values = mask_values(decode_picture(data, str(path)), picture.size, str(path))
        mask = feathered(values, max(1, round(min(picture.size) * _FEATHER)) if feather_px is None else feather_px)
    if detector is not None:
        faces = around_faces(seen.shape[0], seen.shape[1], detector(seen))
        mask = faces if mask is None else mask * faces
    return mask


def brightness(picture: Picture) -> np.ndarray:
    """The mean of its colours, ``(H, W)`` float32 in [0, 1]."""
    seen = seen_by_head(picture)
    return (seen.astype(np.float32) / (255 if seen.dtype == np.uint8 else 1)).mean(axis=2)


def mask_values(mask: Picture, size: tuple[int, int], name: str) -> np.ndarray:
    """The mask's brightness times its alpha, ``(H, W)`` float32 in [0, 1], at the picture's ``size`` (width, height).

    Raises `DataError` for one whose sides have another ratio.
    """
    values = brightness(mask)
    if mask.alpha is not None:
        full = 1 if mask.alpha.dtype == np.float32 else np.iinfo(mask.alpha.dtype).max
        values *= mask.alpha.astype(np.float32) / full
    if mask.size == size:
        return values
    if abs(mask.size[0] * size[1] / (mask.size[1] * size[0]) - 1) > _SAME_SHAPE:
        raise DataError(
            f"the mask {name} has {mask.size[0]} x {mask.size[1]} px and the picture {size[0]} x {size[1]}; "
            "give a mask of the same shape"
        )
    resized = Image.fromarray(values).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(resized).clip(0, 1)


def feathered(mask: np.ndarray, width_px: int) -> np.ndarray:
    """``mask`` ``(H, W)`` in [0, 1] with an edge that rises from 0 over ``width_px``, inwards: what is 0 stays 0."""
    if width_px <= 0 or mask.all():
        return mask
    inside = Image.fromarray(np.where(mask > 0, 255, 0).astype(np.uint8))
    for _ in range(2):  # two boxes give an S-shaped ramp
        inside = inside.filter(ImageFilter.BoxBlur(width_px / 2))
    ramp = (np.asarray(inside).astype(np.float32) / np.float32(127.5) - 1).clip(0, 1)
    return mask * ramp


def blended(seen: np.ndarray, result: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """``result`` where the mask is 1, ``seen`` where it is 0, both ``(H, W, 3)`` of one type; bytes are rounded."""
    if mask is None:
        return result
    mixed = seen + mask[..., None] * (result.astype(np.float32) - seen)
    return np.rint(mixed).astype(np.uint8) if seen.dtype == np.uint8 else mixed
