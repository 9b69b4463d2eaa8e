"""Pictures on their way in and out: what is accepted, and answers as files with their marks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from topcoat import __version__
from topcoat.embedded import MINI_NAME, name_of_model
from topcoat.enhance.masks import blended, brightness
from topcoat.errors import DataError
from topcoat.pictures import FORMATS, Picture, decode_picture, encode_picture, with_result
from topcoat.pictures.formats import Format, what_it_is
from topcoat.pictures.metadata import Metadata
from topcoat.pictures.provenance import Record, marked
from topcoat.pictures.reading import upright_size
from topcoat.serving.work import EnhanceSettings, GenerateSettings, HeadFacts, Sample, Subject

if TYPE_CHECKING:
    from topcoat.generators.base import ModelPair

ACCEPTED = ("png", "jpeg", "webp", "avif")
"""Formats of uploads and of answers."""
_MARK = b"DigitalSourceType"


def accepted_picture(data: bytes, name: str, max_megapixels: float) -> Picture:
    """The picture in an upload, whose format and size are looked at before its pixels are decoded.

    Raises `DataError` for another format than `ACCEPTED`, more pixels than that, or a damaged file.
    """
    if _format_by_content(data) is None:
        titles = ", ".join(FORMATS[each].title for each in ACCEPTED)
        raise DataError(f"{name} is not a picture that is taken here: {what_it_is(data)}; send {titles}")
    width_px, height_px = upright_size(data, name)
    if width_px * height_px > max_megapixels * 1_000_000:
        raise DataError(
            f"{name} has {width_px} x {height_px} px, which is more than {max_megapixels:g} megapixels; make it smaller"
        )
    return decode_picture(data, name)


def mask_of(data: bytes, name: str, size_px: tuple[int, int], max_megapixels: float) -> np.ndarray:
    """How much of the result is wanted at each pixel, ``(H, W)`` float32 in [0, 1].

    That is where a mask is transparent; where it has no transparency, where it is white. Raises `DataError` as
    `accepted_picture` does, and for a mask of another size (width, height) than the picture.
    """
    mask = accepted_picture(data, name, max_megapixels)
    if mask.size != size_px:
        raise DataError(
            f"{name} has {mask.size[0]} x {mask.size[1]} px and its picture {size_px[0]} x {size_px[1]}; send one of "
            "the same size"
        )
    if mask.alpha is not None:
        full = np.float32(255 if mask.bits == 8 else 65535)
        return 1 - mask.alpha.astype(np.float32) / full
    return brightness(mask)


def generated_file(
    sample: Sample,
    subject: Subject,
    settings: GenerateSettings,
    pair: ModelPair,
    head: HeadFacts | None,
    kind: Format,
    quality: int | None,
) -> bytes:
    """A generated image as a file that says how it was made, as `topcoat generate` writes it."""
    spec = pair.distilled if settings.side == "distilled" else pair.baseline
    model = MINI_NAME if pair.name == "mini" else name_of_model(spec.model)
    strength = sample.used_strength(settings.strength)
    gate = {} if sample.decision is None else {"gate": str(sample.decision.kept)}
    texts = {
        "prompt": subject.prompt,
        "seed": str(subject.seed),
        "pair": pair.name if pair.name == "mini" else name_of_model(pair.name),
        "model": model,
        "steps": str(settings.steps or spec.steps),
        "head": head.digest if head else "none",
        "strength": f"{strength:g}",
        "software": f"topcoat {__version__}",
        **gate,
    }
    record = Record(
        "generate",
        generator=model,
        head=head.name if head else None,
        head_digest=head.digest if head else None,
        strength=texts["strength"] if head else None,
        gate=gate.get("gate"),
    )
    return _marked_file(Picture(sample.image, None, kind, Metadata(texts=texts)), record, kind, quality)[0]


def enhanced_file(
    picture: Picture,
    seen: np.ndarray,
    sample: Sample,
    mask: np.ndarray | None,
    settings: EnhanceSettings,
    head: HeadFacts,
    kind: Format,
    quality: int | None,
) -> tuple[bytes, tuple[str, ...]]:
    """An enhanced upload as a file with all that the upload carried, and what the file could not hold."""
    result = blended(seen, sample.image, mask)
    strength = sample.used_strength(settings.strength)
    record = Record(
        "enhance",
        head=head.name,
        head_digest=head.digest,
        strength=f"{strength:g}",
        gate=None if sample.decision is None else sample.decision.kept,
        where=None if mask is None else "mask",
    )
    content, notes = _marked_file(with_result(picture, seen, result), record, kind, quality)
    return content, (*picture.notes, *notes)


def _marked_file(picture: Picture, record: Record, kind: Format, quality: int | None) -> tuple[bytes, tuple[str, ...]]:
    """The file with its marks, whatever else it has to leave out for them."""
    metadata = marked(picture.metadata, record)
    if metadata is not None:
        content, notes = encode_picture(replace(picture, metadata=metadata), kind, quality)
        if _MARK in content:
            return content, notes
    # its XMP is damaged, or with its texts too large for the format
    bare = marked(replace(picture.metadata, xmp=None, xmp_extensions=(), texts={}, chunks=()), record)
    assert bare is not None, "a new packet takes any record"
    content, notes = encode_picture(replace(picture, metadata=bare), kind, quality)
    return content, (*notes, "its XMP and texts are not there, because they left no room for the marks of AI")


def _format_by_content(data: bytes) -> Format | None:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return FORMATS["png"]
    if data.startswith(b"\xff\xd8\xff"):
        return FORMATS["jpeg"]
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return FORMATS["webp"]
    return FORMATS["avif"] if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis") else None
