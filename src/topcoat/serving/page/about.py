"""About: which models and heads are served, under which licences, and what the figures of this page are."""

from __future__ import annotations

from html import escape

import gradio as gr

from topcoat import __version__
from topcoat.runtime.opening import head_folder
from topcoat.serving.page.context import PRIVATE, Context
from topcoat.serving.page.figures import definitions, note
from topcoat.serving.work import Catalogue, HeadFacts

_CARD = "README.md"
_FIGURES = (
    (
        "Seconds",
        "measured in your request on this machine, for the whole batch that your image was in, without waiting",
    ),
    ("TFLOP", "computed from the networks' settings, not measured: text encoders, all steps, decoder and head"),
    ("Saving", "computed: TFLOP of distilled + head against the baseline, with both step counts"),
    ("Quality", "not judged here: topcoat evaluate and topcoat demo measure it, on many subjects"),
)


def about_tab(context: Context, page: gr.Blocks) -> None:
    """Its components and what they do, within a ``gr.Blocks``."""
    facts = gr.HTML(elem_id="about")
    cards = [(head, text) for head in context.engine.config.chosen_heads() if (text := _card(head))]
    for head, text in cards:
        with gr.Accordion(f"Card of the head {head}", open=False):
            gr.Markdown(text, sanitize_html=True, elem_classes="card")

    async def about() -> str:
        return _about(await context.catalogue())

    page.load(about, None, facts, show_progress="hidden", **PRIVATE)


def _about(catalogue: Catalogue) -> str:
    parts: list[str] = []
    if catalogue.pair is not None:
        for title, spec in (("Distilled model", catalogue.pair.distilled), ("Baseline", catalogue.pair.baseline)):
            terms = f"{spec.licence.name} ({spec.licence.url})"
            rows = [
                ("Name", spec.name),
                ("Size", f"{spec.width_px} x {spec.height_px} px"),
                ("Steps", str(spec.steps)),
                ("Licence", terms),
            ]
            if spec.licence.note:
                rows.append(("Mind", spec.licence.note))
            if title == "Baseline":
                rows.append(("Served", "yes" if catalogue.baseline else "no; start with --baseline"))
            parts.append(f"<section>{definitions(rows, title)}</section>")
    parts += [f"<section>{definitions(_head_rows(head), f'Head {head.name}')}</section>" for head in catalogue.heads]
    parts.append(f'<section class="wide">{definitions(_FIGURES, "What the figures are")}</section>')
    runs = f" Uploads run on {catalogue.runtime}." if catalogue.runtime else ""
    marks = (
        f"topcoat {__version__}.{runs} Every picture from here says in its file that AI made or changed it "
        "(IPTC digital source type in XMP), and with which models, head and strength."
    )
    return f'<div class="about">{"".join(parts)}</div>{note(marks)}'


def _head_rows(head: HeadFacts) -> list[tuple[str, str]]:
    does = [name for name, able in (("generates", head.generates), ("enhances uploads", head.edits)) if able]
    return [
        ("Kind", head.kind),
        ("Digest", head.digest),
        ("Does", " and ".join(does)),
        ("Gates", "calibrated" if head.gates else "not calibrated"),
        ("Learned from", head.licence),
    ]


def _card(head: str) -> str | None:
    """The text of a head's card without its front matter; None for a head that has none here."""
    path = head_folder(head) / _CARD
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    body = text.split("\n---\n", 1)[-1] if text.startswith("---\n") else text
    return escape(body, quote=False) if "<" in body else body
