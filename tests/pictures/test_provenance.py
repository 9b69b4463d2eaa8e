"""Marks are added, kept, and read by an independent reader in every format."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.pictures.conftest import Exiftool, samples
from topcoat.pictures import Picture, read_picture, write_picture, xmp
from topcoat.pictures.inspection import inspect_bytes
from topcoat.pictures.metadata import Metadata
from topcoat.pictures.provenance import ENHANCED, GENERATED, Record, job_of, marked, records_of

SUFFIXES = ["jpg", "png", "webp", "avif", "tif"]
RECORD = Record("enhance", head="runs & <unet>", head_digest="0123456789abcdef", strength="0.8", job="f" * 32)


def mark(picture: Picture, record: Record = RECORD) -> Picture:
    metadata = marked(picture.metadata, record)
    assert metadata is not None
    return replace(picture, metadata=metadata)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_exiftool_reads_the_marks(suffix: str, exiftool: Exiftool, plain: Path, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    write_picture(path, mark(read_picture(plain)))
    found = json.loads(exiftool("-j", "-G1", "-a", "-struct", path))[0]
    assert found["XMP-iptcExt:DigitalSourceType"] == ENHANCED
    (record,) = found["XMP-topcoat:Record"]
    assert record == {
        "Action": "enhance", "Version": RECORD.version, "Head": "runs & <unet>", "HeadDigest": "0123456789abcdef",
        "Strength": 0.8, "Job": "f" * 32,
    }  # fmt: skip
    assert "Warning" not in found.get("ExifTool:Warning", "")
    assert records_of(read_picture(path).metadata.xmp) == (RECORD,)


@pytest.mark.parametrize("suffix", [*SUFFIXES, "bmp"])
def test_a_second_step_is_a_second_record(suffix: str, plain: Path, tmp_path: Path) -> None:
    made = Record("generate", generator="a model", head="embedded")
    write_picture(tmp_path / f"a.{suffix}", mark(read_picture(plain), made))
    again = mark(read_picture(tmp_path / f"a.{suffix}"))
    write_picture(tmp_path / f"b.{suffix}", again)
    found = read_picture(tmp_path / f"b.{suffix}").metadata.xmp
    assert records_of(found) == (made, RECORD) and job_of(found) == RECORD.job
    assert xmp.source_type(found) == GENERATED, "the mark that it came with is kept"


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("kind", ["digitalCapture", "trainedAlgorithmicMedia"])
def test_marks_of_others_are_kept(suffix: str, kind: str, exiftool: Exiftool, tmp_path: Path) -> None:
    uri = f"http://cv.iptc.org/newscodes/digitalsourcetype/{kind}"
    first, second = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    Image.fromarray(samples(3)).save(first)
    exiftool("-q", "-overwrite_original", f"-XMP-iptcExt:DigitalSourceType={uri}", "-XMP-dc:Creator=Ada",
             "-XMP-xmp:Rating=5", first)  # fmt: skip
    write_picture(second, mark(read_picture(first)))
    values = exiftool("-s3", "-XMP-iptcExt:DigitalSourceType", "-XMP-dc:Creator", "-XMP-xmp:Rating", second)
    assert values.split() == [uri, "Ada", "5"]
    assert len(records_of(read_picture(second).metadata.xmp)) == 1


def test_a_packet_that_another_program_rewrote(exiftool: Exiftool, plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    write_picture(path, mark(read_picture(plain)))
    exiftool("-q", "-overwrite_original", "-XMP-dc:Creator=Ada", path)
    picture = read_picture(path)
    assert records_of(picture.metadata.xmp) == (RECORD,)
    write_picture(tmp_path / "b.jpg", mark(picture, replace(RECORD, job="e" * 32)))
    assert [each.job for each in records_of(read_picture(tmp_path / "b.jpg").metadata.xmp)] == ["f" * 32, "e" * 32]


ATTRIBUTES = b"""<?xpacket begin='' id='x'?><x:xmpmeta xmlns:x='adobe:ns:meta/'>
<r:RDF xmlns:r='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>
<r:Description r:about='uuid:1' xmlns:I='http://iptc.org/std/Iptc4xmpExt/2008-02-29/' I:DigitalSourceType='http://x/y'
 xmlns:photoshop='http://ns.adobe.com/photoshop/1.0/' photoshop:Credit='S'/>
</r:RDF></x:xmpmeta><?xpacket end='w'?>"""


def test_other_prefixes_and_attributes_are_understood() -> None:
    assert xmp.source_type(ATTRIBUTES) == "http://x/y"
    packet = xmp.marked(ATTRIBUTES, GENERATED, RECORD.as_fields())
    assert packet is not None and b"uuid:1" in packet.split(b"topcoat:Record")[0].rpartition(b"Description")[0][-400:]
    assert xmp.source_type(packet) == "http://x/y" and records_of(packet) == (RECORD,)
    assert b'photoshop:Credit="S"' in packet


@pytest.mark.parametrize(
    "packet",
    [b"", b"not XML", b"<x/>", ATTRIBUTES[:-60], b"\xff\xfe\x00", b"<!DOCTYPE a [<!ENTITY b 'c'>]>" + ATTRIBUTES],
)
def test_damaged_packets_are_left_alone(packet: bytes) -> None:
    assert xmp.source_type(packet) is None and records_of(packet) == () and xmp.png_texts(packet) == {}
    if packet:
        assert marked(Metadata(xmp=packet), RECORD) is None and xmp.is_damaged(packet)


def test_control_characters_do_not_break_the_packet() -> None:
    packet = xmp.with_texts(None, {"parameters": "a\x00b\x1f ]]> <& ü"})
    assert xmp.png_texts(packet) == {"parameters": "a\x00b\x1f ]]> <& ü"}


@pytest.mark.parametrize("suffix", [*SUFFIXES, "bmp"])
def test_inspection_shows_every_mark(suffix: str, plain: Path, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    write_picture(path, mark(read_picture(plain)))
    found = inspect_bytes(path.read_bytes(), str(path))
    assert found["digital_source_type"] == ENHANCED and found["c2pa"] is None
    assert found["topcoat"][0]["head"] == "runs & <unet>"
    assert found["size_px"] == [50, 40] and found["frames"] == 1


def test_inspection_reads_exif_and_iptc(exiftool: Exiftool, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(samples(3)).save(path, dpi=(300, 300), comment=b"hi")
    exiftool("-q", "-overwrite_original", "-IPTC:Keywords=one", "-IPTC:Keywords=two", "-EXIF:Artist=Ada",
             "-GPSLatitude=52.5", "-UserComment=note", path)  # fmt: skip
    found = inspect_bytes(path.read_bytes(), "a.jpg")
    assert found["iptc"] == {"keywords": ["one", "two"]}
    assert (
        found["exif"]["Artist"] == "Ada" and found["exif"]["UserComment"] == "note" and "GPSLatitude" in found["exif"]
    )
    assert found["dpi"] == [300, 300] and found["comment"] == "hi"
