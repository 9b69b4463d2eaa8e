"""What a file carries survives every format, as ExifTool sees it."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from tests.pictures.conftest import Exiftool, samples
from topcoat.pictures import FORMATS, decode_picture, encode_picture, read_picture, write_picture
from topcoat.pictures import exif as exif_blocks

SUFFIXES = ["jpg", "png", "webp", "avif", "tif"]
TAGS = {
    "IPTC:Keywords": "portrait", "IPTC:By-line": "Ada", "XMP-dc:Creator": "Ada", "XMP-photoshop:Credit": "Studio",
    "EXIF:Copyright": "(c) Studio", "EXIF:Artist": "Ada", "GPS:GPSLatitude": "52.5", "ExifIFD:ExposureTime": "1/125",
    "ExifIFD:DateTimeOriginal": "2026:01:01 10:00:00", "ExifIFD:LensModel": "A lens",
}  # fmt: skip


def read_tags(exiftool: Exiftool, path: Path) -> dict[str, str]:
    found = json.loads(exiftool("-j", "-G1", "-a", *(f"-{tag.split(':')[1]}" for tag in TAGS), path))[0]
    return {key.split(":")[1]: value for key, value in found.items() if ":" in key}


@pytest.mark.parametrize(
    ("source", "target"), [("jpg", each) for each in SUFFIXES] + [(each, "jpg") for each in SUFFIXES]
)
def test_all_tags_go_from_any_format_to_any_other(source: str, target: str, exiftool: Exiftool, tmp_path: Path) -> None:
    first, second = tmp_path / f"a.{source}", tmp_path / f"b.{target}"
    Image.fromarray(samples(3)).save(first)
    try:
        exiftool("-q", "-overwrite_original", *(f"-{tag}={value}" for tag, value in TAGS.items()), first)
    except Exception:
        pytest.skip(f"this exiftool does not write {source}")
    before = read_tags(exiftool, first)
    write_picture(second, read_picture(first))
    after = read_tags(exiftool, second)
    assert {key: after.get(key) for key in before} == before


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "avif", "tif", "bmp"])
def test_dpi(suffix: str, tmp_path: Path) -> None:
    Image.fromarray(samples(3)).save(tmp_path / "a.png", dpi=(300, 150))
    path = tmp_path / f"b.{suffix}"
    write_picture(path, read_picture(tmp_path / "a.png"))
    dpi = read_picture(path).metadata.dpi
    with Image.open(path) as picture:
        found = picture.info.get("dpi") or [picture.getexif()[tag] for tag in (0x011A, 0x011B)]
    assert [round(float(each)) for each in found] == [300, 150]
    assert dpi is None or [round(each) for each in dpi] == [300, 150]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_texts_of_generating_programs(suffix: str, tmp_path: Path) -> None:
    texts = {"parameters": "woman, freckles\nSteps: 4, Seed: 77", "prompt": '{"3": {"class_type": "KSampler"}}',
             "workflow": '{"nodes": []}', "Title": "ü & <b>"}  # fmt: skip
    info = PngImagePlugin.PngInfo()
    for key, value in texts.items():
        info.add_itxt(key, value, zip=key == "workflow")
    Image.fromarray(samples(3)).save(tmp_path / "a.png", pnginfo=info)
    write_picture(tmp_path / f"b.{suffix}", read_picture(tmp_path / "a.png"))
    between = read_picture(tmp_path / f"b.{suffix}")
    assert between.metadata.texts == texts
    if suffix == "jpg":  # where AUTOMATIC1111's web UI looks
        with Image.open(tmp_path / "b.jpg") as picture:
            comment = picture.getexif().get_ifd(0x8769)[0x9286]
        assert comment.removeprefix(b"UNICODE\0").decode("utf-16-be") == texts["parameters"]
    write_picture(tmp_path / "c.png", between)
    with Image.open(tmp_path / "c.png") as picture:
        assert isinstance(picture, PngImagePlugin.PngImageFile)
        assert {key: picture.text.get(key) for key in texts} == texts


def test_png_chunks_are_kept_as_they_are(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "first")
    info.add_text("Comment", "second", zip=True)
    info.add(b"gAMA", struct.pack(">I", 45455))
    info.add(b"tIME", struct.pack(">HBBBBB", 2026, 11, 28, 1, 2, 3))
    info.add(b"prVt", b"private, and safe to copy")
    info.add(b"prVT", b"private, and not safe")
    Image.fromarray(samples(3)).save(tmp_path / "a.png", pnginfo=info)
    data, _ = encode_picture(read_picture(tmp_path / "a.png"), FORMATS["png"])
    assert data.count(b"Comment\0") == 2 and b"private, and safe to copy" in data and b"tIME" in data
    assert b"private, and not safe" not in data
    assert struct.pack(">I", 45455) in data


@pytest.mark.parametrize("source", ["jpg", "png", "webp"])
def test_exif_is_the_same_bytes_but_for_orientation_and_thumbnail(source: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0xC4A5] = "Maker", 6, b"PrintIM"
    exif.get_ifd(0x8769)[0x927C] = b"a maker note with offsets of its own"
    Image.fromarray(samples(3)).save(tmp_path / f"a.{source}", exif=exif)
    given = exif.tobytes().removeprefix(b"Exif\0\0")
    kept = read_picture(tmp_path / f"a.{source}").metadata.exif
    assert kept is not None and len(kept) == len(given)
    assert sum(one != other for one, other in zip(kept, given, strict=True)) == 1


def test_the_recorded_size_turns_with_the_picture(exiftool: Exiftool, plain: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0xA002], exif.get_ifd(0x8769)[0xA003] = 50, 40
    Image.fromarray(samples(3)).save(tmp_path / "a.jpg", exif=exif, dpi=(300, 150))
    write_picture(tmp_path / "b.jpg", read_picture(tmp_path / "a.jpg"))
    shown = exiftool("-s3", "-n", "-p", "$ImageSize $ExifImageWidth $Orientation $XResolution", tmp_path / "b.jpg")
    assert shown == "40 50 40 1 150"


def test_orientation_in_xmp_is_reset() -> None:
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
        b"</rdf:RDF></x:xmpmeta>"
    )
    buffer = io.BytesIO()
    Image.fromarray(samples(3)).save(buffer, "WEBP", xmp=packet, lossless=True)
    picture = decode_picture(buffer.getvalue())
    assert picture.size == (40, 50) and picture.metadata.xmp == packet.replace(b'"6"', b'"1"')


def test_a_damaged_exif_block_is_survived(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 3
    whole = exif.tobytes().removeprefix(b"Exif\0\0")
    for cut in range(len(whole)):
        exif_blocks.upright(whole[:cut])
    assert exif_blocks.bare(b"Exif\0\0nonsense") is None and exif_blocks.bare(None) is None


def test_a_long_xmp_of_a_jpeg_goes_into_a_png_whole(tmp_path: Path, exiftool: Exiftool, plain: Path) -> None:
    note = "x" * 60_000
    source = tmp_path / "a.jpg"
    Image.fromarray(samples(3)).save(source)
    exiftool("-q", "-overwrite_original", f"-XMP-dc:Description={note}", f"-XMP-dc:Rights={note}", source)
    picture = read_picture(source)
    assert picture.metadata.xmp_extensions, "the packet is over 64 KB and was split"
    write_picture(tmp_path / "b.jpg", picture)
    assert exiftool("-s3", "-XMP-dc:Rights", tmp_path / "b.jpg") == note


def test_jpeg_says_what_has_no_room(plain: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "w" * 70_000)
    buffer = io.BytesIO()
    Image.fromarray(samples(3)).save(buffer, "PNG", pnginfo=info)
    _, notes = encode_picture(decode_picture(buffer.getvalue()), FORMATS["jpeg"])
    assert "XMP" in notes[0] and "JPEG holds" in notes[0]


def test_comments_of_jpeg(tmp_path: Path) -> None:
    Image.fromarray(samples(3)).save(tmp_path / "a.jpg", comment=b"hello")
    for name in ("b.jpg", "b.png"):
        write_picture(tmp_path / name, read_picture(tmp_path / "a.jpg"))
        with Image.open(tmp_path / name) as picture:
            assert picture.info.get("comment", picture.info.get("Comment")) in (b"hello", "hello")
