"""Render a page from a template of this room. Every value is escaped; `charts` and `Markup` alone are HTML.

Pictures are embedded as data URIs.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

_LOSSLESS_PX = 256
"""Images up to this side are embedded as PNG, where that is small enough; others as WebP."""
_QUALITIES = (90, 75, 50)
_SMALLEST_PX = 32


@dataclass(frozen=True, slots=True)
class Subject:
    """One subject of the slider and the gallery."""

    images: Sequence[tuple[str, str]]
    """Two or three ``(name, data URI)``, the same names for every subject."""
    caption: str
    title: str = ""
    """Shown in bold before the caption."""


@dataclass(frozen=True, slots=True)
class Card:
    """One figure with its name, shown large."""

    name: str
    figure: str
    detail: Sequence[str] = ()
    """A line each."""
    kind: str = ""
    """Shown in the corner, such as ``measured`` or ``computed``."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing with its title and a note."""

    title: str
    note: str
    drawing: Markup
    wide: bool = False


def render(template: str, **values: Any) -> str:
    """The page from ``templates/<template>``, which extends ``layout.html.j2``.

    A template takes its parts (cards, tables, the slider, ...) from ``parts.html.j2``. A missing value is an error.
    """
    return environment().get_template(template).render(**values)


def prose(text: str) -> Markup:
    """Text as HTML, with per cent signs that stay on the line of their number."""
    return Markup(escape(text).replace(" %", Markup("&nbsp;%")))


@lru_cache
def environment() -> Environment:
    """Where templates are found, with the filters ``prose`` and ``json``."""
    templates = Environment(
        loader=PackageLoader("topcoat.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"prose": prose, "json": partial(json.dumps, indent=2, ensure_ascii=False)}
    return templates


def data_uri(image: Tensor, *, largest_px: int = 768, most_bytes: float = math.inf) -> str:
    """A data URI of one image ``(3, H, W)`` in [0, 1], at most ``largest_px`` a side.

    Under ``most_bytes`` (of the URI) it is made coarser, then smaller, until it fits or is 32 px.
    """
    from topcoat.images import encode_png, to_pil  # with torch, which not every page needs

    picture = to_pil(image)
    uri = ""
    if max(picture.size) <= _LOSSLESS_PX:
        uri = _data_uri("png", encode_png(image))
    picture.thumbnail((largest_px, largest_px), Image.Resampling.LANCZOS)
    qualities = iter(_QUALITIES)
    while not uri or len(uri) > most_bytes:
        quality = next(qualities, None)
        if quality is None:
            if max(picture.size) <= _SMALLEST_PX:
                break
            picture = picture.resize([max(1, side // 2) for side in picture.size], Image.Resampling.LANCZOS)
            quality = _QUALITIES[-1]
        buffer = io.BytesIO()
        picture.save(buffer, "WEBP", quality=quality)
        uri = _data_uri("webp", buffer.getvalue())
    return uri


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
