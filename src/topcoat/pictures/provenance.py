"""What a picture file says of how it was made: IPTC's digital source type and topcoat's own records, both in XMP.

Marks are added and never removed. A text-to-image picture is ``trainedAlgorithmicMedia``; a picture that was enhanced
keeps the type that it came with, and else becomes ``compositeWithTrainedAlgorithmicMedia``
(https://cv.iptc.org/newscodes/digitalsourcetype/).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from topcoat import __version__
from topcoat.pictures import xmp
from topcoat.pictures.metadata import Metadata

SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
GENERATED = SOURCE_TYPES + "trainedAlgorithmicMedia"
ENHANCED = SOURCE_TYPES + "compositeWithTrainedAlgorithmicMedia"

Action = Literal["generate", "enhance"]


@dataclass(frozen=True, slots=True)
class Record:
    """One step in a picture's life, as topcoat notes it."""

    action: Action
    version: str = __version__
    generator: str | None = None
    """Name of the model that made the image from a prompt."""
    head: str | None = None
    """Name of the head."""
    head_digest: str | None = None
    strength: str | None = None
    gate: str | None = None
    """What the gates did: enhanced, weakened or distilled."""
    where: str | None = None
    """Where alone the head worked: mask, faces, or both with a space between; None for the whole picture."""
    job: str | None = None
    """Digest of input, head and settings: a second run knows by it what is done."""

    def as_fields(self) -> dict[str, str]:
        """As XMP holds it."""
        return {_field(key): str(value) for key, value in asdict(self).items() if value is not None}


def marked(metadata: Metadata, record: Record) -> Metadata | None:
    """The metadata with one more record and a digital source type; None where its XMP is damaged and so left alone."""
    packet = xmp.marked(metadata.xmp, GENERATED if record.action == "generate" else ENHANCED, record.as_fields())
    return None if packet is None else replace(metadata, xmp=packet)


def records_of(packet: bytes | None) -> tuple[Record, ...]:
    """The records of an XMP packet, the oldest first; fields that a later version added are left out."""
    names = {_field(each.name): each.name for each in fields(Record)}
    found: list[Record] = []
    for entry in xmp.records(packet):
        known: dict[str, Any] = {names[key]: value for key, value in entry.items() if key in names}
        action = known.pop("action", None)
        if action in ("generate", "enhance"):
            found.append(Record(action, **{"version": "unknown", **known}))
    return tuple(found)


def job_of(packet: bytes | None) -> str | None:
    """The job of the last record."""
    records = records_of(packet)
    return records[-1].job if records else None


def _field(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))
