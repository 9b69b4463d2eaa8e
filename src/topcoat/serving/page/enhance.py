"""Enhance: pictures of one's own, before and after, at a strength that is felt at once; files keep what they carry."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from topcoat.errors import TopcoatError
from topcoat.serving.engine import Upload
from topcoat.serving.files import ACCEPTED
from topcoat.serving.page.context import PRIVATE, Context, shown_errors
from topcoat.serving.page.figures import note
from topcoat.serving.work import EnhanceSettings

MOST_FILES = 20
"""Pictures of one visit at a time."""


@dataclass(frozen=True, slots=True)
class Item:
    """An upload and its result."""

    name: str
    source: Path
    result: Path | None = None
    strength: float | None = None
    said: str = ""
    """What a person should know of the result, or why there is none."""


def enhance_tab(context: Context, page: gr.Blocks) -> None:
    """Its components and what they do, within a ``gr.Blocks``."""
    engine = context.engine
    suffixes = [".png", ".jpg", ".jpeg", ".webp", ".avif"]
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=320):
            uploads = gr.File(
                label="Pictures", file_count="multiple", file_types=suffixes, height=190, elem_id="uploads"
            )
            strength = gr.Slider(0, 2, 1, step=0.05, label="Strength", elem_id="enhance-strength")
            head = gr.Dropdown([], label="Head", elem_id="enhance-head")
            titles = ", ".join(each.upper() for each in ACCEPTED)
            limits = f"{titles}, up to {engine.config.max_megapixels:g} megapixels. Pictures stay on this server until"
            gr.HTML(note(f"{limits} you close the page, and go nowhere else."))
        with gr.Column(scale=3, min_width=320):
            shown = gr.Dropdown([], label="Shown picture", visible=False, elem_id="shown", filterable=False)
            slider = gr.ImageSlider(
                label="Before | after",
                elem_id="enhanced",
                max_height=560,
                type="filepath",
                interactive=False,
                buttons=["fullscreen"],
            )
            said = gr.HTML(note("Drop pictures at the left; before and after appear here."), elem_id="said")
            save = gr.DownloadButton("Save this picture", variant="primary", visible=False, elem_id="save")
            every = gr.File(label="All results", visible=False, file_count="multiple", interactive=False, elem_id="all")
    items = gr.State([])

    def view(known: Sequence[Item], name: str | None) -> tuple[Any, ...]:
        """What the components show of the items."""
        item = next((each for each in known if each.name == name), known[0] if known else None)
        names = [each.name for each in known]
        done = [str(each.result) for each in known if each.result is not None]
        if item is None:
            empty = gr.DownloadButton(visible=False)
            return (
                gr.Dropdown(visible=False),
                None,
                note("Drop pictures at the left."),
                empty,
                gr.File(visible=False),
                [],
            )
        pair = None if item.result is None else (str(item.source), str(item.result))
        return (
            gr.Dropdown(names, value=item.name, visible=len(names) > 1),
            pair,
            note(item.said or f"{item.name}: strength {item.strength:g}", "note" if item.result else "problem"),
            gr.DownloadButton(value=None if item.result is None else str(item.result), visible=item.result is not None),
            gr.File(value=done, visible=len(done) > 1),
            list(known),
        )

    async def enhanced(item: Item, amount: float, name: str, session: str | None) -> Item:
        """The item with its result at a strength; as it was, with the reason, where that cannot be made."""
        if item.result is not None and item.strength == amount:
            return item
        try:
            upload = Upload(item.source.read_bytes(), name=item.name)
            answer = await engine.enhance([upload], EnhanceSettings(name, amount), format_name=None)
        except TopcoatError as error:
            return replace(item, said=str(error) if item.name in str(error) else f"{item.name}: {error}")
        except OSError:
            return replace(item, result=None, said=f"{item.name} is gone; drop it again")
        (image,) = answer.images
        path = Path(item.name)
        result = context.files.write(session, f"{path.stem}-enhanced{path.suffix}", image.content)
        if item.result is not None:
            context.files.remove([item.result])
        width, height = image.size_px
        lacks = "".join(f"; {each}" for each in image.notes)
        took = f"{answer.seconds.head:.2g} s" if answer.seconds.head >= 1 else f"{answer.seconds.head * 1e3:.0f} ms"
        text = f"{item.name}: {width} x {height} px, strength {amount:g}, {took} in the head (measured){lacks}"
        return replace(item, result=result, strength=amount, said=text)

    async def dropped(
        paths: Sequence[str] | None,
        amount: float,
        name: str,
        known: Sequence[Item],
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  # how gradio gives it
    ) -> tuple[Any, ...]:
        with shown_errors():
            if not name:
                raise TopcoatError("no head that enhances pictures is served here")
        given = [Path(path) for path in paths or ()]
        context.files.remove(each.result for each in known if each.result and each.source not in given)
        if len(given) > MOST_FILES:
            gr.Warning(f"{len(given)} pictures are too many at a time; the first {MOST_FILES} are enhanced")
        before = {item.source: item for item in known}
        done: list[Item] = []
        for number, path in enumerate(given[:MOST_FILES]):
            progress((number, min(len(given), MOST_FILES)), desc=path.name, unit="pictures")
            item = before.get(path) or Item(_free(path.name, done), path)
            done.append(await enhanced(item, amount, name, request.session_hash))
        context.files.hold(request.session_hash, (item.source for item in done if item.result is not None))
        context.files.remove(item.source for item in done if item.result is None)
        return view(done, done[-1].name if done else None)

    async def felt(
        amount: float, name: str, chosen: str | None, known: Sequence[Item], request: gr.Request
    ) -> tuple[Any, ...]:
        """The shown picture alone, while the strength moves."""
        if not known:
            return view(known, chosen)
        current = next((each.name for each in known if each.name == chosen), known[0].name)
        done = [
            await enhanced(each, amount, name, request.session_hash) if each.name == current else each for each in known
        ]
        return view(done, current)

    async def settled(
        amount: float,
        name: str,
        chosen: str | None,
        known: Sequence[Item],
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> AsyncIterator[tuple[Any, ...]]:
        """All of them, once the strength stays."""
        done = list(known)
        for number, item in enumerate(done):
            progress((number, len(done)), desc=item.name, unit="pictures")
            done[number] = await enhanced(item, amount, name, request.session_hash)
        yield view(done, chosen)

    def other_head(known: Sequence[Item]) -> list[Item]:
        return [replace(each, strength=None) for each in known]

    async def of_catalogue() -> Any:
        names = [each.name for each in (await context.catalogue()).heads if each.edits]
        return gr.Dropdown(names, value=names[0] if names else None, visible=len(names) > 1)

    page.load(of_catalogue, None, head, show_progress="hidden", **PRIVATE)
    outputs = [shown, slider, said, save, every, items]
    tuned = [strength, head, shown, items]
    once: dict[str, Any] = {"concurrency_limit": None, "show_progress_on": said, **PRIVATE}
    feeling = strength.input(
        felt, tuned, outputs, trigger_mode="always_last", show_progress="hidden", concurrency_limit=None, **PRIVATE
    )
    settling = strength.release(settled, tuned, outputs, trigger_mode="always_last", **once)
    shown.input(lambda known, name: view(known, name), [items, shown], outputs, show_progress="hidden", **PRIVATE)
    switching = head.input(other_head, items, items, show_progress="hidden", **PRIVATE).then(
        settled, tuned, outputs, **once
    )
    # pictures of before must not come back over those that are dropped meanwhile
    uploads.change(
        dropped,
        [uploads, strength, head, items],
        outputs,
        trigger_mode="always_last",
        cancels=[feeling, settling, switching],
        **once,
    )


def _free(name: str, known: Sequence[Item]) -> str:
    """A name that no other item has."""
    taken = {each.name for each in known}
    path, number = Path(name), 2
    while name in taken:
        name, number = f"{path.stem}-{number}{path.suffix}", number + 1
    return name
