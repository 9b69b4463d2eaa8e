"""All that a picture file says of itself, as JSON values."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from PIL import ExifTags, Image

from topcoat.pictures import colour, exif, iptc, xmp
from topcoat.pictures.formats import format_of_pillow
from topcoat.pictures.metadata import metadata_of
from topcoat.pictures.provenance import records_of
from topcoat.pictures.reading import open_picture
from topcoat.pictures.signing import manifest_of

_DATASETS = {
    5: "title", 25: "keywords", 55: "date created", 80: "by-line", 90: "city", 101: "country", 105: "headline",
    110: "credit", 115: "source", 116: "copyright", 120: "caption",
}  # fmt: skip
"""Names of IPTC-IIM datasets of record 2."""


def inspect_bytes(data: bytes, name: str) -> dict[str, Any]:
    """Format, size, marks of AI, texts, EXIF, IPTC, profile and C2PA manifest of a file; pixels are not decoded.

    Raises `DataError`, naming ``name``, for what is no picture.
    """
    with open_picture(data, name) as picture:
        kind = format_of_pillow(picture.format)
        assert kind is not None, "only these formats are opened"
        metadata = metadata_of(picture, data)
        records = [{key: value for key, value in asdict(each).items() if value} for each in records_of(metadata.xmp)]
        return {
            "format": kind.title,
            "size_px": [picture.width, picture.height],
            "frames": int(getattr(picture, "n_frames", 1)),
            "digital_source_type": xmp.source_type(metadata.xmp),
            "topcoat": records,
            "c2pa": manifest_of(data, kind),
            "texts": dict(metadata.texts),
            "profile": None if metadata.icc is None else colour.name_of(metadata.icc),
            "dpi": None if metadata.dpi is None else [round(value, 2) for value in metadata.dpi],
            "exif": _exif(metadata.exif),
            "iptc": _iptc(iptc.records_in(metadata.photoshop)),
            "xmp_bytes": len(metadata.xmp or b""),
            "xmp_damaged": xmp.is_damaged(metadata.xmp),
            "comment": metadata.comment and metadata.comment.decode("utf-8", "replace"),
        }


def _exif(block: bytes | None) -> dict[str, str]:
    if block is None:
        return {}
    tags = Image.Exif()
    tags.load(exif.framed(block))
    named = {ExifTags.TAGS.get(tag, f"tag {tag}"): value for tag, value in tags.items() if tag not in _DIRECTORIES}
    named |= {ExifTags.TAGS.get(tag, f"tag {tag}"): value for tag, value in tags.get_ifd(exif.EXIF_IFD).items()}
    named |= {ExifTags.GPSTAGS.get(tag, f"tag {tag}"): value for tag, value in tags.get_ifd(exif.GPS_IFD).items()}
    return {name: _shown(value) for name, value in named.items()}


_DIRECTORIES = (exif.EXIF_IFD, exif.GPS_IFD, exif.INTEROP_IFD)


def _shown(value: Any) -> str:
    if not isinstance(value, bytes):
        return str(value)
    if value.startswith(b"UNICODE\0"):
        return value.removeprefix(b"UNICODE\0").decode("utf-16-be", "replace")
    text = value.rstrip(b"\0").removeprefix(b"ASCII\0\0\0")
    return text.decode("ascii") if text.isascii() and len(text) < 1000 else f"{len(value)} bytes"


def _iptc(records: bytes | None) -> dict[str, list[str]]:
    """Datasets of record 2 by name (IPTC-IIM 4.2, section 1.5: marker, record, dataset, length, content)."""
    found: dict[str, list[str]] = {}
    position = 0
    while records is not None and records[position : position + 1] == b"\x1c" and position + 5 <= len(records):
        record, dataset = records[position + 1], records[position + 2]
        length = int.from_bytes(records[position + 3 : position + 5], "big")
        content = records[position + 5 : position + 5 + length]
        if record == 2 and dataset != 0:
            found.setdefault(_DATASETS.get(dataset, f"dataset {dataset}"), []).append(
                content.decode("utf-8", "replace")
            )
        position += 5 + length
    return found
