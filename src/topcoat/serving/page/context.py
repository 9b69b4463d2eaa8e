"""What every part of the page is given, and errors as a person reads them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from topcoat.errors import TopcoatError
from topcoat.serving.engine import Engine
from topcoat.serving.page.files import PageFiles
from topcoat.serving.work import Catalogue

_LOOK_SECONDS = 0.2

PRIVATE: dict[str, Any] = {"api_visibility": "private"}
"""For every event: what clients call is the API, not the page's buttons."""


@dataclass(frozen=True, slots=True)
class Context:
    """The engine and the page's files."""

    engine: Engine
    files: PageFiles

    async def catalogue(self) -> Catalogue:
        """What is served, once it is known: models take a while to load."""
        while not self.engine.ready:
            await asyncio.sleep(_LOOK_SECONDS)
        return self.engine.catalogue


@contextlib.contextmanager
def shown_errors() -> Iterator[None]:
    """Show an error as its one sentence, and nothing of it in the log."""
    try:
        yield
    except TopcoatError as error:
        import gradio as gr

        raise gr.Error(_sentence(error), title="That did not work", print_exception=False) from None


def _sentence(error: TopcoatError) -> str:
    text = str(error)
    return text[:1].upper() + text[1:]
