"""Putting the page into the server's app."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from topcoat.serving.engine import Engine
from topcoat.serving.page.confined import Confined
from topcoat.serving.page.context import Context
from topcoat.serving.page.files import PageFiles

_HERE = Path(__file__).parent
_KEPT_SECONDS = 3600.0
"""A file that was not used for so long goes, also from a page that is still open."""
_LOOK_SECONDS = 300.0


def mount_page(app: FastAPI, engine: Engine, *, report: Path | None = None) -> Confined:
    """Mount the page at ``/``, behind all routes that ``app`` has, and return what stands around it; its files end with
    the app.

    ``report`` is the folder of a benchmark for *Compare*, which is left out without one. Raises `DataError` for a
    folder without a report, `ModuleNotFoundError` where gradio is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # asks another machine for versions, else
    files = PageFiles()
    try:
        import gradio as gr

        from topcoat.serving.page.blocks import page_of, theme

        page = page_of(Context(engine, files), report)
        gr.mount_gradio_app(
            app,
            page,
            "/",
            max_file_size=engine.config.max_upload_bytes,
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            enable_monitoring=False,
            mcp_server=False,
            pwa=False,
            show_error=False,
            theme=theme(),
            css_paths=_HERE / "page.css",
            head=f"<script>{(_HERE / 'page.js').read_text(encoding='utf-8')}</script>",
        )
    except BaseException:
        files.close()
        raise
    mounted: Any = app.router.routes[-1]
    mounted.app = confined = Confined(mounted.app, files)
    _end_with(app, files)
    return confined


def _end_with(app: FastAPI, files: PageFiles) -> None:
    """Remove old files while the app runs, and all of them when it ends."""
    inner = app.router.lifespan_context

    @contextlib.asynccontextmanager
    async def lifespan(started: FastAPI) -> AsyncIterator[Any]:
        async def look() -> None:
            while True:
                await asyncio.sleep(_LOOK_SECONDS)
                await asyncio.to_thread(files.remove_older, _KEPT_SECONDS)

        task = asyncio.create_task(look(), name="topcoat page files")
        try:
            async with inner(started) as state:
                yield state
        finally:
            task.cancel()
            files.close()

    app.router.lifespan_context = lifespan
