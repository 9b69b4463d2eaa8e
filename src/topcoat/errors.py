"""The exceptions a user can meet.

TopcoatError
├── UsageError      wrong use: a value that is not allowed            (exit code 2)
├── DataError       an image, dataset or weight file that is unusable (exit code 1)
└── ModelError      a generator, head or feature net that cannot be had or run (exit code 1)

Every message is one sentence that says what was given, what is allowed and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable


class TopcoatError(Exception):
    """Base of every error that topcoat raises on purpose; the command line prints its message alone."""

    exit_code = 1


class UsageError(TopcoatError, ValueError):
    """Wrong use: an argument outside what is allowed."""

    exit_code = 2


class DataError(TopcoatError):
    """A file or folder that cannot be read, is damaged, or is not what it should be."""


class ModelError(TopcoatError):
    """A model that cannot be loaded or run: unknown, gated, offline, out of memory, or not finite."""


def first_few(items: Iterable[object], most: int = 3, between: str = ", ") -> str:
    """The first ``most`` of ``items`` for a message, and how many more there are: ``a, b, c and 4 more``."""
    texts = [str(item) for item in items]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return between.join(texts[:most]) + more
