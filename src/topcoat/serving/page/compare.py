"""Compare: the subjects of a benchmark's report, two of its arms at a time."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from topcoat.errors import DataError
from topcoat.files import read_json
from topcoat.serving.page.context import PRIVATE, Context
from topcoat.serving.page.figures import definitions, note

LAYOUT_KEY = "topcoat-layout"
"""The text of a contact sheet that says where its images are (`topcoat.reports.benchmark`)."""
_RECORDS = ("report.json", "study.json", "frontier.json")
_SCORES = {"tflop_saving": "TFLOP saved, computed", "seconds_saving": "Time saved, measured"}
_SHOWN = 64
"""Subjects that can be chosen."""


@dataclass(frozen=True, slots=True)
class ShownSubject:
    """A subject of a report, and the picture file of each arm."""

    title: str
    pictures: Mapping[str, Path]


def read_subjects(report: Path, context: Context) -> list[ShownSubject]:
    """The subjects in the contact sheets of a report's folder, as files of the page.

    Raises `DataError` where the folder holds no report of this version.
    """
    if not any((report / name).is_file() for name in _RECORDS):
        raise DataError(f"{report} holds no report; give the folder of a demo, study or frontier")
    texts = read_json(report / "subjects.json")
    sheets = sorted(report.glob("contact-*.png"), key=lambda path: int(path.stem.rpartition("-")[2]))
    subjects: list[ShownSubject] = []
    for path in sheets:
        with Image.open(path) as sheet:
            layout = json.loads(sheet.info.get(LAYOUT_KEY, "{}"))
            if not layout:
                raise DataError(f"{path} does not say where its images are; run the report again with this topcoat")
            for column in range(layout["columns"]):
                if len(subjects) == _SHOWN:
                    return subjects
                about = texts[len(subjects)]
                pictures = {name: _cell(sheet, layout, row, column, context) for row, name in enumerate(layout["rows"])}
                title = f"{len(subjects) + 1}. {about['prompt']} (seed {about['seed']})"
                subjects.append(ShownSubject(title, pictures))
    if not subjects:
        raise DataError(f"{report} holds no contact sheets; run the report again with this topcoat")
    return subjects


def compare_tab(context: Context, report: Path) -> None:
    """Its components and what they do, within a ``gr.Blocks``; raises `DataError` as `read_subjects` does."""
    subjects = {subject.title: subject for subject in read_subjects(report, context)}
    titles = list(subjects)
    arms = list(subjects[titles[0]].pictures)
    left, right = arms[0], arms[min(1, len(arms) - 1)]
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=320):
            subject = gr.Dropdown(titles, value=titles[0], label="Subject", elem_id="subject")
            with gr.Row():
                back = gr.Button("Previous", size="sm", elem_id="previous", min_width=100)
                on = gr.Button("Next", size="sm", elem_id="next", min_width=100)
            with gr.Row():
                first = gr.Dropdown(arms, value=left, label="Left", filterable=False, min_width=130)
                second = gr.Dropdown(arms, value=right, label="Right", filterable=False, min_width=130, elem_id="right")
        with gr.Column(scale=3, min_width=320):
            slider = gr.ImageSlider(
                _pair(subjects[titles[0]], left, right),
                label="Left | right",
                elem_id="compared",
                max_height=560,
                type="filepath",
                interactive=False,
                buttons=["fullscreen"],
            )
            gr.HTML(_facts(report))

    def show(title: str, one: str, other: str) -> tuple[str, str]:
        return _pair(subjects[title], one, other)

    def step(title: str, one: str, other: str, by: int) -> tuple[str, tuple[str, str]]:
        title = titles[(titles.index(title) + by) % len(titles)]
        return title, _pair(subjects[title], one, other)

    chosen = [subject, first, second]
    for each in chosen:
        each.input(show, chosen, slider, show_progress="hidden", **PRIVATE)
    back.click(lambda *now: step(*now, by=-1), chosen, [subject, slider], show_progress="hidden", **PRIVATE)
    on.click(lambda *now: step(*now, by=1), chosen, [subject, slider], show_progress="hidden", **PRIVATE)


def _pair(subject: ShownSubject, left: str, right: str) -> tuple[str, str]:
    return str(subject.pictures[left]), str(subject.pictures[right])


def _cell(sheet: Image.Image, layout: Mapping[str, Any], row: int, column: int, context: Context) -> Path:
    (width, height), gap = layout["cell_px"], layout["gap_px"]
    left = sheet.width - gap - (layout["columns"] - column) * (width + gap)
    top = gap + row * (height + gap)
    content = io.BytesIO()
    sheet.crop((left, top, left + width, top + height)).save(content, "PNG")
    return context.files.keep(f"{layout['rows'][row]}.png", content.getvalue())


def _facts(report: Path) -> str:
    record = read_json(next(report / name for name in _RECORDS if (report / name).is_file()))
    size, kind = record["size_px"], record["kind"]
    rows = [
        ("Report", f"{kind} of {record['pair']}, {record['n']:,} subjects of {size['width']} x {size['height']} px"),
        ("Shown", "the first subjects, as they were given, never picked"),
    ]
    for score in record["scores"]:
        name = _SCORES.get(score["metric"])
        if name is not None and score["arm"] in record["heads"] | {"enhanced": {}}:
            arm = "" if score["arm"] == "enhanced" else f" ({score['arm']})"
            rows.append((f"{name}{arm}", f"{score['value']:.1%}"))
    return definitions(rows) + note("Every figure, with its interval and the noise floor, is in the report's own page.")
