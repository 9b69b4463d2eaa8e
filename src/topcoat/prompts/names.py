"""Invented names from many locales: Faker's first and family names, seeded one prompt at a time."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import unicodedata
from typing import TYPE_CHECKING, Protocol

from topcoat.errors import UsageError

if TYPE_CHECKING:
    from faker import Faker

    from topcoat.prompts.vocabulary import Gender

_TRIES = 50


class Names(Protocol):
    """Where names come from."""

    def name(self, index: int, gender: Gender, locale: str) -> str:
        """The full name of the subject at ``index``; the same whatever else is asked for."""
        ...

    @property
    def follows_locale(self) -> bool:
        """Whether a name is of the locale that is asked for."""
        ...


class InventedNames:
    """First and family names that Faker puts together, each from a seed of its own."""

    follows_locale = True

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def name(self, index: int, gender: Gender, locale: str) -> str:
        """A first and a family name of ``locale`` in the Latin script; no titles.

        Raises `UsageError` for a locale that has no names in the Latin script.
        """
        own_seed = seed_of(f"{self._seed}/name/{index}")
        chosen = settle(gender, own_seed)
        faker = _faker(locale)
        faker.seed_instance(own_seed)
        for _ in range(_TRIES):  # a few locales have single names in another script
            name = _full_name(faker, chosen)
            if is_latin(name):
                return name
        raise UsageError(
            f"the names of Faker's locale {locale!r} are not in the Latin script, which models read best; choose "
            "another locale"
        )


def check_locale(locale: str) -> None:
    """Raise `UsageError` if Faker has no names of its own for ``locale``, or none in the Latin script."""
    if not locale.isidentifier() or importlib.util.find_spec(f"faker.providers.person.{locale}") is None:
        raise UsageError(f"Faker has no names for the locale {locale!r}; use one that it has, such as pl_PL or yo_NG")
    for gender in ("female", "male"):
        InventedNames(0).name(0, gender, locale)


def seed_of(text: str) -> int:
    """64 bits of the SHA-256 of a text, as a seed."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def settle(gender: Gender, seed: int) -> Gender:
    """``either`` made one of the two, by the seed."""
    if gender != "either":
        return gender
    return "female" if seed % 2 else "male"


def is_latin(text: str) -> bool:
    """Whether every letter of a text is of the Latin script, with or without accents."""
    return text.isascii() or all(
        not letter.isalpha() or unicodedata.name(letter, "").startswith(("LATIN", "MODIFIER LETTER")) for letter in text
    )


def _full_name(faker: Faker, gender: Gender) -> str:
    """First and family name, capitalised; the romanised ones where a locale has them by gender."""
    romanised = hasattr(faker, "first_romanized_name_female")
    if gender == "female":
        first = faker.first_romanized_name_female() if romanised else faker.first_name_female()
        last = faker.last_romanized_name() if romanised else faker.last_name_female()
    else:
        first = faker.first_romanized_name_male() if romanised else faker.first_name_male()
        last = faker.last_romanized_name() if romanised else faker.last_name_male()
    parts = (part.title() if part.isupper() or part.islower() else part for part in (first, last))
    return " ".join(" ".join(parts).split())


@functools.cache
def _faker(locale: str) -> Faker:
    """Faker with the names of one locale and nothing else, which makes it quick to start."""
    from faker import Faker

    return Faker(locale, providers=["faker.providers.person"])
