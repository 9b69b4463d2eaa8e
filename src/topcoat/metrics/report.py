"""``report.html``, ``report.json``, ``report.md`` and ``contact.png``: an evaluation as files to send to others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import torch
from torch import Tensor

from topcoat import page
from topcoat.contact import contact_sheet
from topcoat.files import atomic_path, write_json, write_text
from topcoat.metrics.charts import charts, group_charts
from topcoat.metrics.record import Evaluation, Example
from topcoat.metrics.sections import Section, percent, sections
from topcoat.metrics.text import main_figures

LARGEST_BYTES = 15_000_000
"""Of the page, whatever the size of the images."""
_IMAGE_BYTES = 12_000_000
_CONTACT_SUBJECTS = 8
_GROUP_CHARTS = 2
"""Scores whose groups are shown at once; the others behind a line that opens them."""
_NAMES = (("distilled", "distilled"), ("enhanced", "enhanced"), ("baseline", "baseline"))


@dataclass(frozen=True, slots=True)
class Looked:
    """One subject to look at: images ``(3, H, W)`` in [0, 1] by set, and who it is."""

    images: Mapping[str, Tensor]
    """``enhanced`` and ``baseline``, and ``distilled`` where it is given."""
    caption: str


LookUp = Callable[[int], Looked]
"""Gives the subject at a position of the streams; asked for those of `Evaluation.examples` alone."""


def write_report(
    folder: Path,
    evaluation: Evaluation,
    look_up: LookUp | None = None,
    *,
    about: str = "",
    inputs: Mapping[str, Any] | None = None,
    left_out: Sequence[str] = (),
) -> None:
    """Write all four files into ``folder``, each atomically.

    ``look_up`` gives the images of the subjects that are shown, one at a time, so that no other image need be kept;
    without it (or where sets were compared) no image is shown and there is no contact sheet. ``about`` says in a few
    words what was evaluated, ``inputs`` (JSON values) where it came from, ``left_out`` which subjects are missing.
    Raises `DataError` if a file cannot be written.
    """
    given = dict(inputs or {})
    record = evaluation.as_dict() | {"inputs": given, "left_out": list(left_out)}
    shown = _shown(evaluation, look_up)
    write_json(folder / "report.json", record)
    write_text(folder / "report.md", evaluation.markdown())
    write_text(folder / "report.html", render(evaluation, shown, about=about, inputs=given, left_out=left_out))
    if shown:
        names = [name for name, _ in _NAMES if name in shown[0][1].images]
        rows = [(name, torch.stack([looked.images[name] for _, looked in shown[:_CONTACT_SUBJECTS]])) for name in names]
        with atomic_path(folder / "contact.png") as temporary:
            contact_sheet(rows).save(temporary, "PNG")


Shown = tuple[str, Looked]
"""Why a subject is shown, and the subject."""


def render(
    evaluation: Evaluation,
    shown: Sequence[Shown] = (),
    *,
    about: str = "",
    inputs: Mapping[str, Any] | None = None,
    left_out: Sequence[str] = (),
) -> str:
    """The page as text: one file that needs no other, under `LARGEST_BYTES`."""
    found = evaluation
    subjects = _subjects(shown)
    template = Template(resources.files("topcoat.metrics").joinpath("report.template.html").read_text("utf-8"))
    notes = [f"{note}." for note in found.notes] + [f"Left out: {problem}." for problem in left_out]
    body = template.substitute(
        about=page.safe(about or found.features.net),
        headline=page.prose(headline(found)),
        lead=page.safe(_lead(found)),
        stage=page.stage(subjects, "The same subject: what is not in the slider."),
        cards=_cards(found),
        summary=page.prose(main_figures(found)),
        findings=page.findings(
            [f"{flag.name}: {flag.sentence}." for flag in found.flags], "No fault was flagged.", notes
        ),
        subjects=_gallery(subjects, found.examples),
        statement=page.prose(_statement(found)),
        charts=charts(found),
        groups=_groups(found),
        tables="".join(_section(section) for section in sections(found)),
        settings=page.settings("Inputs and settings", {"inputs": dict(inputs or {}), "settings": found.settings}),
    )
    return page.document(f"topcoat evaluation: {about or found.features.net}", body, slider=bool(subjects))


def headline(found: Evaluation) -> str:
    """The result in one line."""
    gap = found.gap_closed
    if gap is not None and gap.value is not None:
        return f"{percent(gap.value)} of the gap to the baseline closed"
    if gap is not None:
        return "No measurable gap to close"
    before = "" if found.distilled is None else f" instead of {found.distilled.frechet:.3g}"
    return f"Fréchet distance {found.enhanced.frechet:.3g}{before}"


def _shown(found: Evaluation, look_up: LookUp | None) -> list[Shown]:
    if look_up is None:
        return []
    reasons: dict[int, list[str]] = {}
    for example in found.examples:
        reasons.setdefault(example.index, []).append(_reason(example))
    return [("; ".join(texts), look_up(index)) for index, texts in reasons.items()]


def _reason(example: Example) -> str:
    return f"{example.place} by {example.measure} ({example.value:.3f})"


def _subjects(shown: Sequence[Shown]) -> list[page.Subject]:
    pictures = sum(len(looked.images) for _, looked in shown)
    # Those of the first subject are on the stage once more.
    most = _IMAGE_BYTES // (pictures + 3)
    return [
        page.Subject(
            images=[
                (label, page.data_uri(looked.images[name], most_bytes=most))
                for name, label in _NAMES
                if name in looked.images
            ],
            caption=looked.caption,
            title=f"{reason}.",
        )
        for reason, looked in shown
    ]


def _gallery(subjects: Sequence[page.Subject], examples: Sequence[Example]) -> str:
    if not subjects:
        return ""
    measures = " and by ".join(dict.fromkeys(example.measure for example in examples))
    note = f"The best, the median and the worst subjects by {measures}; these figures chose them, nobody picked."
    return f'<h2>Best, median and worst</h2><p class="note">{page.safe(note)}</p>{page.gallery(subjects)}'


def _lead(found: Evaluation) -> str:
    size = f"{found.settings['width_px']}x{found.settings['height_px']} px"
    drag = " Drag the line." if found.examples else ""
    return (
        f"{found.n:,} enhanced images against {found.n_reference:,} of the baseline, {size}, in the feature net "
        f"{found.features.net}.{drag}"
    )


def _statement(found: Evaluation) -> str:
    features = found.features
    return (
        f"N = {found.n:,}. Set distances are those of the feature net {features.net} (weights {features.digest}, "
        f"{features.dimensions} dimensions). Distilled is the do-nothing score; the floor is the baseline against "
        "itself at other seeds."
    )


def _cards(found: Evaluation) -> str:
    before = [] if found.distilled is None else [f"distilled {found.distilled.frechet:.3g}"]
    before += [] if found.floor is None else [f"floor {found.floor.frechet:.3g}"]
    cards = [page.card("Fréchet distance", f"{found.enhanced.frechet:.3g}", before)]
    gap = found.gap_closed
    if gap is not None and gap.value is not None and gap.low is not None and gap.high is not None:
        ends = f"95 % interval {percent(gap.low)} to {percent(gap.high)}"
        cards.insert(0, page.card("Gap", f"{percent(gap.value)} closed", [ends]))
    if found.identity is not None:
        kept = found.identity
        cards.append(page.card("Identity", f"{kept.mean:.3f}", [f"5th percentile {kept.p05:.3f}"]))
    test = found.enhanced.two_sample
    if test is not None:
        own = None if found.floor is None else found.floor.two_sample
        beside = [] if own is None else [f"baseline from itself {percent(own.accuracy)}"]
        cards.append(page.card("Told apart", percent(test.accuracy), ["chance is 50 %", *beside]))
    if found.gates is not None:
        changed = found.gates.weakened + found.gates.distilled
        left = f"{percent(found.gates.distilled)} left distilled"
        cards.append(page.card("Gates", f"{percent(changed)} held back", [left]))
    return "".join(cards)


def _groups(found: Evaluation) -> str:
    groups = found.groups
    drawn = [] if groups is None else group_charts(groups)
    if groups is None or not drawn:
        return ""
    note = f"{groups.statement()} Groups that exceed noise are drawn in another colour."
    first, rest = ("".join(part) for part in (drawn[:_GROUP_CHARTS], drawn[_GROUP_CHARTS:]))
    more = (
        f'<details><summary>Other scores by group</summary><div class="charts">{rest}</div></details>' if rest else ""
    )
    return f'<h2>By group</h2><p class="note">{page.prose(note)}</p><section class="charts">{first}</section>{more}'


def _section(section: Section) -> str:
    lines = "".join(f"<p>{page.prose(line)}</p>" for line in section.lines)
    table = page.table(section.columns, section.rows, "numbers") if section.rows else ""
    return f"<details><summary>{page.safe(section.title)}</summary>{lines}{table}</details>"
