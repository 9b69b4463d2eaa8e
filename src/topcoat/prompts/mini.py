"""The mini style: the few words that the embedded mini pair was trained on, which lie beside its weights."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from topcoat.config import StrictModel, load_config
from topcoat.embedded import MINI
from topcoat.errors import UsageError
from topcoat.prompts.stratified import StratifiedSampler

if TYPE_CHECKING:
    import jinja2


class Rule(StrictModel):
    """Subjects with one of the words of every attribute in ``when`` have no other ``words`` than these."""

    of: str
    """Whose rule it is; what it samples again is balanced among them."""
    when: dict[str, tuple[str, ...]]
    words: dict[str, tuple[str, ...]]


class MiniWords(StrictModel):
    """The attributes of a mini prompt, the sentence (a jinja2 template) that they make, and what goes together."""

    sentence: str
    attributes: dict[str, tuple[str, ...]]
    """The words of each; one that stands twice is sampled twice as often."""
    groups: dict[str, tuple[str, ...]]
    """The attributes by the headings under which a page shows them."""
    rules: tuple[Rule, ...]
    """In the order in which they are applied."""

    def text(self, words: Mapping[str, str]) -> str:
        """The prompt's text, for example ``studio portrait of a young woman, fair skin, ...``."""
        return _template(self.sentence).render(words).strip()

    def choices(self, name: str) -> list[str]:
        """The words that an attribute may take, each once."""
        return list(dict.fromkeys(self.attributes[name]))

    def sample(self, sampler: StratifiedSampler, index: int) -> dict[str, str]:
        """The words of one subject; those that a rule leaves out are sampled again from what it allows."""
        words = {name: sampler.sample(name, values, index) for name, values in self.attributes.items()}
        for rule in self.rules:
            if all(words[name] in values for name, values in rule.when.items()):
                for name, allowed in rule.words.items():
                    if words[name] not in allowed:
                        words[name] = sampler.sample(f"{name} of {rule.of}", allowed, index)
        return words

    def check(self, attributes: Mapping[str, str]) -> None:
        """Raise `UsageError` for an unknown word of attributes that are those of a mini prompt; others may hold any."""
        if attributes.keys() != self.attributes.keys():
            return
        for name, word in attributes.items():
            allowed = self.choices(name)
            if word not in allowed:
                raise UsageError(f"portrait attribute {name}={word!r} is unknown; use one of: {', '.join(allowed)}")


@functools.cache
def mini_words(path: Path = MINI / "words.toml") -> MiniWords:
    """What the embedded pair was trained on, or another one of its kind."""
    return load_config(path, MiniWords)


@functools.cache
def _template(sentence: str) -> jinja2.Template:
    from topcoat.prompts.templates import ENVIRONMENT

    return ENVIRONMENT.from_string(sentence)
