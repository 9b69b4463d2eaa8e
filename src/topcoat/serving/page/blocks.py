"""The whole page: its tabs, and how it looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from topcoat.serving.page.about import about_tab
from topcoat.serving.page.compare import compare_tab
from topcoat.serving.page.context import Context
from topcoat.serving.page.enhance import enhance_tab

_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "monospace")


def page_of(context: Context, report: Path | None) -> gr.Blocks:
    """All tabs; *Compare* where there is a report."""
    with gr.Blocks(title="topcoat", analytics_enabled=False, fill_width=False) as page:
        gr.HTML('<header><p class="brand">topcoat</p><h1>Portraits of a fast model, finished</h1></header>')
        with gr.Tabs(elem_id="tabs"):
            if context.engine.config.pair is not None:
                from topcoat.serving.page.generate import generate_tab  # what edits alone do without

                with gr.Tab("Generate", id="generate"):
                    generate_tab(context, page)
            with gr.Tab("Enhance", id="enhance"):
                enhance_tab(context, page)
            if report is not None:
                with gr.Tab("Compare", id="compare"):
                    compare_tab(context, report)
            with gr.Tab("About", id="about"):
                about_tab(context, page)

        def left(request: gr.Request) -> None:
            context.files.end_session(request.session_hash)

        page.unload(left)
    return page


def theme() -> Any:
    """Colours of topcoat's reports; fonts of the system, so that none is fetched."""
    accent = gr.themes.Color(
        c50="#fdf3ee", c100="#fae3d8", c200="#f4c5b0", c300="#eda382", c400="#e58355", c500="#d9622b",
        c600="#bd4f1e", c700="#983f18", c800="#743114", c900="#552510", c950="#37180a", name="topcoat",
    )  # fmt: skip
    paper = gr.themes.Color(
        c50="#faf8f5", c100="#f3efe9", c200="#e4ded6", c300="#cfc6bb", c400="#a59b8d", c500="#7d7468",
        c600="#5f574d", c700="#39342c", c800="#211e19", c900="#1a1712", c950="#16140f", name="paper",
    )  # fmt: skip
    base = gr.themes.Base(
        primary_hue=accent, secondary_hue=accent, neutral_hue=paper, font=list(_FONTS), font_mono=list(_MONO)
    )
    return base.set(
        body_background_fill="*neutral_50",
        body_text_color_subdued="*neutral_600",
        block_label_text_color="*neutral_600",
        block_title_text_color="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_radius="10px",
        button_large_radius="8px",
        button_small_radius="8px",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_text_color="#ffffff",
    )
