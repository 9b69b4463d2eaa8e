"""Generate: a prompt, typed or of attributes, to distilled, enhanced and, when asked for, baseline."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from topcoat.prompts import sample_style, style_of_pair
from topcoat.prompts.mini import mini_words
from topcoat.serving.page.context import PRIVATE, Context, shown_errors
from topcoat.serving.page.figures import Figure, figures, note
from topcoat.serving.work import Answer, GenerateSettings, Subject

_LARGEST_SEED = 2**32 - 1
_IMAGES: dict[str, Any] = {"buttons": ["fullscreen"], "interactive": False}


def generate_tab(context: Context, page: gr.Blocks) -> None:
    """Its components and what they do, within a ``gr.Blocks``."""
    engine, config = context.engine, context.engine.config
    style = style_of_pair(config.pair or "")
    first = sample_style(style, 1, seed=7)[0]
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=320):
            prompt = gr.Textbox(
                first.text, label="Prompt", lines=3, max_lines=8, max_length=2000, elem_id="prompt", autofocus=False
            )
            attributes = _attribute_controls(first.attributes) if style == "mini" else {}
            with gr.Row():
                surprise = gr.Button("Another person", variant="secondary", elem_id="surprise", min_width=120)
                go = gr.Button("Generate", variant="primary", elem_id="generate", min_width=120)
            with gr.Row():
                seed = gr.Number(7, label="Seed", precision=0, minimum=0, maximum=_LARGEST_SEED, min_width=120)
                head = gr.Dropdown(["none"], value="none", label="Head", min_width=160)
            strength = gr.Slider(0, 2, 1, step=0.05, label="Strength of the head", elem_id="generate-strength")
        with gr.Column(scale=3, min_width=320):
            slider = gr.ImageSlider(
                label="Distilled | enhanced", elem_id="generated", max_height=560, type="filepath", **_IMAGES
            )
            took = gr.HTML(note("Distilled and enhanced appear here, with what they took."), elem_id="took")
            with gr.Row():
                saved = [
                    gr.DownloadButton(text, visible=False, size="sm", elem_id=f"save-{name}", min_width=120)
                    for name, text in (("distilled", "Save distilled"), ("enhanced", "Save enhanced"))
                ]
            with gr.Column(visible=config.baseline, min_width=0):
                slow = gr.Button("Make the baseline of it too", interactive=False, elem_id="make-baseline")
                baseline = gr.Image(
                    label="Baseline", visible=False, type="filepath", elem_id="baseline", height=420, **_IMAGES
                )
    made = gr.State(None)

    async def make(
        text: str, number: float, chosen: str, amount: float, request: gr.Request
    ) -> tuple[Any, str, Any, Any, Any, Any, Any]:
        with shown_errors():
            settings = GenerateSettings(head=None if chosen == "none" else chosen, with_distilled=chosen != "none")
            if chosen != "none":
                settings = replace(settings, strength=amount)
            subject = Subject(text.strip(), int(number or 0))
            answer = await engine.generate([subject], settings)
        shown = [await _distilled_figure(context, answer, settings), *_enhanced_figure(answer)]
        (image,) = answer.images
        stem = f"{subject.seed}"
        alone = image.distilled or image.content
        before = context.files.write(request.session_hash, f"{stem}-distilled.png", alone)
        after = context.files.write(request.session_hash, f"{stem}-enhanced.png", image.content)
        if chosen == "none":
            after = before
        ready = {"subject": subject, "figures": shown, "note": _saving(answer)}
        return (
            (str(before), str(after)),
            _took(context, ready, None),
            gr.DownloadButton(value=str(before), visible=True),
            gr.DownloadButton(value=str(after), visible=chosen != "none"),
            gr.Button(interactive=True),
            gr.Image(visible=False),
            ready,
        )

    async def make_baseline(ready: dict[str, Any], request: gr.Request) -> tuple[Any, str]:
        with shown_errors():
            answer = await engine.generate([ready["subject"]], GenerateSettings(side="baseline"))
        path = context.files.write(
            request.session_hash, f"{ready['subject'].seed}-baseline.png", answer.images[0].content
        )
        return gr.Image(value=str(path), visible=True), _took(context, ready, answer)

    async def of_catalogue() -> tuple[Any, Any]:
        heads = [each for each in (await context.catalogue()).heads if each.generates]
        names = [*(each.name for each in heads), "none"]
        return gr.Dropdown(names, value=names[0]), gr.Slider(interactive=bool(heads) and heads[0].has_strength)

    def for_head(chosen: str) -> Any:
        scaled = any(each.name == chosen and each.has_strength for each in engine.catalogue.heads)
        return gr.Slider(interactive=True) if scaled else gr.Slider(value=1, interactive=False)

    def another() -> list[Any]:
        sampled = sample_style(style, 1, seed=random.randrange(_LARGEST_SEED))[0]
        return [sampled.text, random.randrange(_LARGEST_SEED), *(sampled.attributes[name] for name in attributes)]

    page.load(of_catalogue, None, [head, strength], show_progress="hidden", **PRIVATE)
    head.input(for_head, head, strength, show_progress="hidden", **PRIVATE)
    inputs, outputs = [prompt, seed, head, strength], [slider, took, *saved, slow, baseline, made]
    for trigger in (go.click, prompt.submit):
        trigger(make, inputs, outputs, concurrency_limit=None, trigger_mode="once", show_progress_on=slider, **PRIVATE)
    slow.click(
        make_baseline,
        made,
        [baseline, took],
        concurrency_limit=None,
        trigger_mode="once",
        show_progress_on=took,
        **PRIVATE,
    )
    surprise.click(another, None, [prompt, seed, *attributes.values()], show_progress="hidden", **PRIVATE)
    for control in attributes.values():
        control.input(_sentence(list(attributes)), list(attributes.values()), prompt, show_progress="hidden", **PRIVATE)


def _attribute_controls(words: Any) -> dict[str, gr.Dropdown]:
    vocabulary, controls = mini_words(), dict[str, gr.Dropdown]()
    for number, (title, names) in enumerate(vocabulary.groups.items()):
        with gr.Accordion(title, open=number == 0), gr.Row(elem_classes="attributes"):
            for name in names:
                controls[name] = gr.Dropdown(
                    vocabulary.choices(name),
                    value=words[name],
                    label=name.replace("_", " ").capitalize(),
                    min_width=150,
                    filterable=False,
                    elem_id=f"attribute-{name}",
                )
    return {name: controls[name] for name in vocabulary.attributes}


def _sentence(names: Sequence[str]) -> Any:
    def sentence(*values: str) -> str:
        return mini_words().text(dict(zip(names, values, strict=True)))

    return sentence


async def _distilled_figure(context: Context, answer: Answer, settings: GenerateSettings) -> Figure:
    cost = await context.engine.cost(replace(settings, head=None, strength=1.0))
    return Figure(
        "Distilled", "distilled", answer.seconds.generator, cost.tflop if cost else None, _steps(answer.steps)
    )


def _enhanced_figure(answer: Answer) -> list[Figure]:
    if answer.head is None:
        return []
    seconds = answer.seconds.generator + answer.seconds.head
    detail = f"head {answer.seconds.head * 1e3:.0f} ms, strength {answer.images[0].strength:g}"
    return [Figure("Enhanced", "enhanced", seconds, answer.cost.tflop if answer.cost else None, detail)]


def _took(context: Context, ready: dict[str, Any], baseline: Answer | None) -> str:
    catalogue = context.engine.catalogue
    assert catalogue.pair is not None
    steps = _steps(catalogue.pair.baseline.steps)
    if baseline is not None:
        tflop = baseline.cost.tflop if baseline.cost else None
        last = Figure("Baseline", "baseline", baseline.seconds.generator, tflop, steps)
    else:
        last = Figure("Baseline", "baseline", None, ready["note"][1], steps)
    return figures([*ready["figures"], last], ready["note"][0])


def _saving(answer: Answer) -> tuple[str, float | None]:
    """The sentence of what is saved, and the baseline's TFLOP."""
    if answer.cost is None:
        return "", None
    sentence = answer.cost.sentence
    return f"{sentence[:1].upper()}{sentence[1:]}.", answer.cost.baseline_tflop


def _steps(count: int | None) -> str:
    return "" if count is None else f"{count} step{'' if count == 1 else 's'}"
