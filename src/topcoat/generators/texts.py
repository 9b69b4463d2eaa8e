"""Text embeddings that are made once and read again: what a pipeline's own `encode_prompt` gave."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


class EncodedTexts:
    """What pipelines made of texts, on the CPU; pipelines that share text encoders read each other's.

    An entry belongs to the text encoders, tokenizers and arguments of `encode_prompt` (the texts of a whole batch,
    their length in tokens, a negative text), so that reading it changes no bit of an image. A pipeline without guidance
    reads what one with guidance made, and leaves the negative texts. Text-to-image pipelines of diffusers encode texts
    by `encode_prompt` and then call `prepare_latents`; of one that does not nothing is kept.
    """

    def __init__(self) -> None:
        self._outputs: dict[Hashable, dict[Hashable, Any]] = {}
        """By what decides the embeddings of the texts themselves, then by what decides those of the negative texts."""

    def forget(self) -> None:
        """Drop all of them."""
        self._outputs.clear()

    def encode(self, pipeline: Any, call: Callable[[], object]) -> None:
        """Run ``call``, which calls ``pipeline``, until its texts are encoded, and remember them."""
        if not _is_staged(pipeline):
            return

        def stop(*_: object, **__: object) -> None:
            raise _EncodedError

        pipeline.prepare_latents = stop  # shadows the method
        try:
            with self._replaced(pipeline, remember=True, before=lambda: None), suppress(_EncodedError):
                call()
        finally:
            del pipeline.prepare_latents

    @contextmanager
    def read_by(self, pipeline: Any, before: Callable[[], None]) -> Iterator[None]:
        """Within it ``pipeline`` reads the texts that are known; before it encodes others, ``before`` is called."""
        with self._replaced(pipeline, remember=False, before=before):
            yield

    @contextmanager
    def _replaced(self, pipeline: Any, *, remember: bool, before: Callable[[], None]) -> Iterator[None]:
        if not _is_staged(pipeline):
            yield
            return
        original = pipeline.encode_prompt

        def encode_prompt(*arguments: Any, **named: Any) -> Any:
            key = _key(pipeline, inspect.signature(original).bind(*arguments, **named).arguments)
            known = None if key is None else self._known(key)
            if known is not None:
                return _moved(known, pipeline._execution_device)
            before()
            output = original(*arguments, **named)
            if remember and key is not None:
                self._outputs.setdefault(key.texts, {})[key.guidance] = _moved(output, torch.device("cpu"))
            return output

        pipeline.encode_prompt = encode_prompt
        try:
            yield
        finally:
            del pipeline.encode_prompt

    def _known(self, key: _Key) -> Any:
        entries = self._outputs.get(key.texts, {})
        return entries.get(key.guidance) if key.guided else next(iter(entries.values()), None)


class _EncodedError(Exception):
    """Ends a pipeline's call once its texts are encoded."""


def _is_staged(pipeline: Any) -> bool:
    return hasattr(pipeline, "encode_prompt") and hasattr(pipeline, "prepare_latents")


@dataclass(frozen=True, slots=True)
class _Key:
    texts: Hashable
    guidance: Hashable
    guided: bool


def _key(pipeline: Any, arguments: Mapping[str, Any]) -> _Key | None:
    """What decides the embeddings; None where a tensor is among it, which is not compared."""
    readers = tuple(id(part) for name, part in pipeline.components.items() if name.startswith(("text_", "tokenizer")))
    given = {name: _frozen(value) for name, value in arguments.items()}
    if not all(isinstance(value, Hashable) and not isinstance(value, Tensor) for value in given.values()):
        return None
    guided = bool(given.pop("do_classifier_free_guidance", True))
    negative = {name: given.pop(name) for name in [*given] if name.startswith("negative_")}
    return _Key((readers, *given.items()), (guided, *negative.items()), guided)


def _frozen(value: Any) -> Any:
    """A list of texts as a tuple, which can be a key."""
    return tuple(value) if isinstance(value, list) else value


def _moved(value: Any, device: torch.device) -> Any:
    """The same nest of lists and tuples with its tensors on ``device``."""
    if isinstance(value, Tensor):
        return value.to(device)
    return type(value)(_moved(item, device) for item in value) if isinstance(value, list | tuple) else value
