"""Picture files: read with everything that they carry, and written back with it.

Imports numpy and Pillow alone (no torch), so that enhancing pictures need not load more. The images inside topcoat are
those of `topcoat.images`; here is what a file holds besides.
"""

from topcoat.pictures.formats import FORMATS, Format, format_of
from topcoat.pictures.picture import Picture, seen_by_head, with_result
from topcoat.pictures.reading import decode_picture, read_picture
from topcoat.pictures.writing import encode_picture, write_picture

__all__ = [
    "FORMATS",
    "Format",
    "Picture",
    "decode_picture",
    "encode_picture",
    "format_of",
    "read_picture",
    "seen_by_head",
    "with_result",
    "write_picture",
]
