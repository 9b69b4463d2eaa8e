"""The pages that raters see: jinja2 templates, one style sheet and one script, all of this package."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

ASSETS: Mapping[str, str] = {
    "study.css": "text/css",
    "vote.js": "text/javascript",
    "delete.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
"""Files that pages ask for, with their media types."""


def render(template: str, **values: Any) -> str:
    """The page of a template, every value escaped; a missing value is an error."""
    return _environment().get_template(template).render(**values)


@lru_cache
def asset(name: str) -> bytes:
    """The content of one of `ASSETS`."""
    return (resources.files("topcoat.study.pages") / name).read_bytes()


@lru_cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("topcoat.study.pages", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
