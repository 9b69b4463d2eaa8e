"""The vocabulary of the photo style: which attributes there are, their words, and what does not go together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pydantic

from topcoat.config import StrictModel, load_config
from topcoat.errors import UsageError
from topcoat.prompts.names import Gender, check_locale

REQUIRED = ("presentation", "age_band", "region")
"""Attributes that every vocabulary has: first names, ages and locales follow from them."""

RESERVED = ("id", "prompt", "text", "caption", "split", "seed", "attributes", "name", "age", "locale")
"""Column names that are taken, so no attribute may have one."""


class Rule(StrictModel):
    """A combination of words that is never sampled: the words of ``when``, by attribute, and ``why`` not."""

    why: str = ""
    when: dict[str, tuple[str, ...]]

    @pydantic.model_validator(mode="before")
    @classmethod
    def _from_table(cls, table: dict[str, Any]) -> dict[str, Any]:
        """In a file the attributes stand beside ``why``, and a single word needs no brackets."""
        words = {name: (word,) if isinstance(word, str) else word for name, word in table.items() if name != "why"}
        return {"why": table.get("why", ""), "when": words}


class Vocabulary(StrictModel):
    """Attributes in the order in which they are sampled, and how their words are phrased and named."""

    attributes: dict[str, tuple[str, ...]]
    locales: dict[str, tuple[str, ...]]
    """The Faker locales of each region."""
    given_names: dict[str, Gender]
    """The kind of name of each presentation."""
    phrases: dict[str, dict[str, str]] = pydantic.Field(default_factory=dict)
    only_for: dict[str, dict[str, str]] = pydantic.Field(default_factory=dict)
    """An attribute here belongs only to subjects that have the given word of another attribute."""
    implausible: tuple[Rule, ...] = ()
    shorten: tuple[str, ...] = ()
    """Attributes that a sentence too long for CLIP says by their words alone, or not at all."""

    def phrase(self, name: str, word: str) -> str:
        """A word as it stands in a sentence."""
        return self.phrases.get(name, {}).get(word, word)


def read_vocabulary(path: str | Path | None = None) -> Vocabulary:
    """A vocabulary from a TOML, YAML or JSON file, by default the packaged one; raises `UsageError` for a wrong one."""
    path = path or Path(__file__).with_name("photo.toml")
    vocabulary = load_config(path, Vocabulary)
    for problems in (_attribute_problems, _name_problems, _condition_problems):
        for problem in problems(vocabulary):
            raise UsageError(f"{path}: {problem}")
    return vocabulary


def _attribute_problems(vocabulary: Vocabulary) -> Iterator[str]:
    attributes = vocabulary.attributes
    for name in REQUIRED:
        if name not in attributes:
            yield f"attributes has no {name}; it needs {', '.join(REQUIRED)}"
    for name, words in attributes.items():
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            yield f"the attribute name {name!r} is not allowed; use small letters, digits and underscores"
        if name in RESERVED:
            yield f"the attribute name {name!r} is taken; choose another"
        if not words or any(not word.strip() for word in words):
            yield f"the attribute {name} has {'an empty word' if words else 'no words'}; give it one or more"
        for word in words:
            if words.count(word) > 1:
                yield f"the attribute {name} has the word {word!r} twice; leave one out"
    for band in attributes["age_band"]:
        years = re.fullmatch(r"(\d{1,3})-(\d{1,3})", band)
        if not years or not 1 <= int(years[1]) <= int(years[2]) <= 120:
            yield f"the age band {band!r} is no range of years within 1-120; write one such as 18-29"
    for name, phrases in vocabulary.phrases.items():
        yield from _unknown("phrases", vocabulary, name, phrases)
    for name in vocabulary.shorten:
        yield from _unknown("shorten", vocabulary, name, ())


def _name_problems(vocabulary: Vocabulary) -> Iterator[str]:
    for table, name in (("given_names", "presentation"), ("locales", "region")):
        keys = getattr(vocabulary, table)
        for word in vocabulary.attributes[name]:
            if not keys.get(word):
                yield f"{table} has nothing for the {name} {word!r}; add it"
        yield from _unknown(table, vocabulary, name, keys)
    for locale in (locale for locales in vocabulary.locales.values() for locale in locales):
        try:
            check_locale(locale)
        except UsageError as error:
            yield str(error)


def _condition_problems(vocabulary: Vocabulary) -> Iterator[str]:
    order = list(vocabulary.attributes)
    for name, condition in vocabulary.only_for.items():
        yield from _unknown("only_for", vocabulary, name, ())
        if name in REQUIRED:
            yield f"only_for: every subject has {name}; leave that line out"
        if len(condition) != 1:
            yield f"only_for: {name} needs one attribute and one word of it, such as {{ presentation = 'man' }}"
        for owner, word in condition.items():
            yield from _unknown("only_for", vocabulary, owner, (word,))
            if owner in vocabulary.only_for or order.index(owner) >= order.index(name):
                yield f"only_for: {name} must come after {owner} in attributes, and every subject must have {owner}"
    for rule in vocabulary.implausible:
        if not rule.why or len(rule.when) < 2:
            yield "implausible: a rule needs why and the words of two attributes or more"
        for name, words in rule.when.items():
            yield from _unknown(f"implausible ({rule.why})", vocabulary, name, words)
            if name in vocabulary.only_for:
                yield f"implausible ({rule.why}): {name} is in only_for, which a rule may not use; leave one out"


def _unknown(table: str, vocabulary: Vocabulary, name: str, words: Iterable[str]) -> Iterator[str]:
    """What is wrong with words of an attribute that ``table`` refers to."""
    known = vocabulary.attributes.get(name)
    if known is None:
        yield f"{table}: there is no attribute {name!r}; use one of: {', '.join(vocabulary.attributes)}"
        return
    for word in words:
        if word not in known:
            yield f"{table}: the attribute {name} has no word {word!r}; use one of: {', '.join(known)}"
