"""The vocabulary of the photo style: which attributes there are, their words, and what does not go together."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Literal

from pydantic import Field

from topcoat.config import StrictModel, load_config
from topcoat.errors import UsageError

REQUIRED = ("presentation", "age_band", "region")
"""Attributes that every vocabulary has: first names, ages and locales follow from them."""

RESERVED = ("id", "prompt", "text", "caption", "split", "attributes", "name", "age", "locale")
"""Column names that are taken, so no attribute may have one."""

Gender = Literal["female", "male", "either"]
"""Which first names are taken; ``either`` is one of the two by chance."""


class Rule(StrictModel):
    """A combination of words that is not dealt: the words of ``when``, by attribute, and ``why`` not."""

    why: str
    when: dict[str, tuple[str, ...]]


class Vocabulary(StrictModel):
    """Attributes in the order in which they are dealt, and how their words are said and named.

    ``phrases`` says a word in a sentence where the word itself will not do; ``locales`` are the Faker locales of each
    region, ``given_names`` the kind of name of each presentation. An attribute in ``only_for`` is dealt only to
    subjects that have the given word of another attribute. ``implausible`` are tables of ``why`` and, by attribute,
    the words that do not go together.
    """

    attributes: dict[str, tuple[str, ...]]
    locales: dict[str, tuple[str, ...]]
    given_names: dict[str, Gender]
    phrases: dict[str, dict[str, str]] = Field(default_factory=dict)
    only_for: dict[str, dict[str, str]] = Field(default_factory=dict)
    implausible: tuple[dict[str, str | tuple[str, ...]], ...] = ()

    @functools.cached_property
    def rules(self) -> tuple[Rule, ...]:
        """``implausible``, taken apart."""
        return tuple(
            Rule(
                why=str(table.get("why", "")),
                when={
                    name: (words,) if isinstance(words, str) else words
                    for name, words in table.items()
                    if name != "why"
                },
            )
            for table in self.implausible
        )

    def age_range(self, band: str) -> tuple[int, int]:
        """The first and the last year of an age band such as ``18-29``."""
        low, high = band.split("-")
        return int(low), int(high)

    def said(self, name: str, word: str) -> str:
        """A word as it is said in a sentence."""
        return self.phrases.get(name, {}).get(word, word)


def default_vocabulary() -> Vocabulary:
    """The packaged vocabulary of the photo style."""
    return read_vocabulary(Path(__file__).with_name("photo.toml"))


def read_vocabulary(path: str | Path) -> Vocabulary:
    """A vocabulary from a TOML, YAML or JSON file; raises `UsageError` with one sentence if anything in it is wrong."""
    vocabulary = load_config(path, Vocabulary)
    for problem in (_attribute_problem, _name_problem, _condition_problem):
        found = problem(vocabulary)
        if found:
            raise UsageError(f"{path}: {found}")
    return vocabulary


def _attribute_problem(vocabulary: Vocabulary) -> str | None:
    attributes = vocabulary.attributes
    for name in REQUIRED:
        if name not in attributes:
            return f"attributes has no {name}; it needs {', '.join(REQUIRED)}"
    for name, words in attributes.items():
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            return f"the attribute name {name!r} is not allowed; use small letters, digits and underscores"
        if name in RESERVED:
            return f"the attribute name {name!r} is taken; choose another"
        if not words or any(not word.strip() for word in words):
            return f"the attribute {name} has {'an empty word' if words else 'no words'}; give it one or more"
        for word in words:
            if words.count(word) > 1:
                return f"the attribute {name} has the word {word!r} twice; leave one out"
    for band in attributes["age_band"]:
        years = re.fullmatch(r"(\d{1,3})-(\d{1,3})", band)
        if not years or not 1 <= int(years[1]) <= int(years[2]) <= 120:
            return f"the age band {band!r} is no range of years within 1-120; write one such as 18-29"
    for name, phrases in vocabulary.phrases.items():
        unknown = _unknown(vocabulary, name, tuple(phrases))
        if unknown:
            return f"phrases: {unknown}"
    return None


def _name_problem(vocabulary: Vocabulary) -> str | None:
    for table, name in (("given_names", "presentation"), ("locales", "region")):
        words, keys = vocabulary.attributes[name], getattr(vocabulary, table)
        for word in words:
            if not keys.get(word):
                return f"{table} has nothing for the {name} {word!r}; add it"
        for key in keys:
            if key not in words:
                return f"{table}: {_unknown(vocabulary, name, (key,))}"
    from topcoat.prompts.names import check_locale

    for locales in vocabulary.locales.values():
        for locale in locales:
            try:
                check_locale(locale)
            except UsageError as error:
                return str(error)
    return None


def _condition_problem(vocabulary: Vocabulary) -> str | None:
    order = list(vocabulary.attributes)
    for name, condition in vocabulary.only_for.items():
        if name not in order:
            return f"only_for: {_unknown(vocabulary, name, ())}"
        if name in REQUIRED:
            return f"only_for: every subject has {name}; leave that line out"
        if len(condition) != 1:
            return f"only_for: {name} needs one attribute and one word of it, such as {{ presentation = 'man' }}"
        for owner, word in condition.items():
            unknown = _unknown(vocabulary, owner, (word,))
            if unknown:
                return f"only_for: {unknown}"
            if owner in vocabulary.only_for or order.index(owner) >= order.index(name):
                return f"only_for: {name} must come after {owner} in attributes, and {owner} must be had by everyone"
    for rule in vocabulary.rules:
        if not rule.why or len(rule.when) < 2:
            return "implausible: a rule needs why and the words of two attributes or more"
        for name, words in rule.when.items():
            unknown = _unknown(vocabulary, name, words)
            if unknown:
                return f"implausible ({rule.why}): {unknown}"
            if name in vocabulary.only_for:
                return f"implausible ({rule.why}): {name} is in only_for, which a rule cannot judge; leave one out"
    return None


def _unknown(vocabulary: Vocabulary, name: str, words: tuple[str, ...]) -> str | None:
    """What is wrong with words of an attribute that another table refers to."""
    known = vocabulary.attributes.get(name)
    if known is None:
        return f"there is no attribute {name!r}; use one of: {', '.join(vocabulary.attributes)}"
    for word in words:
        if word not in known:
            return f"the attribute {name} has no word {word!r}; use one of: {', '.join(known)}"
    return None
