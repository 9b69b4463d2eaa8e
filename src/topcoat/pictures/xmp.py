"""XMP packets (ISO 16684-1): what topcoat reads from one, and adds to one without touching the rest of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from xml.dom import minidom
from xml.parsers.expat import ExpatError

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
IPTC_EXT = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
TOPCOAT = "urn:topcoat:provenance:1#"
_XMLNS = "http://www.w3.org/2000/xmlns/"
_EMPTY = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    f'<rdf:RDF xmlns:rdf="{RDF}"></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
_ORIENTATION = re.compile(rb"(tiff:Orientation(?:\s*=\s*[\"']|\s*>\s*))[2-8]")


def source_type(packet: bytes | None) -> str | None:
    """IPTC's DigitalSourceType, as a URI of its newscodes; None where there is none or the packet is damaged."""
    document = _parsed(packet)
    return None if document is None else next(_values(document, IPTC_EXT, "DigitalSourceType"), None)


def records(packet: bytes | None) -> list[dict[str, str]]:
    """What topcoat noted, the oldest first: a mapping of names for each time that it made or changed the picture."""
    document = _parsed(packet)
    if document is None:
        return []
    found: list[dict[str, str]] = []
    for record in document.getElementsByTagNameNS(TOPCOAT, "Record"):
        for item in record.getElementsByTagNameNS(RDF, "li"):
            # a rewritten packet may have the fields as attributes, or as elements of an inner description
            fields = [each for each in item.getElementsByTagNameNS(TOPCOAT, "*") if _text(each)]
            pairs = {each.localName or "": _text(each) for each in fields}
            for node in (item, *item.getElementsByTagNameNS(RDF, "Description")):
                pairs |= _attributes(node)
            found.append(pairs)
    return found


def png_texts(packet: bytes | None) -> dict[str, str]:
    """Text chunks of a PNG that went through another format, as `with_texts` keeps them."""
    document = _parsed(packet)
    text = None if document is None else next(_values(document, TOPCOAT, "Text"), None)
    try:
        kept = json.loads(text or "{}")
    except json.JSONDecodeError:
        return {}
    return {str(key): str(value) for key, value in kept.items()} if isinstance(kept, dict) else {}


def marked(packet: bytes | None, kind: str, record: Mapping[str, str]) -> bytes | None:
    """The packet with one more record, and with DigitalSourceType ``kind`` where it has none.

    None stands for no packet, and comes back for a damaged one, which is left to the caller.
    """
    document = _parsed(packet or _EMPTY.encode())
    if document is None:
        return None
    if next(_values(document, IPTC_EXT, "DigitalSourceType"), None) is None:
        _add_text(document, _description(document, IPTC_EXT, "Iptc4xmpExt"), "Iptc4xmpExt:DigitalSourceType", kind)
    existing = document.getElementsByTagNameNS(TOPCOAT, "Record")
    rdf = _rdf_prefix(document)
    if existing and existing[0].getElementsByTagNameNS(RDF, "Seq"):
        sequence = existing[0].getElementsByTagNameNS(RDF, "Seq")[0]
        prefix = existing[0].prefix
    else:
        prefix = "topcoat"
        parent = _description(document, TOPCOAT, prefix)
        parent = parent.appendChild(document.createElementNS(TOPCOAT, "topcoat:Record"))
        sequence = parent.appendChild(document.createElementNS(RDF, f"{rdf}:Seq"))
    item = sequence.appendChild(document.createElementNS(RDF, f"{rdf}:li"))
    item.setAttributeNS(RDF, f"{rdf}:parseType", "Resource")
    for name, value in record.items():
        _add_text(document, item, f"{prefix}:{name}", value)
    return _packed(document)


def with_texts(packet: bytes | None, texts: Mapping[str, str]) -> bytes | None:
    """The packet with a PNG's text chunks in it, for formats that have no such chunks; None for a damaged packet."""
    document = _parsed(packet or _EMPTY.encode())
    if document is None:
        return None
    for old in document.getElementsByTagNameNS(TOPCOAT, "Text"):
        if old.parentNode is not None:
            old.parentNode.removeChild(old)
    content = json.dumps(dict(texts), ensure_ascii=False)
    _add_text(document, _description(document, TOPCOAT, "topcoat"), "topcoat:Text", content)
    return _packed(document)


def upright(packet: bytes) -> bytes:
    """The packet with orientation 1."""
    return _ORIENTATION.sub(rb"\g<1>1", packet)


def is_damaged(packet: bytes | None) -> bool:
    """Whether there is a packet that cannot be parsed."""
    return packet is not None and _parsed(packet) is None


def _parsed(packet: bytes | None) -> minidom.Document | None:
    if packet is None:
        return None
    packet = packet.strip(b"\0 \t\r\n")
    if b"<!DOCTYPE" in packet or b"<!ENTITY" in packet:  # XMP has none; an attack would
        return None
    try:
        document = minidom.parseString(packet)
    except (ExpatError, ValueError, LookupError):
        return None
    return document if document.getElementsByTagNameNS(RDF, "RDF") else None


def _packed(document: minidom.Document) -> bytes:
    return "".join(node.toxml() for node in document.childNodes).encode()


def _values(document: minidom.Document, namespace: str, name: str) -> Iterator[str]:
    """A simple property, written as an element or as an attribute."""
    for element in document.getElementsByTagNameNS(namespace, name):
        if value := _text(element) or element.getAttributeNS(RDF, "resource"):
            yield value
    for element in document.getElementsByTagNameNS(RDF, "Description"):
        if value := element.getAttributeNS(namespace, name):
            yield value


def _text(element: minidom.Element) -> str:
    texts = [node.data for node in element.childNodes if isinstance(node, minidom.Text)]
    has_children = any(isinstance(node, minidom.Element) for node in element.childNodes)
    return "" if has_children else "".join(texts).strip()


def _attributes(element: minidom.Element) -> dict[str, str]:
    return {name: value for (space, name), value in element.attributes.itemsNS() if space == TOPCOAT}


def _rdf_prefix(document: minidom.Document) -> str:
    return document.getElementsByTagNameNS(RDF, "RDF")[0].prefix or "rdf"


def _description(document: minidom.Document, namespace: str, prefix: str) -> minidom.Element:
    """A new description of the same resource as the others, which declares one namespace."""
    rdf = _rdf_prefix(document)
    others = document.getElementsByTagNameNS(RDF, "Description")
    made = document.createElementNS(RDF, f"{rdf}:Description")
    made.setAttributeNS(RDF, f"{rdf}:about", others[0].getAttributeNS(RDF, "about") if others else "")
    made.setAttributeNS(_XMLNS, f"xmlns:{prefix}", namespace)
    made.setAttributeNS(_XMLNS, f"xmlns:{rdf}", RDF)  # the packet may have it as the default namespace
    document.getElementsByTagNameNS(RDF, "RDF")[0].appendChild(made)
    return made


def _add_text(document: minidom.Document, parent: minidom.Element, name: str, value: str) -> None:
    element = parent.appendChild(document.createElement(name))
    element.appendChild(document.createTextNode(_UNPRINTABLE.sub(" ", value)))


_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
