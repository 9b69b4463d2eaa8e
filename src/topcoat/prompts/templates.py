"""Sentence templates (jinja2): how the attributes of a subject become a prompt's text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import jinja2
import jinja2.meta
from jinja2.sandbox import SandboxedEnvironment

from topcoat.config import StrictModel, load_config
from topcoat.errors import UsageError
from topcoat.prompts.prompt import MAX_WORDS
from topcoat.prompts.vocabulary import Vocabulary

REQUIRED_FIELDS = ("age", "presentation")
"""What every sentence must say of its subject."""

_AN = re.compile(r"[aeiou]|8|1[18](?!\d)", re.IGNORECASE)


class _Missing(jinja2.StrictUndefined):
    """A field that a subject does not have: false in a condition, an error in the text."""

    __bool__ = jinja2.Undefined.__bool__


def _with_article(value: object) -> str:
    """A text with its article; it may begin with a number: an 18-year-old, an 85mm lens."""
    text = str(value)  # an error of jinja2 for a missing field
    return f"{'an' if _AN.match(text) else 'a'} {text}"


ENVIRONMENT = SandboxedEnvironment(undefined=_Missing, autoescape=False)
ENVIRONMENT.filters["a"] = _with_article


class TemplateFile(StrictModel):
    """What a file of templates holds."""

    templates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """A sentence and the ``fields`` that it says, of which the ``optional`` ones may be missing."""

    sentence: jinja2.Template
    fields: frozenset[str]
    optional: frozenset[str] = frozenset()

    def render(self, values: Mapping[str, str]) -> str:
        """The sentence with a subject's values by field."""
        return " ".join(self.sentence.render(values).split())


def read_templates(path: str | Path | None, vocabulary: Vocabulary) -> tuple[Template, ...]:
    """Sentence templates from a TOML, YAML or JSON file (None: the packaged ones) that fit a vocabulary.

    Raises `UsageError` for an unknown or missing field and for what is not a jinja2 template.
    """
    path = path or Path(__file__).with_name("templates.toml")
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
    known = ("name", "age", *vocabulary.attributes, "locale")
    optional = {*vocabulary.only_for, "locale"}  # names from a file have no locale
    everything = {name: f"<{name}>" for name in known}
    try:
        fields = frozenset(jinja2.meta.find_undeclared_variables(ENVIRONMENT.parse(text)))
        template = Template(ENVIRONMENT.from_string(text), fields)
    except jinja2.TemplateError as error:
        raise UsageError(f"it is no jinja2 template ({error.message}); write a field as {{{{ name }}}}") from None
    for name in sorted(fields - {*known}):
        raise UsageError(f"the field {{{{ {name} }}}} is unknown; use one of: {', '.join(known)}")
    try:
        template.render(everything)
        sentence = template.render({name: value for name, value in everything.items() if name not in optional})
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError) as error:  # from an expression in it
        for name in sorted(optional & fields):
            if f"'{name}' is undefined" in str(error):
                raise UsageError(
                    f"not every subject has a {name}; write {{% if {name} %}}...{{% endif %}} around its part"
                ) from None
        raise UsageError(f"it cannot be rendered ({error}); write a field as {{{{ name }}}}") from None
    for name in REQUIRED_FIELDS:
        if f"<{name}>" not in sentence:
            raise UsageError(f"it does not say {{{{ {name} }}}} of every subject; add it")
    if len(sentence.split()) > MAX_WORDS:
        raise UsageError(f"it has {len(sentence.split())} words; at most {MAX_WORDS} are allowed, shorten it")
    may_miss = frozenset(name for name in fields if _renders_without(name, template, everything))
    return replace(template, optional=may_miss)


def _renders_without(name: str, template: Template, values: Mapping[str, str]) -> bool:
    try:
        template.render({other: value for other, value in values.items() if other != name})
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError):
        return False
    return True
