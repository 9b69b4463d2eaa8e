"""What a picture file carries besides its pixels, in one form for all formats."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from topcoat.pictures import exif, iptc, png, xmp

XMP_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
PARAMETERS = "parameters"
"""The text chunk in which AUTOMATIC1111's web UI and its relatives keep prompt, seed and settings."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """Metadata of an upright picture; everything may be missing."""

    icc: bytes | None = None
    """The colour profile."""
    exif: bytes | None = None
    """A TIFF structure, without a header before it."""
    xmp: bytes | None = None
    """A packet."""
    xmp_extensions: tuple[bytes, ...] = ()
    """The parts of a JPEG's packet that had no room in it, as its segments hold them."""
    photoshop: bytes | None = None
    """Photoshop's resource blocks, IPTC-IIM among them."""
    dpi: tuple[float, float] | None = None
    texts: Mapping[str, str] = field(default_factory=dict[str, str])
    """A PNG's text chunks."""
    comment: bytes | None = None
    """A JPEG's comment."""
    chunks: tuple[png.Chunk, ...] = ()
    """A PNG's chunks as they are, for another PNG; the texts are among them."""
    has_manifest: bool = False
    """Whether a C2PA manifest signs the file, which no changed copy of it can keep."""


def metadata_of(picture: Image.Image, data: bytes) -> Metadata:
    """What ``picture``, opened from ``data``, carries; its orientation is taken as applied."""
    info = picture.info
    found = Metadata(
        icc=info.get("icc_profile") or None,
        exif=exif.bare(info.get("exif")),
        xmp=_bytes(info.get("xmp")),
        dpi=_dpi(info.get("dpi")),
        has_manifest=b"jumb" in data and b"c2pa" in data,
    )
    if isinstance(picture, PngImagePlugin.PngImageFile):
        found = _of_png(picture, data, found)
    elif isinstance(picture, JpegImagePlugin.JpegImageFile):
        segments = [content for name, content in picture.applist if name == "APP13" and content.startswith(iptc.APP13)]
        extensions = [content for _, content in picture.applist if content.startswith(XMP_EXTENSION)]
        found = replace(
            found,
            photoshop=b"".join(content.removeprefix(iptc.APP13) for content in segments) or None,
            xmp_extensions=tuple(extensions),
            comment=info.get("comment"),
        )
    elif isinstance(picture, TiffImagePlugin.TiffImageFile):
        has_density = exif.X_RESOLUTION in picture.tag_v2  # Pillow takes a missing one for 1
        dpi = found.dpi if has_density else None
        found = replace(found, exif=exif.from_tiff(picture), photoshop=_photoshop_of_tiff(picture), dpi=dpi)
    elif isinstance(picture, BmpImagePlugin.BmpImageFile) and data[:2] == b"BM":
        packet = data[14 : struct.unpack_from("<I", data, 10)[0]].partition(b"<?xpacket")  # where `writing` puts it
        found = replace(found, xmp=_bytes((packet[1] + packet[2]).rstrip(b" ")) if packet[1] else None)
    if found.photoshop is None and found.exif is not None and not isinstance(picture, PngImagePlugin.PngImageFile):
        found = replace(found, photoshop=_records_in_exif(found.exif))
    turned = picture.getexif().get(exif.ORIENTATION, 1) in (5, 6, 7, 8)
    size = (picture.height, picture.width) if turned else None
    return replace(
        found,
        exif=None if found.exif is None else exif.upright(found.exif, size),
        xmp=None if found.xmp is None else xmp.upright(found.xmp),
        dpi=found.dpi[::-1] if turned and found.dpi is not None else found.dpi,
        texts=found.texts or xmp.png_texts(found.xmp),
    )


def with_texts_in_xmp(metadata: Metadata) -> Metadata:
    """For formats without text chunks: the texts in the XMP packet, and the generating program's in EXIF as well."""
    if not metadata.texts:
        return metadata
    packet = xmp.with_texts(metadata.xmp, metadata.texts) or metadata.xmp
    parameters = metadata.texts.get(PARAMETERS)
    block = metadata.exif
    if parameters is not None:
        block = exif.with_tags(block, {exif.USER_COMMENT: exif.user_comment(parameters)})
    return replace(metadata, xmp=packet, exif=block)


def with_density_in_exif(metadata: Metadata) -> Metadata:
    """For formats that have no place of their own for it: the resolution in EXIF."""
    if metadata.dpi is None:
        return metadata
    across, down = metadata.dpi
    tags: dict[int, Any] = {exif.X_RESOLUTION: across, exif.Y_RESOLUTION: down, exif.RESOLUTION_UNIT: 2}
    return replace(metadata, exif=exif.with_tags(metadata.exif, tags))


def with_records_in_exif(metadata: Metadata) -> Metadata:
    """For formats that have no place of their own for them: IPTC's records in EXIF, under TIFF's tag."""
    records = iptc.records_in(metadata.photoshop)
    if records is None:
        return metadata
    return replace(metadata, exif=exif.with_tags(metadata.exif, {exif.IPTC: records}))


def png_chunks(metadata: Metadata) -> list[png.Chunk]:
    """The chunks that go before a PNG's pixels."""
    made: list[png.Chunk] = []
    has = {kind for kind, _ in metadata.chunks}
    if metadata.icc is not None:
        made.append(png.profile_chunk(metadata.icc))
    if b"pHYs" not in has and metadata.dpi is not None:
        per_metre = [max(1, round(value / 0.0254)) for value in metadata.dpi]
        made.append((b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    made += metadata.chunks
    if not has.intersection(png.TEXT_CHUNKS):
        made += [png.text_chunk(key, value) for key, value in metadata.texts.items()]
    if metadata.photoshop is not None and not any(iptc.PNG_KEYWORD.encode() in each[:40] for _, each in made):
        made.append(iptc.png_text(metadata.photoshop))
    if metadata.comment and "Comment" not in metadata.texts:
        made.append(png.text_chunk("Comment", metadata.comment.decode("utf-8", "replace")))
    if metadata.exif is not None:
        made.append((b"eXIf", metadata.exif))
    if metadata.xmp is not None:
        made.append((b"iTXt", png.XMP_KEYWORD + b"\0\0\0\0\0" + metadata.xmp))
    return made


def _of_png(picture: PngImagePlugin.PngImageFile, data: bytes, found: Metadata) -> Metadata:
    texts = {key: str(value) for key, value in picture.text.items()}
    profile = texts.pop(iptc.PNG_KEYWORD, None)
    legacy = texts.pop("Raw profile type exif", None)
    packet = texts.pop(png.XMP_KEYWORD.decode(), None)
    block = found.exif
    if block is None and legacy is not None:
        block = exif.bare(picture.getexif().tobytes())
    return replace(
        found,
        exif=block,
        xmp=found.xmp or _bytes(packet),
        photoshop=None if profile is None else iptc.from_png_text(profile),
        texts=texts,
        chunks=png.kept_chunks(data),
    )


def _photoshop_of_tiff(picture: TiffImagePlugin.TiffImageFile) -> bytes | None:
    tags = picture.tag_v2
    resources = tags.get(exif.PHOTOSHOP)
    if not isinstance(resources, bytes):
        resources = None
    # the tag's bytes as they are, where Pillow's own IPTC reader takes them: many programs say that they are words
    records = tags._tagdata.get(exif.IPTC)
    if records is None or iptc.records_in(resources) is not None:
        return resources
    if records[3:4] == b"\x1c" != records[:1]:  # words of the other byte order
        records = struct.pack(f">{len(records) // 4}I", *struct.unpack_from(f"<{len(records) // 4}I", records))
    return iptc.block_of(records) + (resources or b"")


def _records_in_exif(block: bytes) -> bytes | None:
    records = exif.directory(block).get(exif.IPTC)
    return iptc.block_of(records) if isinstance(records, bytes) else None


def _bytes(packet: bytes | str | None) -> bytes | None:
    found = packet.encode() if isinstance(packet, str) else packet
    return found.rstrip(b"\0") or None if found is not None else None


def _dpi(value: Any) -> tuple[float, float] | None:
    try:
        across, down = (float(each) for each in value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if 0 < across < 1e6 and 0 < down < 1e6 else None
