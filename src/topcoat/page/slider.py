"""The before/after slider, and the gallery that it takes its subjects from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from topcoat.page.document import safe


@dataclass(frozen=True, slots=True)
class Subject:
    """One subject: two or three images as ``(name, URI)``, the same names for every subject, and a caption."""

    images: Sequence[tuple[str, str]]
    caption: str
    title: str = ""
    """What stands before the caption in bold."""


def stage(subjects: Sequence[Subject], note: str) -> str:
    """The slider on the first subject, buttons for the others and, with three images, for what is compared.

    A page that has it needs `gallery` of the same subjects and ``document(slider=True)``; there may not be two. The
    script takes every image from the gallery, so that each is in the file once (those of the first subject twice).
    ``note`` stands under the image beside the slider. Empty without subjects.
    """
    if not subjects:
        return ""
    first = subjects[0].images
    two = [(place, safe(name), uri) for place, (name, uri) in zip(("left", "right"), first[:2], strict=True)]
    left, right = (f'id="{place}" src="{uri}" alt="{name}"' for place, name, uri in two)
    tags = "".join(f'<span class="tag {place}" id="{place}-tag">{name}</span>' for place, name, _ in two)
    parts = [
        f'<section class="stage{"" if len(first) > 2 else " alone"}" aria-label="One subject, before and after">',
        f'<figure><div class="compare" id="compare"><img {right}><div class="over"><img {left}></div>{tags}',
        '<input id="slider" type="range" min="0" max="100" value="50" step="0.5" aria-label="Before and after">',
        '<span class="knob" aria-hidden="true">&#x2194;</span></div>',
        f'<figcaption id="caption">{_caption(subjects[0])}</figcaption></figure>',
    ]
    if len(first) > 2:
        name, uri = first[2]
        parts.append(
            f'<figure><div class="solo"><img id="third" src="{uri}" alt="{safe(name)}"><span class="tag left" '
            f'id="third-tag">{safe(name)}</span></div><figcaption>{safe(note)}</figcaption></figure>'
        )
    groups = '<div class="choices" id="choices"></div><div class="thumbs" id="thumbs"></div>'
    return f"{''.join(parts)}</section>{groups}"


def gallery(subjects: Sequence[Subject]) -> str:
    """Every subject's images side by side."""
    rows = []
    for subject in subjects:
        images = "".join(
            f'<div><img src="{uri}" alt="{safe(name)}"><span>{safe(name)}</span></div>' for name, uri in subject.images
        )
        rows.append(f'<figure><div class="row">{images}</div><figcaption>{_caption(subject)}</figcaption></figure>')
    return f'<section class="gallery" id="gallery">{"".join(rows)}</section>'


def _caption(subject: Subject) -> str:
    return (f"<b>{safe(subject.title)}</b> " if subject.title else "") + safe(subject.caption)
