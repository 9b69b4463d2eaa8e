"""What a prompt is: an id, a text, the attributes of the subject, and the split that follows from the id."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from topcoat.errors import UsageError

MAX_WORDS = 400
"""Longest prompt that is accepted; text encoders read 77 to 512 tokens, so a longer one is a mistake."""

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt: a stable ``id``, its ``text`` and, where they are known, the subject's attributes by name.

    ``assigned_split`` and ``seed`` (of the noise) are what a user's file gave.
    """

    id: str
    text: str
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)
    assigned_split: Split | None = None
    seed: int | None = None

    @property
    def split(self) -> Split:
        """``train`` (90 %), ``val`` (5 %) or ``test`` (5 %), decided by the id alone unless a file assigned it."""
        return self.assigned_split or split_of_id(self.id)


def split_of_id(prompt_id: str) -> Split:
    """The split that follows from an id: 90 % ``train``, 5 % ``val``, 5 % ``test``, by its SHA-256."""
    share = int(hashlib.sha256(prompt_id.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
    return "train" if share < 0.90 else "val" if share < 0.95 else "test"


def prompt_from_text(text: str) -> Prompt:
    """A `Prompt` from a user's own text, with an id derived from that text.

    Raises `UsageError` if the text is empty or has more than `MAX_WORDS` words.
    """
    words = text.split()
    text = " ".join(words)
    if not words:
        raise UsageError('the prompt is empty; describe a picture, such as "studio portrait of an old man, beard"')
    if len(words) > MAX_WORDS:
        raise UsageError(f"the prompt has {len(words)} words; at most {MAX_WORDS} are allowed, shorten it")
    return Prompt(id=hashlib.sha256(text.encode()).hexdigest()[:16], text=text)


def as_prompts(prompts: Iterable[str | Prompt]) -> list[Prompt]:
    """Prompts from any mix of texts and `Prompt` objects; a single string is refused as a likely slip."""
    if isinstance(prompts, str):
        raise UsageError("prompts must be a list of texts, not one text; put it in brackets: [prompt]")
    return [item if isinstance(item, Prompt) else prompt_from_text(item) for item in prompts]


def check_count_and_seed(count: int, seed: int) -> None:
    """Raise `UsageError` if ``count`` is below 1 or ``seed`` is negative."""
    if count < 1:
        raise UsageError(f"cannot sample {count} prompts; ask for 1 or more")
    if seed < 0:
        raise UsageError(f"prompt seed {seed} is negative; use 0 or more")
