"""Sentence templates: how the attributes of a subject become a prompt's text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Formatter

from topcoat.config import StrictModel, load_config
from topcoat.errors import UsageError
from topcoat.prompts.prompt import MAX_WORDS
from topcoat.prompts.vocabulary import Vocabulary

REQUIRED_FIELDS = ("age", "presentation")
"""What every sentence must say: a portrait of nobody in particular is no portrait prompt."""

_PART = re.compile(r"\[([^\[\]]*)\]|([^\[\]]+)")
_AN = re.compile(r"[aeiou]|8|1[18](?!\d)", re.IGNORECASE)


class TemplateFile(StrictModel):
    """What a file of templates holds."""

    templates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of text, with the field that follows it if there is one."""

    text: str
    field: str | None
    with_article: bool


@dataclass(frozen=True, slots=True)
class Template:
    """A sentence with fields; ``parts`` are (is it optional, its pieces)."""

    parts: tuple[tuple[bool, tuple[_Piece, ...]], ...]

    @property
    def fields(self) -> frozenset[str]:
        """The fields that the sentence says."""
        return frozenset(piece.field for _, pieces in self.parts for piece in pieces if piece.field)

    @property
    def needed_fields(self) -> frozenset[str]:
        """The fields that stand outside brackets."""
        return frozenset(
            piece.field for optional, pieces in self.parts if not optional for piece in pieces if piece.field
        )

    def fill(self, said: Mapping[str, str]) -> str:
        """The sentence; an optional part is left out where a field of it is not in ``said``."""
        text = ""
        for optional, pieces in self.parts:
            if optional and any(piece.field and piece.field not in said for piece in pieces):
                continue
            for piece in pieces:
                text += piece.text
                if piece.field:
                    words = said[piece.field]
                    text += f"{_article(words)} {words}" if piece.with_article else words
        return " ".join(text.split())


def default_templates(vocabulary: Vocabulary) -> tuple[Template, ...]:
    """The packaged sentences of the photo style; raises `UsageError` if the vocabulary lacks an attribute of theirs."""
    return read_templates(Path(__file__).with_name("templates.toml"), vocabulary)


def read_templates(path: str | Path, vocabulary: Vocabulary) -> tuple[Template, ...]:
    """Sentence templates from a TOML, YAML or JSON file that fit a vocabulary.

    Raises `UsageError` with one sentence for an unknown, unclosed or missing field.
    """
    texts = load_config(path, TemplateFile).templates
    if not texts:
        raise UsageError(f"{path}: templates is empty; write one sentence or more")
    templates = []
    for number, text in enumerate(texts, start=1):
        try:
            templates.append(parse_template(text, vocabulary))
        except UsageError as error:
            raise UsageError(f"{path} template {number}: {error}") from None
    return tuple(templates)


def parse_template(text: str, vocabulary: Vocabulary) -> Template:
    """One sentence, checked against a vocabulary; raises `UsageError` like `read_templates`."""
    if "".join(match[0] for match in _PART.finditer(text)) != text:
        raise UsageError("square brackets must be closed and not stand within each other; correct them")
    if len(text.split()) > MAX_WORDS:
        raise UsageError(f"it has {len(text.split())} words; at most {MAX_WORDS} are allowed, shorten it")
    known = ("name", "age", *vocabulary.attributes, "locale")
    parts = tuple(
        (match[1] is not None, tuple(_pieces(match[1] if match[1] is not None else match[2], known)))
        for match in _PART.finditer(text)
    )
    template = Template(parts)
    for name in REQUIRED_FIELDS:
        if name not in template.needed_fields:
            raise UsageError(f"it does not say {{{name}}} outside brackets; add it")
    for name in vocabulary.only_for:
        if name in template.needed_fields:
            raise UsageError(f"not every subject has {name}; put [square brackets] around the part with {{{name}}}")
    if "locale" in template.needed_fields:
        raise UsageError("names from a file have no locale; put [square brackets] around the part with {locale}")
    return template


def _pieces(text: str, known: tuple[str, ...]) -> Iterator[_Piece]:
    try:
        parsed = list(Formatter().parse(text))
    except ValueError as error:
        raise UsageError(f"a brace is not closed or not opened ({error}); write fields as {{name}}") from None
    for literal, field, spec, conversion in parsed:
        if field is not None and field not in known:
            raise UsageError(f"the field {{{field}}} is unknown; use one of: {', '.join(known)}")
        if spec not in (None, "", "a") or conversion:
            raise UsageError(f"the field {{{field}}} can be written so or as {{{field}:a}}, with its article")
        yield _Piece(literal, field, spec == "a")


def _article(words: str) -> str:
    """The article of words that may begin with a number: an 18-year-old, an 85mm lens."""
    return "an" if _AN.match(words) else "a"
