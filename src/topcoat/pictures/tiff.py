"""Writing TIFF (revision 6.0) with 8, 16 or 32 bits a sample and any metadata; Pillow writes 16 bits for grey alone."""

from __future__ import annotations

import io
import zlib

import numpy as np

from topcoat.pictures import exif, iptc
from topcoat.pictures.metadata import Metadata
from topcoat.pictures.png import FAST

_DEFLATE, _HORIZONTAL, _NONE = 8, 2, 1
_STRIP_BYTES = 1 << 20
_UNDEFINED, _BYTE, _SHORT, _LONG = 7, 1, 3, 4
_BLACK_IS_ZERO, _RGB = 1, 2
_UNASSOCIATED = 2


def encode(samples: np.ndarray, is_grey: bool, metadata: Metadata) -> bytes:
    """A file of ``(H, W, C)`` uint8, uint16 or float32 samples, deflated; alpha is the last channel, not multiplied."""
    height, width, channels = samples.shape
    is_float = samples.dtype == np.float32
    directory = exif.directory(metadata.exif)
    bits = 8 * samples.itemsize
    directory[256], directory[257] = width, height
    directory[258] = (bits,) * channels
    directory[259] = _DEFLATE
    directory[262] = _BLACK_IS_ZERO if is_grey else _RGB
    directory[277] = channels
    directory[284] = 1
    directory[317] = _NONE if is_float else _HORIZONTAL
    if channels in (2, 4):
        directory[338] = (_UNASSOCIATED,)
    directory[339] = (3 if is_float else 1,) * channels
    if metadata.dpi is not None:
        directory[exif.X_RESOLUTION], directory[exif.Y_RESOLUTION] = metadata.dpi
        directory[exif.RESOLUTION_UNIT] = 2
    blobs = (
        (exif.XMP, _BYTE, metadata.xmp),
        (exif.IPTC, _UNDEFINED, iptc.records_in(metadata.photoshop)),
        (exif.PHOTOSHOP, _BYTE, metadata.photoshop),
        (exif.ICC, _UNDEFINED, metadata.icc),
    )
    for tag, kind, content in blobs:
        if content is not None:
            directory.tagtype[tag] = kind
            directory[tag] = content
    rows = max(1, _STRIP_BYTES // (width * channels * samples.itemsize))
    strips = [_strip(samples[top : top + rows], is_float) for top in range(0, height, rows)]
    directory[278] = rows
    directory.tagtype[273] = directory.tagtype[279] = _LONG
    directory[279] = tuple(len(strip) for strip in strips)
    # offsets count from the end of the directory; Pillow adds where that is, for one strip or for many
    starts = np.cumsum([0, *(len(strip) for strip in strips[:-1])])
    directory[273] = tuple(int(start) for start in starts)
    file = io.BytesIO()
    directory.save(file)
    for strip in strips:
        file.write(strip)
    return file.getvalue()


def _strip(rows: np.ndarray, is_float: bool) -> bytes:
    little = rows.astype(rows.dtype.newbyteorder("<"))
    if not is_float:
        little[:, 1:] -= little[:, :-1].copy()
    return zlib.compress(little.tobytes(), FAST)
