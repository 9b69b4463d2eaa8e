"""``study.json``, ``study.md``, ``study.html`` and the contact sheets."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template

from torch import Tensor

from topcoat import page
from topcoat.charts import Bar, bars
from topcoat.contact import contact_sheet
from topcoat.cost import count_steps
from topcoat.files import atomic_path, write_json, write_text
from topcoat.heads.head import Head
from topcoat.proof.record import percent, saving_words
from topcoat.proof.store import to_floats
from topcoat.reproduction.held_out import HeldOut, first_images
from topcoat.reproduction.record import Study
from topcoat.reproduction.table import columns, headline, markdown, notes, rows

SHEETS, SHEET_COLUMNS = 3, 8
SUBJECTS = 12
"""Subjects on the page: the first ones, as on the sheets, never picked."""


def write_study(folder: Path, study: Study, held_out: HeldOut, heads: Mapping[str, Head]) -> None:
    """Write all of them into ``folder``, each atomically, the record last; raises `DataError` if that cannot be."""
    shown = SHEETS * SHEET_COLUMNS
    pictures = {"distilled": first_images(held_out.images("distilled"), shown)}
    for name, head in heads.items():
        pictures[name] = first_images(map(to_floats, held_out.enhanced(head)), shown)
    pictures["baseline"] = first_images(held_out.images("baseline"), shown)
    scale = 2 if study.width_px <= 256 else 1
    for number, start in enumerate(range(0, len(pictures["distilled"]), SHEET_COLUMNS), start=1):
        labelled = [(name, images[start : start + SHEET_COLUMNS]) for name, images in pictures.items()]
        with atomic_path(folder / f"contact-{number}.png") as temporary:
            contact_sheet(labelled, scale=scale).save(temporary, "PNG")
    captions = [f"seed {seed}: {text}" for text, seed in zip(held_out.prompts, held_out.seeds, strict=True)]
    write_text(folder / "study.html", render(study, pictures, captions))
    write_text(folder / "study.md", markdown(study))
    write_json(folder / "study.json", study.as_dict())


def render(study: Study, pictures: Mapping[str, Tensor], captions: list[str]) -> str:
    """The page as text: self-contained, readable offline, in the dark and on a phone.

    ``pictures`` are images ``(N, 3, H, W)`` in [0, 1] of the first subjects by row, ``captions`` what they are.
    """
    template = Template(resources.files("topcoat.reproduction").joinpath("study.template.html").read_text("utf-8"))
    best = study.best.run
    marks = [""] + ["chosen" if head.run == best else "" for head in study.heads]
    cells = rows(study)
    body = template.substitute(
        pair=page.safe(study.pair),
        headline=page.prose(headline(study)),
        lead=page.prose(
            f"{len(study.heads)} heads, trained on the same pairs and judged on the same {study.n:,} held-out "
            "subjects: the study of arXiv 2505.02255, repeated."
        ),
        cards=_cards(study),
        distances=_distances(study),
        table=page.table(list(columns(study).values()), cells, "numbers", marks + [""] * (len(cells) - len(marks))),
        notes="".join(f"<li>{page.prose(note)}</li>" for note in notes(study)),
        gallery=page.gallery(_subjects(pictures, captions)),
        settings=page.settings(
            "Settings, versions and machine",
            {"settings": study.settings, "versions": study.versions, "hardware": study.hardware},
        ),
    )
    return page.document(f"topcoat study: {study.pair}", body)


def _subjects(pictures: Mapping[str, Tensor], captions: list[str]) -> list[page.Subject]:
    count = min(SUBJECTS, len(pictures["distilled"]))
    return [
        page.Subject([(name, page.data_uri(images[index])) for name, images in pictures.items()], captions[index])
        for index in range(count)
    ]


def _cards(study: Study) -> str:
    found: list[str] = []
    for head in study.heads:
        gap = head.judged.gap
        figure = "n/a" if gap.value is None else f"{percent(gap.value)} closed"
        interval = (
            [] if gap.low is None or gap.high is None else [f"95 % interval {percent(gap.low)} to {percent(gap.high)}"]
        )
        saving = f"{saving_words(head.saving.tflop)} TFLOP than {count_steps(study.baseline.steps)} (computed)"
        found.append(page.card(head.run + ("*" if head.changed else ""), figure, [*interval, saving], "measured"))
    return "".join(found)


def _distances(study: Study) -> str:
    gap = study.do_nothing.gap
    drawn = [("distilled", gap.distilled, "distilled")]
    drawn += [(head.run, head.judged.gap.enhanced, "enhanced") for head in study.heads]
    drawn += [("baseline, other seeds", gap.floor, "baseline")]
    made = [Bar(label, at.value, f"{at.value:.3g}", colour, at.low, at.high) for label, at, colour in drawn]
    return bars(made, title="Fréchet distance to the baseline", marker=(gap.floor.value, "floor"))
